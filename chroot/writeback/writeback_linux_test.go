package writeback_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/writeback"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// mount mounts a file system on a directory until the end of the test.
func mount(t *testing.T, source, dir, kind, options string) {
	t.Helper()
	testroot.Need(t, "mounting")
	if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount(source, dir, kind, 0, options)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil && !errors.Is(err, unix.EINVAL) { // a test may have unmounted it
			t.Error(err)
		}
	})
}

func host(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// thin mounts a file system of 32 MiB for which its store has 4 MiB of space.
func thin(t *testing.T, dir string) {
	t.Helper()
	store := filepath.Join(testdir.New(t), "store")
	mount(t, "tmpfs", store, "tmpfs", "size=4m")
	file := store + "/disk"
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 32<<20)); err != nil {
		t.Fatal(err)
	}
	host(t, "mkfs.ext4", "-q", "-O", "^has_journal", file)
	out, err := exec.Command("losetup", "--find", "--show", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	device := string(out[:len(out)-1])
	t.Cleanup(func() { host(t, "losetup", "--detach", device) })
	mount(t, device, dir, "ext4", "")
}

// write writes more than a thin disk has space for.
func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
}

// wasLost reports whether an error is about data that did not reach the disk.
func wasLost(err error) bool { return errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOSPC) }

// TestSync checks that the data of the root and of the disks that are mounted only below it is
// written.
func TestSync(t *testing.T) {
	for name, test := range map[string]struct {
		mount func(t *testing.T, root string) (written string)
		lost  bool
	}{
		"nothing is lost": {func(t *testing.T, root string) string { mount(t, "tmpfs", root, "tmpfs", ""); return root }, false},
		"in the root":     {func(t *testing.T, root string) string { thin(t, root); return root }, true},
		"below the root": {func(t *testing.T, root string) string {
			mount(t, "tmpfs", root, "tmpfs", "")
			thin(t, root+"/boot")
			return root + "/boot"
		}, true},
		"also elsewhere": {func(t *testing.T, root string) string {
			elsewhere := filepath.Join(testdir.New(t), "elsewhere")
			thin(t, elsewhere)
			mount(t, "tmpfs", root, "tmpfs", "")
			if err := os.Mkdir(root+"/data", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount(elsewhere, root+"/data", "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(root+"/data", 0); err != nil {
					t.Error(err)
				}
			})
			return root + "/data"
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(testdir.New(t), "root")
			write(t, test.mount(t, root)+"/file")
			lost, err := writeback.Sync(root)
			if err != nil || wasLost(lost) != test.lost || lost != nil && !test.lost {
				t.Errorf("lost: %v, the error is %v", lost, err)
			}
		})
	}
}

// TestSyncUnknown checks that an error says so if it is not known whether data was lost,
// because the root cannot be opened.
func TestSyncUnknown(t *testing.T) {
	testroot.Need(t, "mounting")
	file := filepath.Join(testdir.New(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if lost, err := writeback.Sync(file); lost != nil || err != nil {
		t.Errorf("a path without a mount: %v, %v", lost, err)
	}
	// The mount of a file cannot be opened as a directory.
	if err := unix.Mount(file, file, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(file, 0); err != nil {
			t.Error(err)
		}
	})
	if lost, err := writeback.Sync(file); lost != nil || !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a mount that is no directory: %v, %v", lost, err)
	}
}

// TestMarkers checks that an error that another program has already received is found.
func TestMarkers(t *testing.T) {
	root := filepath.Join(testdir.New(t), "root")
	thin(t, root)
	var markers writeback.Markers
	markers.Add(root, "the root")
	write(t, root+"/file")
	if lost, _ := writeback.Sync(root); !wasLost(lost) {
		t.Fatalf("no data was lost: %v", lost)
	}
	err := markers.Sync()
	var named *fs.PathError
	if !wasLost(err) || !errors.As(err, &named) || named.Path != "the root" {
		t.Errorf("the error is %v", err)
	}
	if err := markers.Sync(); err != nil {
		t.Errorf("of no markers: %v", err)
	}
}

// TestMarkersHoldNoMount checks that a marked root can be unmounted.
func TestMarkersHoldNoMount(t *testing.T) {
	root := filepath.Join(testdir.New(t), "root")
	mount(t, "tmpfs", root, "tmpfs", "")
	var markers writeback.Markers
	markers.Add(root, root)
	markers.Add(root+"/missing", "missing")
	if err := unix.Unmount(root, 0); err != nil {
		t.Error(err)
	}
	if err := markers.Sync(); err != nil {
		t.Error(err)
	}
}
