package chroot_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return st
}

// upAndDown copies a directory into a root and out again, and returns the paths of the copies.
func upAndDown(t *testing.T, m *chroot.MountedRoot, src string) []string {
	t.Helper()
	if err := m.UploadDir(t.Context(), "/up", src+"/", nil); err != nil {
		t.Fatal(err)
	}
	down := testdir.New(t)
	if err := m.DownloadDir(t.Context(), "/up/", down, nil); err != nil {
		t.Fatal(err)
	}
	return []string{m.Path() + "/up", down}
}

func TestCopiesKeepTimes(t *testing.T) {
	src := testdir.New(t)
	sample(t, src)
	then := time.Unix(981173106, 123456789)
	paths := []string{"a file", "sub/.hidden", "sub/deep", "sub", "empty", "link", "dangling"}
	for _, path := range paths {
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(src, path), []unix.Timespec{{Sec: 1}, unix.NsecToTimespec(then.UnixNano())}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range upAndDown(t, tiny(t, nil), src) {
		for _, path := range paths {
			if st := stat(t, filepath.Join(dir, path)); st.Mtim.Nano() != then.UnixNano() {
				t.Errorf("%s was changed at %v, want %v", path, time.Unix(st.Mtim.Unix()), then)
			}
		}
	}
}

func TestCopiesKeepHoles(t *testing.T) {
	const size = 40 << 20
	src := testdir.New(t)
	for name, data := range map[string][]int64{"all hole": nil, "data first": {0}, "data in the middle": {8 << 20, 24 << 20}, "data last": {size - 8192}} {
		f, err := os.Create(filepath.Join(src, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range data {
			if _, err := f.WriteAt(bytes.Repeat([]byte("x"), 8192), at); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ext4 := mount(t, start(t, nil), chroot.MountSpec{Device: loop(t, disk(t, 64, "mkfs.ext4", "-q")), Path: filepath.Join(stage(t), "root")})
	for _, m := range []*chroot.MountedRoot{tiny(t, nil), ext4} {
		for _, dir := range upAndDown(t, m, src) {
			for name := range listing(t, src) {
				st := stat(t, filepath.Join(dir, name))
				if st.Size != size || st.Blocks*512 > 1<<20 {
					t.Errorf("%s has %d bytes in %d blocks", name, st.Size, st.Blocks)
				}
				if read(t, filepath.Join(dir, name)) != read(t, filepath.Join(src, name)) {
					t.Errorf("%s has another content", name)
				}
			}
		}
	}
}

func TestCopiesKeepHardLinks(t *testing.T) {
	src := testdir.New(t)
	write(t, src+"/one", "shared", 0o644)
	write(t, src+"/alone", "alone", 0o644)
	for _, name := range []string{"/two", "/sub/three"} {
		if err := os.MkdirAll(filepath.Dir(src+name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(src+"/one", src+name); err != nil {
			t.Fatal(err)
		}
	}
	m := tiny(t, nil)
	for range 2 { // the second time the names are there
		for _, dir := range upAndDown(t, m, src) {
			one := stat(t, dir+"/one")
			for _, name := range []string{"/two", "/sub/three"} {
				if st := stat(t, dir+name); st.Ino != one.Ino || st.Nlink != 3 || read(t, dir+name) != "shared" {
					t.Errorf("%s: inode %d with %d names, want %d with 3", dir+name, st.Ino, st.Nlink, one.Ino)
				}
			}
			if st := stat(t, dir+"/alone"); st.Nlink != 1 {
				t.Errorf("alone has %d names", st.Nlink)
			}
		}
	}
}

// TestLargeFiles tests sizes on both sides of every limit at which the method of copying
// changes.
func TestLargeFiles(t *testing.T) {
	m := tiny(t, nil)
	src := testdir.New(t)
	for _, size := range []int{0, 1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 17 << 20} {
		content := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		write(t, src+"/file", content, 0o600)
		for _, dir := range upAndDown(t, m, src) {
			if read(t, dir+"/file") != content {
				t.Errorf("%d bytes arrived as %d others", size, len(read(t, dir+"/file")))
			}
		}
		f, err := os.Open(src + "/file")
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Upload(t.Context(), "/tmp/stream", f, chroot.NewFile{Mode: 0o644}); err != nil || read(t, m.Path()+"/tmp/stream") != content {
			t.Errorf("an open file of %d bytes: %v", size, err)
		}
		f.Close()
		out, err := os.Create(src + "/out")
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Download(t.Context(), "/tmp/stream", out); err != nil || read(t, src+"/out") != content {
			t.Errorf("into an open file of %d bytes: %v", size, err)
		}
		out.Close()
	}
}

// TestUploadGoesOnWhereAFileIsRead has a reader that has been read from.
func TestUploadGoesOnWhereAFileIsRead(t *testing.T) {
	m := tiny(t, nil)
	path := testdir.New(t) + "/file"
	write(t, path, "head, tail", 0o644)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(6, 0); err != nil {
		t.Fatal(err)
	}
	if err := m.Upload(t.Context(), "/tmp/x", f, chroot.NewFile{Mode: 0o644}); err != nil || read(t, m.Path()+"/tmp/x") != "tail" {
		t.Errorf("uploaded %q, %v", read(t, m.Path()+"/tmp/x"), err)
	}
}

// TestFilesOfUnknownSize downloads files of /proc and /sys.
func TestFilesOfUnknownSize(t *testing.T) {
	m := tiny(t, nil)
	for kind, target := range map[string]string{"proc": "/proc", "sysfs": "/sys"} {
		if err := m.MountBelow(t.Context(), chroot.Submount{Type: kind, Source: kind, Target: target}); err != nil {
			t.Fatal(err)
		}
	}
	dst := testdir.New(t)
	for _, dir := range []string{"/proc/sys/kernel/", "/sys/kernel/mm/transparent_hugepage/"} {
		_ = m.DownloadDir(t.Context(), dir, dst, []string{"usermodehelper", "ns_last_pid", "*_huge_pages"}) // some are write-only
	}
	if err := m.DownloadDir(t.Context(), "/proc/sys/kernel/ostyp*", dst, nil); err != nil || read(t, dst+"/ostype") != "Linux\n" {
		t.Errorf("downloaded %v", err)
	}
	if err := m.DownloadDir(t.Context(), "/sys/kernel/uevent_seqnu*", dst, nil); err != nil || strings.Trim(read(t, dst+"/uevent_seqnum"), "0123456789") != "\n" {
		t.Errorf("downloaded %q, %v", read(t, dst+"/uevent_seqnum"), err)
	}
}

func TestCopyIntoItself(t *testing.T) {
	m := tiny(t, nil)
	dir := filepath.Dir(m.Path())
	says(t, m.UploadDir(t.Context(), "/inner", dir, nil), "/inner", "into itself")
	says(t, m.DownloadDir(t.Context(), "/", m.Path()+"/below", nil), "/below", "into itself")
}

func TestManyFilesInOneDirectory(t *testing.T) {
	src := testdir.New(t)
	for i := range 2500 {
		write(t, filepath.Join(src, "f"+strings.Repeat("x", i%50)+string(rune('a'+i/50%26))+string(rune('a'+i/1300))), "", 0o644)
	}
	want := len(listing(t, src))
	for _, dir := range upAndDown(t, tiny(t, nil), src) {
		if got := len(listing(t, dir)); got != want {
			t.Errorf("%s holds %d files, want %d", dir, got, want)
		}
	}
}

// TestUploadKeepsTheFileItself writes over a file, whose owner and other names stay.
func TestUploadKeepsTheFileItself(t *testing.T) {
	m := tiny(t, nil)
	path := m.Path() + "/etc/file"
	write(t, path, "old", 0o600)
	if err := os.Chown(path, 7, 8); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, m.Path()+"/etc/other"); err != nil {
		t.Fatal(err)
	}
	if err := upload(t, m, "/etc/file", "new", 0o644); err != nil {
		t.Fatal(err)
	}
	if st := stat(t, path); st.Uid != 7 || st.Gid != 8 || read(t, m.Path()+"/etc/other") != "new" {
		t.Errorf("it belongs to %d:%d, and by its other name holds %q", st.Uid, st.Gid, read(t, m.Path()+"/etc/other"))
	}
}

// TestRemoveUploads covers the state before, the uploads, the changes to them, and the
// files that stay.
func TestRemoveUploads(t *testing.T) {
	m := tiny(t, nil)
	tmp := m.Path() + "/tmp"
	write(t, tmp+"/of the image", "before", 0o644)
	src := testdir.New(t)
	write(t, src+"/tree/kept by another file/x", "x", 0o644)
	write(t, src+"/tree/y", "y", 0o644)
	for _, path := range []string{
		"/tmp/script.sh", "/tmp/changed", "/tmp/replaced", "/tmp/gone", "/tmp/of the image", "/tmp/new/deep/file",
		"/var/tmp/x", "/tmp/../root/not there", "/root/tmp/elsewhere", "/tmp/twice", "/tmp/twice", "/tmp/mode",
	} {
		if err := upload(t, m, path, "uploaded", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.UploadDir(t.Context(), "/tmp", src+"/tree", nil); err != nil {
		t.Fatal(err)
	}
	sh(t, m, `echo more >> /tmp/changed; printf other1234 > /tmp/r; busybox mv /tmp/r /tmp/replaced; busybox rm /tmp/gone
		echo > "/tmp/tree/kept by another file/mine"; busybox chmod 700 /tmp/mode; echo > /tmp/made`)
	for range 2 {
		if err := m.RemoveUploads(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	for path := range listing(t, tmp) {
		left = append(left, path)
	}
	slices.Sort(left)
	want := []string{"changed", "made", "of the image", "replaced", "tree", "tree/kept by another file", "tree/kept by another file/mine"}
	if !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
	for path, want := range map[string]bool{"/var/tmp/x": false, "/root/not there": true, "/root/tmp/elsewhere": true} {
		if exists(m.Path()+path) != want {
			t.Errorf("%s is there: %t", path, !want)
		}
	}
}

// TestRemoveUploadsStaysInside replaces parts of the path of an upload by links.
func TestRemoveUploadsStaysInside(t *testing.T) {
	m := tiny(t, nil)
	outside := testdir.New(t)
	write(t, outside+"/file", "uploaded", 0o755)
	if err := upload(t, m, "/tmp/dir/file", "uploaded", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := remove.All(m.Path() + "/tmp/dir"); err != nil {
		t.Fatal(err)
	}
	link(t, outside, m.Path()+"/tmp/dir")
	if err := m.RemoveUploads(t.Context()); err != nil || !exists(outside+"/file") || !exists(m.Path()+"/tmp/dir") {
		t.Errorf("something was removed that was not uploaded: %v", err)
	}
}
