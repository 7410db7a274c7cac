package disk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
	"golang.org/x/sys/unix"
)

// run runs a command of the host and returns its output.
func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// free waits until a device has no holder. After umount(8) it may still be mounted in a
// namespace that another process created meanwhile, until that namespace is removed.
func free(t *testing.T, node string) {
	t.Helper()
	for range 100 {
		fd, err := unix.Open(node, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		if !errors.Is(err, unix.EBUSY) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%s is still in use", node)
}

// loopDevice makes a block device of a file.
func loopDevice(t *testing.T, file string) string {
	t.Helper()
	testroot.Need(t, "real block devices")
	device := run(t, "", "losetup", "--find", "--show", file)
	t.Cleanup(func() {
		free(t, disk.PartitionPath(device, 1))
		if err := disk.RemovePartitions(device); err != nil {
			t.Error(err)
		}
		run(t, "", "losetup", "--detach", device)
	})
	return device
}

// table gives a device another table, as sfdisk writes it.
func table(t *testing.T, device, script string) {
	t.Helper()
	run(t, script, "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe=always", device)
}

// partitions are the kernel's of a device, as sfdisk's script has them, in
// sectors.
func partitions(t *testing.T, device string) []string {
	t.Helper()
	name := filepath.Base(device)
	dirs, err := filepath.Glob("/sys/block/" + name + "/" + name + "p*")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range dirs {
		out = append(out, fmt.Sprintf("%s:%s+%s", sysfs(t, d, "partition"), sysfs(t, d, "start"), sysfs(t, d, "size")))
	}
	slices.Sort(out)
	return out
}

func sysfs(t *testing.T, dir, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

func TestSyncPartitions(t *testing.T) {
	device := loopDevice(t, partitioned(t, 64, "label: gpt\n").Name())
	steps := []struct {
		name, script string
		want         []string
	}{
		{
			"added, logical ones too", mbrScript,
			[]string{"1:2048+16384", "2:32768+2", "5:34816+8192", "6:45056+10240", "7:57344+12288"},
		},
		{
			"one shrinks into the room of which another grows",
			"label: dos\nstart=1MiB, size=7MiB\nstart=8MiB, size=20MiB\n",
			[]string{"1:2048+14336", "2:16384+40960"},
		},
		{
			"the border moves", "label: dos\nstart=1MiB, size=4MiB\nstart=5MiB, size=23MiB\n",
			[]string{"1:2048+8192", "2:10240+47104"},
		},
		{"another kind of table", gptScript, []string{"15:32768+65536", "1:2048+20480"}},
		{"none left", "label: dos\n", nil},
	}
	for _, tt := range steps {
		t.Run(tt.name, func(t *testing.T) {
			table(t, device, tt.script)
			for range 2 { // the second call does nothing
				if err := disk.SyncPartitions(device); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, partitions(t, device)); diff != "" {
					t.Errorf("partitions (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestSyncPartitionsInUse(t *testing.T) {
	device := loopDevice(t, partitioned(t, 64, "label: dos\nstart=8MiB, size=16MiB\n").Name())
	if err := disk.SyncPartitions(device); err != nil {
		t.Fatal(err)
	}
	run(t, "", "mkfs.ext4", "-q", device+"p1")
	dir := testdir.New(t)
	run(t, "", "mount", device+"p1", dir)
	t.Cleanup(func() { run(t, "", "umount", dir) })

	// Another beside it: the mounted one stays as it is.
	run(t, "start=32MiB\n", "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--append", device)
	if err := disk.SyncPartitions(device); err != nil {
		t.Fatal(err)
	}
	want := []string{"1:16384+32768", "2:65536+65536"}
	if diff := cmp.Diff(want, partitions(t, device)); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}

	// Moved in the table while it is mounted.
	run(t, "label: dos\nstart=1MiB, size=16MiB\n", "sfdisk", "--quiet", "--force", "--no-reread", "--no-tell-kernel", "--wipe=never", device)
	err := disk.SyncPartitions(device)
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "remove partition 1 of "+device) {
		t.Errorf("got error %v; want one that names partition 1", err)
	}
	if got := partitions(t, device); !slices.Contains(got, want[0]) {
		t.Errorf("the partition in use is gone: %v", got)
	}
}

func TestSyncPartitionsKeepsThoseOfUnreadableTable(t *testing.T) {
	file := partitioned(t, 64, gptScript)
	device := loopDevice(t, file.Name())
	if err := disk.SyncPartitions(device); err != nil {
		t.Fatal(err)
	}
	before := partitions(t, device)
	zero := make([]byte, 512)
	dev, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if err := errors.Join(write(dev, zero, 512), write(dev, zero, 64*mib-512)); err != nil {
		t.Fatal(err)
	}
	if err := disk.SyncPartitions(device); err == nil {
		t.Error("a GPT without a sound header is no error")
	}
	if diff := cmp.Diff(before, partitions(t, device)); diff != "" {
		t.Errorf("partitions (-before +after):\n%s", diff)
	}
}

func TestSyncPartitionsThatOverlap(t *testing.T) {
	file := partitioned(t, 64, "label: dos\nstart=2048, size=2048\nstart=8192, size=2048\n")
	raw := make([]byte, 512)
	if _, err := file.ReadAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	setEntry(raw, 1, 0x83, 3000, 2048)
	if err := write(file, raw, 0); err != nil {
		t.Fatal(err)
	}
	device := loopDevice(t, file.Name())
	err := disk.SyncPartitions(device)
	if err == nil || !strings.Contains(err.Error(), "add partition 2") {
		t.Errorf("got error %v; want one that names partition 2", err)
	}
	if diff := cmp.Diff([]string{"1:2048+2048"}, partitions(t, device)); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
}

func TestSettleTellsTheKernel(t *testing.T) {
	device := loopDevice(t, partitioned(t, 64, "label: gpt\n").Name())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, script := range []string{gptScript, mbrScript} {
		table(t, device, script)
		if err := disk.Settle(ctx, device); err != nil {
			t.Fatal(err)
		}
		got, err := disk.ReadDevice(device)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range got.Partitions {
			if _, err := os.Stat(disk.PartitionPath(device, p.Number)); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestSettleWaitsForNode has a node of another name, whose partitions are created later.
func TestSettleWaitsForNode(t *testing.T) {
	device := loopDevice(t, partitioned(t, 64, gptScript).Name())
	alias := filepath.Join(testdir.New(t), "xvdq")
	mknod(t, alias, device)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := disk.Settle(short, alias)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), alias+"1") {
		t.Errorf("got error %v; want one that names %s1", err, alias)
	}
	done := make(chan error)
	long, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	go func() { done <- disk.Settle(long, alias) }()
	mknod(t, alias+"1", device+"p1")
	mknod(t, alias+"15", device+"p1") // a wrong one, for a while
	time.Sleep(20 * time.Millisecond)
	if err := os.Remove(alias + "15"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Errorf("settled with a wrong node: %v", err)
	default:
	}
	mknod(t, alias+"15", device+"p15")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// mknod makes another node of a device.
func mknod(t *testing.T, path, device string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(st.Rdev)); err != nil {
		t.Fatal(err)
	}
}

func TestWaitNode(t *testing.T) {
	device := loopDevice(t, partitioned(t, 64, gptScript).Name())
	dir := testdir.New(t)
	late := filepath.Join(dir, "by-id", "late")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	type answer struct {
		path string
		err  error
	}
	got := make(chan answer)
	go func() {
		path, err := disk.WaitNode(ctx, filepath.Join(dir, "never"), late)
		got <- answer{path, err}
	}()
	if err := os.Mkdir(filepath.Dir(late), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(device, late); err != nil {
		t.Fatal(err)
	}
	if a := <-got; a.err != nil || a.path != late {
		t.Errorf("got %q, %v; want %s", a.path, a.err, late)
	}
	// Of two that are there, the first.
	if path, err := disk.WaitNode(ctx, late, device); path != late {
		t.Errorf("got %q, %v; want the first candidate", path, err)
	}
}

func TestWaitNodeEnds(t *testing.T) {
	dir := testdir.New(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := disk.WaitNode(ctx, filepath.Join(dir, "none"), file, "/dev/null")
	for _, want := range []string{
		dir + "/none (no such file or directory)", file + " (not a block device)", "/dev/null (not a block device)",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v does not wrap the context's", err)
	}
	if _, err := disk.WaitNode(t.Context()); err == nil {
		t.Error("waiting for nothing is no error")
	}
}

func TestRoot(t *testing.T) {
	device := loopDevice(t, partitioned(t, 64, mbrScript).Name())
	link := filepath.Join(testdir.New(t), "volume-1")
	if err := os.Symlink(device, link); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		table, partition, want, fails string
	}{
		{mbrScript, "1", device + "p1", ""},
		{mbrScript, "", "", "it has no file system"},
		{mbrScript, "0", device, ""},
		{mbrScript, "6", device + "p6", ""},
		{mbrScript, "2", "", "extended"},
		{mbrScript, "3", "", "no partition 3 in its MBR table, which has 1, 2, 5, 6, 7"},
		{mbrScript, "p1", "", `"p1" is no partition number`},
		{mbrScript, "-1", "", `"-1" is no partition number`},
		{"label: dos\nstart=1MiB, size=60MiB, type=5\nstart=2MiB, size=4MiB\n", "5", device + "p5", ""},
		{"label: gpt\n15: size=4MiB\n", "15", device + "p15", ""},
		{"label: gpt\n", "", "", "its GPT table has no partition"},
		{"label: gpt\n", "1", "", "which has none"},
		{"", "", device, ""},
		{"", "0", device, ""},
		{"", "1", "", "no partition table"},
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, tt := range tests {
		t.Run(tt.table+tt.partition, func(t *testing.T) {
			if tt.table == "" {
				run(t, "", "wipefs", "--quiet", "--all", "--force", device)
			} else {
				table(t, device, tt.table)
			}
			if err := disk.Settle(ctx, device); err != nil {
				t.Fatal(err)
			}
			root, err := disk.Root(ctx, link, disk.Choice{Partition: tt.partition})
			if got := root.Device; got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
			if tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("got error %v; want %q in it", err, tt.fails)
			}
		})
	}
}

func TestFlush(t *testing.T) {
	file := partitioned(t, 64, gptScript)
	device := loopDevice(t, file.Name())
	if err := disk.SyncPartitions(device); err != nil {
		t.Fatal(err)
	}
	// The whole disk has read the place before; a partition writes it.
	whole, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	at := make([]byte, 7)
	if _, err := whole.ReadAt(at, 16*mib); err != nil {
		t.Fatal(err)
	}
	part, err := os.OpenFile(device+"p15", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	if _, err := io.WriteString(part, "flushed"); err != nil {
		t.Fatal(err)
	}
	if err := disk.Flush(device); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]io.ReaderAt{"file": file, "whole disk": whole} {
		if _, err := r.ReadAt(at, 16*mib); err != nil || !bytes.Equal(at, []byte("flushed")) {
			t.Errorf("the %s has %q, %v", name, at, err)
		}
	}
}

func TestNotADevice(t *testing.T) {
	file := partitioned(t, 64, gptScript).Name()
	gone := filepath.Join(testdir.New(t), "gone")
	for _, path := range []string{file, gone} {
		_, readErr := disk.ReadDevice(path)
		_, rootErr := disk.Root(t.Context(), path, disk.Choice{})
		for what, err := range map[string]error{
			"ReadDevice":       readErr,
			"Root":             rootErr,
			"SyncPartitions":   disk.SyncPartitions(path),
			"RemovePartitions": disk.RemovePartitions(path),
			"Settle":           disk.Settle(t.Context(), path),
			"Flush":            disk.Flush(path),
		} {
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: got error %v; want one that names %s", what, err, path)
			}
		}
	}
}

// blocks is the size of the file system that is mounted at dir, in bytes.
func blocks(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks) * st.Bsize
}
