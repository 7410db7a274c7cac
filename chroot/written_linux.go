package chroot

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

// witnesses are open directories, one of each file system that was mounted for a root.
//
// What is written to a file comes to the disk when nobody waits for it any more. That
// this has failed the kernel tells, at the next syncfs(2), each file that was open
// meanwhile, and one that is opened later only if nobody was told before (Linux 5.8,
// lib/errseq.c). A provisioner may have been, and not have cared.
type witnesses struct {
	mu   sync.Mutex
	open []*os.File
}

// call opens one where a file system was just mounted, by way of a mount that is nowhere:
// so it keeps nobody from unmounting. Where the kernel makes none, it is done without.
// name is the path that errors tell.
func (w *witnesses) call(path, name string) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return
	}
	defer unix.Close(tree)
	fd, err := unix.Openat(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = append(w.open, os.NewFile(uintptr(fd), name))
}

// ask writes what is cached of each file system, answers what could not be written since
// it was mounted, and lets the witnesses go: they hold the root.
func (w *witnesses) ask() (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, dir := range slices.Backward(w.open) {
		err = cmp.Or(err, syncfs(dir))
		dir.Close()
	}
	w.open = nil
	return err
}

// sync writes what is cached of the root's file systems: its own, and those mounted
// below it that are nowhere else and have a disk, whoever mounted them. An error of the
// one kind says what is not written, and one of the other that it could not be tried.
func (m *Mounted) sync() (lost, err error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, err
	}
	inside := func(mount *mountinfo.Info) bool { return mounttable.Below(mount.Mountpoint, m.real) }
	outside := map[uint64]bool{}
	for _, mount := range mounts {
		outside[mounttable.Device(mount)] = outside[mounttable.Device(mount)] || !inside(mount)
	}
	for _, mount := range mounttable.DeepestFirst(mounts) {
		own := mount.Mountpoint == m.real
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

// syncAt writes what is cached of the file system at a path. Meanwhile nothing is
// forked: a child has its parent's files until it is a program of its own, and would
// be one more holder of the root.
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

func syncfs(dir *os.File) error {
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return &os.PathError{Op: "write", Path: dir.Name(), Err: err}
	}
	return nil
}
