//go:build linux

package volume_test

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/volume"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// written creates a file of this size with data in several places and at its end.
func written(t testing.TB, file string, size int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(size))
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		chunk := make([]byte, 1+random.IntN(20000))
		for i := range chunk {
			chunk[i] = byte(random.Uint32())
		}
		_, err := f.WriteAt(chunk, random.Int64N(size-int64(len(chunk))))
		must(t, err)
	}
	_, err = f.WriteAt([]byte("end"), size-3)
	must(t, err)
}

// equal fails unless got has the content of want followed by zeros.
func equal(t testing.TB, want, got string) {
	t.Helper()
	a, err := os.ReadFile(want)
	must(t, err)
	b, err := os.ReadFile(got)
	must(t, err)
	if len(b) < len(a) || !bytes.Equal(a, b[:len(a)]) || len(bytes.Trim(b[len(a):], "\x00")) > 0 {
		t.Errorf("%s has other bytes than %s", got, want)
	}
}

func TestDataOfVolumesAndSnapshots(t *testing.T) {
	for name, away := range map[string]string{"one file system": testdir.New(t), "across file systems": testdir.NewIn(t, "/dev/shm")} {
		t.Run(name, func(t *testing.T) {
			dir := testdir.New(t)
			s := open(t, dir, volume.Xen)
			file := func(sub, id string) string { return filepath.Join(dir, sub, id+".raw") }
			must(t, s.CreateVolume("vol-1", 100*mib+512, ""))
			written(t, file("volumes", "vol-1"), 100*mib+512)
			must(t, s.CreateSnapshot("snap-1", "vol-1"))
			must(t, s.CopySnapshot("snap-2", "snap-1"))
			must(t, s.DeleteSnapshot("snap-1"))
			must(t, s.ExportSnapshot("snap-2", filepath.Join(away, "disk.raw"), 150*mib))
			must(t, s.ImportSnapshot("snap-3", filepath.Join(away, "disk.raw")))
			must(t, s.CreateVolume("vol-2", 2*gib, "snap-3"))
			equal(t, file("volumes", "vol-1"), file("snapshots", "snap-2"))
			equal(t, file("volumes", "vol-1"), filepath.Join(away, "disk.raw"))
			for f, size := range map[string]int64{
				file("snapshots", "snap-2"):     100*mib + 512,
				filepath.Join(away, "disk.raw"): 150 * mib,
				file("snapshots", "snap-3"):     gib,
				file("volumes", "vol-2"):        2 * gib,
			} {
				info, err := os.Stat(f)
				must(t, err)
				if info.Size() != size || allocated(t, f) > 3*mib {
					t.Errorf("%s has %d bytes, %d of them allocated; want %d, sparse", f, info.Size(), allocated(t, f), size)
				}
			}
			must(t, s.ExportSnapshot("snap-2", filepath.Join(away, "disk.raw"), 0)) // again
			must(t, s.DeleteVolume("vol-1"))
			must(t, s.DeleteVolume("vol-1")) // is gone
			must(t, s.DeleteSnapshot("snap-1"))
			expectFiles(t, dir, "snapshots/snap-2.raw", "snapshots/snap-3.raw", "volumes/vol-2.raw")
		})
	}
}

// expectFiles fails unless the store has exactly these files.
func expectFiles(t testing.TB, dir string, want ...string) {
	t.Helper()
	var got []string
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			got = append(got, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}))
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the store has %v; want %v", got, want)
	}
}

func TestInvalidRequests(t *testing.T) {
	dir := testdir.New(t)
	s := open(t, dir, volume.Xen)
	must(t, s.CreateVolume("vol-1", gib, ""))
	must(t, s.CreateSnapshot("snap-1", "vol-1"))
	odd := filepath.Join(testdir.New(t), "odd")
	must(t, os.WriteFile(odd, make([]byte, 1000), 0o600))
	tests := []struct {
		name   string
		err    error
		target error
		says   string
	}{
		{"no size", s.CreateVolume("vol-2", 0, ""), nil, "0 bytes"},
		{"exists", s.CreateVolume("vol-1", gib, ""), fs.ErrExist, "vol-1"},
		{"snapshot exists", s.CreateSnapshot("snap-1", "vol-1"), fs.ErrExist, "snap-1"},
		{"smaller than its snapshot", s.CreateVolume("vol-2", mib, "snap-1"), nil, "more than 1048576"},
		{"no snapshot", s.CreateVolume("vol-2", gib, "snap-9"), fs.ErrNotExist, "snap-9"},
		{"no volume", s.CreateSnapshot("snap-2", "vol-9"), fs.ErrNotExist, "vol-9"},
		{"no snapshot to copy", s.CopySnapshot("snap-2", "snap-9"), fs.ErrNotExist, "snap-9"},
		{"no snapshot to export", s.ExportSnapshot("snap-9", odd, 0), fs.ErrNotExist, "snap-9"},
		{"export to a smaller disk", s.ExportSnapshot("snap-1", odd, mib), nil, "more than 1048576"},
		{"export over a device", s.ExportSnapshot("snap-1", "/dev/null", 0), nil, "not a regular file"},
		{"no file to import", s.ImportSnapshot("snap-2", odd+"9"), fs.ErrNotExist, odd + "9"},
		{"not a disk", s.ImportSnapshot("snap-2", odd), nil, "1000 bytes"},
		{"id of elsewhere", s.CreateVolume("../vol-2", gib, ""), nil, "is not a valid ID"},
		{"deleting elsewhere", s.DeleteVolume("../snapshots/snap-1"), nil, "is not a valid ID"},
		{"deleting a snapshot elsewhere", s.DeleteSnapshot("../volumes/vol-1"), nil, "is not a valid ID"},
		{"no id", s.CopySnapshot("", "snap-1"), nil, "is not a valid ID"},
		{"not an id to resize", s.ResizeVolume(".", gib), nil, "is not a valid ID"},
		{"not an id to detach", s.DetachVolume("a/b", true), nil, "is not a valid ID"},
		{"not an id to import", s.ImportSnapshot("a/b", odd), nil, "is not a valid ID"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { wantError(t, tt.err, tt.target, tt.says) })
	}
	expectFiles(t, dir, "snapshots/snap-1.raw", "volumes/vol-1.raw")
}

func TestOpenInvalidDirectory(t *testing.T) {
	file := filepath.Join(testdir.New(t), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if _, err := volume.Open(filepath.Join(file, "dir"), volume.Xen, volume.Options{}); err == nil {
		t.Error("a directory below a file was opened")
	}
}

// TestSnapshotHasWhatWasFlushed follows the steps of a build: partition, file system, content,
// unmount, snapshot of the attached volume, a larger volume of that.
func TestSnapshotHasWhatWasFlushed(t *testing.T) {
	s, device := attached(t, volume.Xen, "/dev/sdra")
	run(t, ",", "sfdisk", "--quiet", device)
	expectNames(t, device, " 1")
	run(t, "", "mkfs.ext4", "-q", device+"1")
	dir, unmount := mount(t, device+"1")
	content := bytes.Repeat([]byte("what was written "), 1<<16)
	must(t, os.WriteFile(filepath.Join(dir, "file"), content, 0o600))
	unmount()
	must(t, s.CreateSnapshot("snap-1", "vol-1"))
	run(t, "", "dd", "if=/dev/zero", "of="+device, "bs=1M", "count=64", "status=none") // later
	must(t, s.CreateVolume("vol-2", 3*gib, "snap-1"))
	again := attach(t, s, "vol-2", "/dev/sdrb")
	run(t, "", "e2fsck", "-f", "-n", again+"1")
	dir, _ = mount(t, again+"1")
	got, err := os.ReadFile(filepath.Join(dir, "file"))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("the snapshot has other bytes: %v", err)
	}
}

// TestSnapshotHasWhatThePartitionCaches checks that a snapshot alone syncs data that was
// written to a partition that stays open.
func TestSnapshotHasWhatThePartitionCaches(t *testing.T) {
	s, device := attached(t, volume.Xen, "/dev/sdrc")
	run(t, "start=1MiB\n", "sfdisk", "--quiet", device)
	expectNames(t, device, " 1")
	part, err := os.OpenFile(device+"1", os.O_WRONLY, 0)
	must(t, err)
	defer part.Close()
	_, err = part.WriteString("in the cache")
	must(t, err)
	must(t, s.CreateSnapshot("snap-1", "vol-1"))
	out := filepath.Join(testdir.New(t), "disk.raw")
	must(t, s.ExportSnapshot("snap-1", out, 0))
	f, err := os.Open(out)
	must(t, err)
	defer f.Close()
	got := make([]byte, 12)
	if _, err := f.ReadAt(got, mib); err != nil || string(got) != "in the cache" {
		t.Errorf("the snapshot has %q, %v", got, err)
	}
}

func TestSnapshotCostsWhatWasWritten(t *testing.T) {
	testroot.Need(t, "real block devices")
	dir := testdir.New(t)
	s := open(t, dir, volume.Xen)
	must(t, s.CreateVolume("vol-1", 8*gib, ""))
	device := attach(t, s, "vol-1", "/dev/sdrd")
	run(t, ",", "sfdisk", "--quiet", device)
	expectNames(t, device, " 1")
	run(t, "", "mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", device+"1")
	mnt, unmount := mount(t, device+"1")
	content := make([]byte, 20*mib)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	must(t, os.WriteFile(filepath.Join(mnt, "file"), content, 0o600))
	unmount()
	must(t, s.CreateSnapshot("snap-1", "vol-1"))
	got, err := s.SnapshotBytes("snap-1")
	must(t, err)
	if got != allocated(t, filepath.Join(dir, "snapshots/snap-1.raw")) || got < 20*mib || got > 32*mib {
		t.Errorf("the snapshot takes %d MiB for 20 MiB", got/mib)
	}
	_, err = s.SnapshotBytes("snap-2")
	wantError(t, err, fs.ErrNotExist, "snap-2")
}

// TestSnapshotSharesBlocks has the store on a file system that can clone.
func TestSnapshotSharesBlocks(t *testing.T) {
	testroot.Need(t, "real block devices")
	image := filepath.Join(testdir.New(t), "xfs.raw")
	run(t, "", "truncate", "-s", "1G", image)
	run(t, "", "mkfs.xfs", "-q", "-m", "reflink=1", image)
	dir := testdir.New(t)
	run(t, "", "mount", "-o", "loop", image, dir)
	t.Cleanup(func() { run(t, "", "umount", dir) })
	s := open(t, dir, volume.Xen)
	must(t, s.CreateVolume("vol-1", 8*gib, ""))
	device := attach(t, s, "vol-1", "/dev/sdre")
	content := make([]byte, 300*mib)
	content[0] = 1
	must(t, os.WriteFile(device, content, 0))
	for _, id := range []string{"snap-1", "snap-2", "snap-3", "snap-4"} { // more data than there is space
		must(t, s.CreateSnapshot(id, "vol-1"))
	}
	must(t, s.CreateVolume("vol-2", 9*gib, "snap-4"))
	expectFiles(t, dir, "snapshots/snap-1.raw", "snapshots/snap-2.raw", "snapshots/snap-3.raw", "snapshots/snap-4.raw",
		"volumes/vol-1.raw", "volumes/vol-2.raw")
	info, err := os.Stat(filepath.Join(dir, "volumes/vol-2.raw"))
	must(t, err)
	if info.Size() != 9*gib || allocated(t, filepath.Join(dir, "volumes/vol-2.raw")) < 300*mib {
		t.Errorf("the new volume has %d bytes, %d allocated", info.Size(), allocated(t, filepath.Join(dir, "volumes/vol-2.raw")))
	}
}

// BenchmarkSnapshot creates a snapshot of an 8 GiB volume with 200 MB of data.
func BenchmarkSnapshot(b *testing.B) {
	dir := testdir.New(b)
	s := open(b, dir, volume.Xen)
	must(b, s.CreateVolume("vol-1", 8*gib, ""))
	f, err := os.OpenFile(filepath.Join(dir, "volumes/vol-1.raw"), os.O_WRONLY, 0)
	must(b, err)
	defer f.Close()
	for i := range int64(200) {
		_, err := f.WriteAt(bytes.Repeat([]byte{byte(i)}, 1e6), i*16*mib)
		must(b, err)
	}
	must(b, f.Sync())
	for b.Loop() {
		must(b, s.CreateSnapshot("snap-1", "vol-1"))
		b.StopTimer()
		must(b, s.DeleteSnapshot("snap-1"))
		b.StartTimer()
	}
}

// BenchmarkAttach attaches and detaches a volume with one partition.
func BenchmarkAttach(b *testing.B) {
	testroot.Need(b, "real block devices")
	dir := testdir.New(b)
	s := open(b, dir, volume.Xen)
	must(b, s.CreateVolume("vol-1", gib, ""))
	run(b, ",", "sfdisk", "--quiet", filepath.Join(dir, "volumes/vol-1.raw"))
	for b.Loop() {
		attach(b, s, "vol-1", "/dev/sdrf")
		must(b, s.DetachVolume("vol-1", false))
	}
}
