package writeback

import (
	"cmp"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/mounttable"
)

// Markers are open directories, one of each file system that was mounted for a root.
//
// The data of a file is written to the disk when nobody waits for it any more. If that
// fails, the kernel returns the error from the next syncfs(2) of each file that was open in
// the meantime; for a file that is opened later, only if no other has returned it before
// (Linux 5.8, lib/errseq.c). A provisioner may have got it, and ignored it.
type Markers struct {
	mu   sync.Mutex
	open []*os.File
}

// Add opens the root of a file system that was just mounted, through a detached mount, so
// that it does not keep the file system from being unmounted. If the kernel cannot create
// one, there is no marker. name is the path in errors.
func (m *Markers) Add(path, name string) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return
	}
	defer unix.Close(tree)
	fd, err := unix.Openat(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = append(m.open, os.NewFile(uintptr(fd), name))
}

// Sync writes the cached data of each file system, returns the first error since it was
// mounted, and closes the markers, because they hold the root.
func (m *Markers) Sync() (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, dir := range slices.Backward(m.open) {
		err = cmp.Or(err, syncfs(dir))
		dir.Close()
	}
	m.open = nil
	return err
}

// Sync writes the cached data of the file systems of a root: its own, and those mounted
// below it that are nowhere else and have a disk. The first error means that data was lost;
// the second, that this cannot be determined.
func Sync(root string) (lost, err error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, err
	}
	inside := func(mount *mountinfo.Info) bool { return mounttable.Below(mount.Mountpoint, root) }
	outside := map[uint64]bool{}
	for _, mount := range mounts {
		device := mounttable.Device(mount)
		outside[device] = outside[device] || !inside(mount)
	}
	for _, mount := range mounttable.DeepestFirst(mounts) {
		own := mount.Mountpoint == root
		if !own && (!inside(mount) || outside[mounttable.Device(mount)] || !mounttable.HasDisk(mount)) {
			continue
		}
		failed, err := syncAt(mount.Mountpoint)
		if err != nil && own {
			return lost, err
		}
		lost = cmp.Or(lost, failed)
	}
	return lost, nil
}

// syncAt writes the cached data of the file system at a path. No process is forked in the
// meantime: a child has its parent's files until it executes its program, and would be one
// more holder of the root.
func syncAt(path string) (lost, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	dir, err := os.OpenFile(path, unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return syncfs(dir), nil
}

// syncfs writes the cached data of the file system of an open directory.
func syncfs(dir *os.File) error {
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return &os.PathError{Op: "write", Path: dir.Name(), Err: err}
	}
	return nil
}
