package remove_test

import (
	"errors"
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

// alone moves the test to a new mount namespace, so its mounts end with it. The thread is
// never unlocked, so the runtime does not reuse it.
func alone(t *testing.T) {
	t.Helper()
	testroot.Need(t, "mounts")
	runtime.LockOSThread()
	must(t, unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS))
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree creates a directory with a file, a subdirectory with a file, and links.
func tree(t *testing.T, dir string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "sub", "deep"), 0o755))
	for _, name := range []string{"file", "sub/file", "sub/deep/file"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	must(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
}

// names returns the paths below a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, strings.TrimPrefix(path, dir))
		return err
	}))
	return all
}

func bind(t *testing.T, from, to string) {
	t.Helper()
	must(t, unix.Mount(from, to, "", unix.MS_BIND, ""))
}

func TestAll(t *testing.T) {
	outside, dir := testdir.New(t), filepath.Join(testdir.New(t), "dir")
	tree(t, outside)
	tree(t, dir)
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	must(t, os.Symlink(filepath.Join(outside, "file"), filepath.Join(dir, "sub", "link")))
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	before := names(t, outside)
	must(t, remove.All(dir+"/"))
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s still exists: %v", dir, err)
	}
	if after := names(t, outside); len(after) != len(before) {
		t.Errorf("a link led outside: %q is left of %q", after, before)
	}
}

// TestAllSymlink checks that All removes a symbolic link and not its target.
func TestAllSymlink(t *testing.T) {
	outside, link := testdir.New(t), filepath.Join(testdir.New(t), "link")
	tree(t, outside)
	must(t, os.Symlink(outside, link))
	must(t, remove.All(link))
	if _, err := os.Lstat(link); !errors.Is(err, fs.ErrNotExist) || len(names(t, outside)) != 7 {
		t.Errorf("the link is still there (%v), or its target is not whole: %q", err, names(t, outside))
	}
}

// TestAllStopsAtMounts leaves each kind of mount in a directory. No file may be missing, on
// either side of the mount.
func TestAllStopsAtMounts(t *testing.T) {
	tests := map[string]struct {
		// leave mounts outside in dir and returns the mount points.
		leave func(t *testing.T, dir, outside string) []string
	}{
		"a bind of the same file system": {func(t *testing.T, dir, outside string) []string {
			bind(t, outside, dir+"/sub")
			return []string{dir + "/sub"}
		}},
		"a tmpfs": {func(t *testing.T, dir, _ string) []string {
			must(t, unix.Mount("none", dir+"/sub/deep", "tmpfs", 0, ""))
			must(t, os.WriteFile(dir+"/sub/deep/kept", nil, 0o600))
			return []string{dir + "/sub/deep"}
		}},
		"a bound file": {func(t *testing.T, dir, outside string) []string {
			bind(t, outside+"/file", dir+"/sub/file")
			return []string{dir + "/sub/file"}
		}},
		"a mount hidden below another one": {func(t *testing.T, dir, outside string) []string {
			bind(t, outside, dir+"/sub/deep")
			must(t, unix.Mount("none", dir+"/sub", "tmpfs", 0, ""))
			return []string{dir + "/sub/deep", dir + "/sub"}
		}},
		"a mount in a mount": {func(t *testing.T, dir, outside string) []string {
			must(t, unix.Mount("none", dir+"/sub", "tmpfs", 0, ""))
			must(t, os.Mkdir(dir+"/sub/dev", 0o755))
			bind(t, outside, dir+"/sub/dev")
			return []string{dir + "/sub", dir + "/sub/dev"}
		}},
		"a mount on the directory itself": {func(t *testing.T, dir, outside string) []string {
			bind(t, outside, dir)
			return []string{dir}
		}},
		"a name with a space": {func(t *testing.T, dir, outside string) []string {
			must(t, os.Mkdir(dir+"/a b", 0o755))
			bind(t, outside, dir+"/a b")
			return []string{dir + "/a b"}
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			alone(t)
			outside, dir := testdir.New(t), filepath.Join(testdir.New(t), "dir")
			tree(t, outside)
			tree(t, dir)
			mounts := test.leave(t, dir, outside)
			before := [2][]string{names(t, outside), names(t, dir)}
			err := remove.All(dir)
			if !errors.Is(err, remove.ErrMounted) {
				t.Errorf("removed across a mount: %v", err)
			}
			for _, m := range mounts {
				if err == nil || !strings.Contains(err.Error(), m+" is a mount point") {
					t.Errorf("the error does not name %s: %v", m, err)
				}
			}
			after := [2][]string{names(t, outside), names(t, dir)}
			if strings.Join(after[0], "\n") != strings.Join(before[0], "\n") || strings.Join(after[1], "\n") != strings.Join(before[1], "\n") {
				t.Errorf("something was removed:\n%q\nis left of\n%q", after, before)
			}
			for _, m := range mounts {
				_ = unix.Unmount(m, unix.MNT_DETACH) // a hidden one becomes visible by the other's end
			}
			for _, m := range mounts {
				_ = unix.Unmount(m, unix.MNT_DETACH)
			}
			must(t, remove.All(dir))
		})
	}
}

// TestEntryStopsAtMounts checks that the kernel refuses mounts that appear after the mount
// table was read.
func TestEntryStopsAtMounts(t *testing.T) {
	alone(t)
	outside, dir := testdir.New(t), testdir.New(t)
	tree(t, outside)
	tree(t, dir)
	bind(t, outside, dir+"/sub")
	parent, err := os.Open(filepath.Dir(dir))
	must(t, err)
	defer parent.Close()
	if err := remove.Entry(parent, "d", dir); !errors.Is(err, remove.ErrMounted) || !strings.Contains(err.Error(), dir+"/sub") {
		t.Errorf("removed across a mount: %v", err)
	}
	if left := names(t, outside); len(left) != 7 {
		t.Errorf("outside holds only %q", left)
	}
	if _, err := os.Lstat(dir + "/file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a mount kept its siblings from being removed: %v", err)
	}
	must(t, unix.Unmount(dir+"/sub", 0))
}

func TestAllRefuses(t *testing.T) {
	for _, path := range []string{"", ".", "..", "/", "a/..", "../.."} {
		if err := remove.All(path); err == nil {
			t.Errorf("%q was taken for a directory entry", path)
		}
	}
	if err := remove.All(filepath.Join(testdir.New(t), "none", "at all")); err != nil {
		t.Errorf("what does not exist cannot be removed: %v", err)
	}
}
