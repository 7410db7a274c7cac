package testdir_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// recorder is a testing.TB that records failures. Its end method runs the cleanups.
type recorder struct {
	testing.TB
	failures []string
	cleanups []func()
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) end() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}

func TestNewIsRemoved(t *testing.T) {
	r := &recorder{TB: t}
	dir := testdir.New(r)
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.end()
	if _, err := os.Lstat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) || len(r.failures) > 0 {
		t.Errorf("the directory stays: %v, %q", err, r.failures)
	}
}

// TestNewWithMounts leaves a bind mount of a directory of the host.
func TestNewWithMounts(t *testing.T) {
	testroot.Need(t, "mounts")
	runtime.LockOSThread() // and never unlocked: the mount namespace ends with the thread
	if err := errors.Join(unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
		t.Fatal(err)
	}
	host := testdir.New(t)
	r := &recorder{TB: t}
	dir := testdir.New(r)
	dev := filepath.Join(dir, "dev")
	err := errors.Join(os.WriteFile(filepath.Join(host, "null"), nil, 0o600), os.Mkdir(dev, 0o700), unix.Mount(host, dev, "", unix.MS_BIND, ""))
	if err != nil {
		t.Fatal(err)
	}
	r.end()
	if len(r.failures) != 1 || !strings.Contains(r.failures[0], dev+" is a mount point") {
		t.Errorf("the failures are %q", r.failures)
	}
	if _, err := os.Lstat(filepath.Join(host, "null")); err != nil {
		t.Errorf("the host's directory is not whole: %v", err)
	}
	if err := errors.Join(unix.Unmount(dev, 0), remove.All(filepath.Dir(dir))); err != nil {
		t.Error(err)
	}
}
