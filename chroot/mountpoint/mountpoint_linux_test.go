package mountpoint_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/mountpoint"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// mounted returns a directory with a mounted file system.
func mounted(t *testing.T) string {
	t.Helper()
	testroot.Need(t, "mounting")
	dir := testdir.New(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// check fails the test unless an error contains a text, or is nil if the text is empty.
func check(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("the error is %v, want %q", err, want)
	}
}

func TestCheck(t *testing.T) {
	top := testdir.New(t)
	if err := os.WriteFile(top+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		top:                "",
		top + "/missing":   "",
		top + "/file":      "not a directory",
		"mnt":              "not an absolute path",
		"":                 "not an absolute path",
		"/":                "not an absolute path",
		"/mnt/..":          "not an absolute path",
		"/usr":             "directory of the host's system",
		"/usr/../etc/":     "directory of the host's system",
		top + "/file/root": "not a directory",
	} {
		t.Run(path, func(t *testing.T) { check(t, mountpoint.Check(path), want) })
	}
}

func TestCheckMounted(t *testing.T) {
	dir := mounted(t)
	check(t, mountpoint.Check(dir), dir+" is in use: something is mounted on it")
	check(t, mountpoint.Check(dir+"/below"), "")
}

// TestLock locks a directory twice, the second time by a link to it.
func TestLock(t *testing.T) {
	top := testdir.New(t)
	dir, link := filepath.Join(top, "root"), filepath.Join(top, "link")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	first, err := mountpoint.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, link} {
		_, err := mountpoint.Lock(path)
		check(t, err, path+" is in use: another build is about to mount on it")
	}
	first.Close()
	again, err := mountpoint.Lock(link)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Name() != dir {
		t.Errorf("the lock's name is %s, want %s", again.Name(), dir)
	}
}

func TestLockFails(t *testing.T) {
	top := testdir.New(t)
	if err := os.WriteFile(top+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		top + "/missing": "no such file",
		top + "/file":    "not a directory",
	} {
		_, err := mountpoint.Lock(path)
		check(t, err, want)
	}
	dir := mounted(t)
	_, err := mountpoint.Lock(dir)
	check(t, err, dir+" is in use: something is mounted on it")
}

func TestFirstEntry(t *testing.T) {
	top := testdir.New(t)
	for _, path := range []string{top, top + "/missing"} {
		if got := mountpoint.FirstEntry(path); got != "" {
			t.Errorf("%s contains %q", path, got)
		}
	}
	if err := os.WriteFile(top+"/.hidden", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := mountpoint.FirstEntry(top); got != ".hidden" {
		t.Errorf("the first entry is %q", got)
	}
}

func TestCheckParents(t *testing.T) {
	for mode, want := range map[os.FileMode]string{
		0o755: "",
		0o777: "mount on a path that only root, or the user who builds, can change",
		// Only the owner of an entry can rename it.
		0o777 | os.ModeSticky: "",
	} {
		t.Run(mode.String(), func(t *testing.T) {
			parent := filepath.Join(testdir.New(t), "parent")
			if err := os.MkdirAll(parent+"/root", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(parent, mode); err != nil {
				t.Fatal(err)
			}
			check(t, mountpoint.CheckParents(parent+"/root"), want)
		})
	}
}
