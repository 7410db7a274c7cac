package chroot_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// modeOf returns the permissions and the owner of a file.
func modeOf(t *testing.T, path string) (mode uint32, uid, gid uint32) {
	t.Helper()
	st := stat(t, path)
	return st.Mode & 0o7777, st.Uid, st.Gid
}

func TestUploadOntoDirectory(t *testing.T) {
	m := tiny(t, nil)
	link(t, "/etc", m.Path()+"/configs")
	for dst, want := range map[string]string{"/etc": "/etc/app.conf", "/configs": "/etc/app.conf", "/tmp/": "/tmp/app.conf"} {
		err := m.Upload(t.Context(), dst, strings.NewReader(dst), chroot.NewFile{Name: "app.conf", Mode: 0o640})
		if err != nil || read(t, m.Path()+want) != dst {
			t.Errorf("upload to %s: %v, and %s holds %q", dst, err, want, read(t, m.Path()+want))
		}
	}
	err := m.Upload(t.Context(), "/etc", strings.NewReader("x"), chroot.NewFile{Mode: 0o640})
	says(t, err, "/etc", "a directory")
	for _, name := range []string{"..", "a/b", "."} {
		if err := m.Upload(t.Context(), "/etc", strings.NewReader("x"), chroot.NewFile{Name: name, Mode: 0o640}); err == nil {
			t.Errorf("a file of the name %q was uploaded", name)
		}
	}
}

func TestUploadKeepsModeAndOwner(t *testing.T) {
	m := tiny(t, nil)
	src := testdir.New(t)
	write(t, src+"/secret", "new", 0o666)
	write(t, src+"/fresh", "new", 0o751)
	for _, name := range []string{"/etc/alone", "/etc/secret"} {
		write(t, m.Path()+name, "old", 0o600)
		if err := os.Chown(m.Path()+name, 12, 34); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(m.Path()+name, 0o600|os.ModeSetgid); err != nil {
			t.Fatal(err)
		}
	}
	write(t, m.Path()+"/etc/suid", "old", 0o755)
	if err := os.Chmod(m.Path()+"/etc/suid", 0o755|os.ModeSetuid|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	if err := upload(t, m, "/etc/suid", "new", 0o644); err != nil {
		t.Fatal(err)
	}
	if mode, _, _ := modeOf(t, m.Path()+"/etc/suid"); mode != 0o6755 {
		t.Errorf("a set-uid file has the mode %o", mode)
	}
	write(t, m.Path()+"/etc/shorter", "a longer content", 0o755)
	if err := errors.Join(upload(t, m, "/etc/alone", "new", 0o666), upload(t, m, "/etc/shorter", "short", 0o600)); err != nil {
		t.Fatal(err)
	}
	if mode, _, _ := modeOf(t, m.Path()+"/etc/shorter"); mode != 0o755 || read(t, m.Path()+"/etc/shorter") != "short" {
		t.Errorf("a longer file holds %q and has the mode %o", read(t, m.Path()+"/etc/shorter"), mode)
	}
	if err := m.UploadDir(t.Context(), "/etc", src+"/", nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/etc/alone", "/etc/secret"} {
		if mode, uid, gid := modeOf(t, m.Path()+name); mode != 0o2600 || uid != 12 || gid != 34 || read(t, m.Path()+name) != "new" {
			t.Errorf("%s is %q, mode %o, of %d:%d", name, read(t, m.Path()+name), mode, uid, gid)
		}
	}
	if mode, _, _ := modeOf(t, m.Path()+"/etc/fresh"); mode != 0o751 {
		t.Errorf("a new file has the mode %o", mode)
	}
}

// TestDownloadKeepsMode does the same for a directory that is downloaded.
func TestDownloadKeepsMode(t *testing.T) {
	m := tiny(t, nil)
	write(t, m.Path()+"/srv/key", "new", 0o644)
	dst := testdir.New(t)
	write(t, dst+"/key", "old", 0o600)
	if err := m.DownloadDir(t.Context(), "/srv/", dst, nil); err != nil {
		t.Fatal(err)
	}
	if mode, _, _ := modeOf(t, dst+"/key"); mode != 0o600 || read(t, dst+"/key") != "new" {
		t.Errorf("it holds %q and has the mode %o", read(t, dst+"/key"), mode)
	}
}

func TestFailedUploadLeavesNoFile(t *testing.T) {
	m := tiny(t, nil)
	broken := errors.New("broken")
	err := m.Upload(t.Context(), "/new/dir/file", iotest.ErrReader(broken), chroot.NewFile{Mode: 0o644})
	if !errors.Is(err, broken) || exists(m.Path()+"/new/dir/file") {
		t.Errorf("%v, and the file is there: %v", err, exists(m.Path()+"/new/dir/file"))
	}
}

// TestFailedDownloadLeavesNoFile fills the file system of the destination.
func TestFailedDownloadLeavesNoFile(t *testing.T) {
	m := tiny(t, nil)
	write(t, m.Path()+"/srv/a", strings.Repeat("x", 1<<20), 0o644)
	dst := stage(t) + "/full"
	if err := os.Mkdir(dst, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dst, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dst, 0) })
	if err := m.DownloadDir(t.Context(), "/srv/", dst, nil); !errors.Is(err, unix.ENOSPC) || exists(dst+"/a") {
		t.Errorf("%v, and the file is there: %v", err, exists(dst+"/a"))
	}
}

// TestRemoveUploadsThatMoved checks that a file that a provisioner has moved out of the
// directories for temporary files stays, even if a link takes its place.
func TestRemoveUploadsThatMoved(t *testing.T) {
	m := tiny(t, nil)
	for _, path := range []string{"/tmp/moved/file", "/tmp/stays/file", "/tmp/renamed/file", "/tmp/gone/file", "/tmp/loop/file"} {
		if err := upload(t, m, path, "content", 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sh(t, m, `mkdir -p /opt && mv /tmp/moved /opt/moved && ln -s /opt/moved /tmp/moved &&
		mv /tmp/renamed /tmp/elsewhere && ln -s elsewhere /tmp/renamed &&
		rm -r /tmp/gone /tmp/loop && ln -s nowhere /tmp/gone && ln -s loop /tmp/loop`)
	if err := m.RemoveUploads(t.Context()); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"/opt/moved/file": true, "/tmp/stays": false, "/tmp/elsewhere/file": false,
		"/tmp/moved": true, "/tmp/renamed": true, "/tmp/gone": true, "/tmp/loop": true,
	} {
		if _, err := os.Lstat(m.Path() + path); (err == nil) != want {
			t.Errorf("%s is there: %v", path, err == nil)
		}
	}
}

// TestRemoveUploadsThroughLink checks that uploads are removed if /var/tmp of an image is a
// link to /tmp.
func TestRemoveUploadsThroughLink(t *testing.T) {
	m := tiny(t, nil)
	sh(t, m, "rm -rf /var/tmp && mkdir -p /var && ln -s /tmp /var/tmp")
	if err := upload(t, m, "/var/tmp/script", "content", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.RemoveUploads(t.Context()); err != nil || exists(m.Path()+"/tmp/script") {
		t.Errorf("%v, and the script is there: %v", err, exists(m.Path()+"/tmp/script"))
	}
}
