package bake

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// held are the locks of the reservations that this process holds, by the path of
// the file.
var held sync.Map

// lockPrefix begins the names of the files that device names are reserved by.
const lockPrefix = "device-"

// lockPath is the file that a device name is reserved by.
func lockPath(dir string, name DeviceName) string {
	return filepath.Join(dir, lockPrefix+filepath.Base(name.letters()))
}

// roomIn fails when no file can be made in the directory of reservations, as on a full
// disk. It tries one that has no name, where the file system knows such.
func roomIn(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot reserve device names: %w", err)
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot reserve device names: %w", &os.PathError{Op: "make a file in", Path: dir, Err: err})
	}
	return unix.Close(fd)
}

// reserve takes the first free name. A reservation is a lock on a file, which ends
// with the process that holds it, however that ends.
func reserve(dir string, names []DeviceName) (DeviceName, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot reserve a device name: %w", err)
	}
	for _, name := range names {
		if node := name.node(); node != "" {
			continue
		}
		lock, err := lockFile(lockPath(dir, name))
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("cannot reserve %s: %w", name, err)
		}
		held.Store(lock.Name(), lock)
		return name, nil
	}
	return "", fmt.Errorf("no device name is free on this host: tried %v, of which each is there or held by another build", names)
}

// release gives a name back. When the process that had reserved it is gone, so is
// the lock, and what is left to remove is the file, unless another build has it.
func release(dir string, name DeviceName) error {
	path := lockPath(dir, name)
	if lock, ok := held.LoadAndDelete(path); ok {
		return errors.Join(os.Remove(path), lock.(*os.File).Close())
	}
	return removeUnheld(path)
}

// removeUnheld removes a reservation, unless somebody holds it.
func removeUnheld(path string) error {
	lock, err := lockFile(path)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(path), lock.Close())
}

// sweepNames removes the reservations that nobody holds.
func sweepNames(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if entry.Type().IsRegular() && strings.HasPrefix(entry.Name(), lockPrefix) {
			err = errors.Join(err, removeUnheld(filepath.Join(dir, entry.Name())))
		}
	}
	return err
}

// node is the node in /dev that has the name already, or empty.
func (n DeviceName) node() string {
	for _, prefix := range []string{"/dev/xvd", "/dev/sd"} {
		if _, err := os.Lstat(prefix + n.letters()); err == nil {
			return prefix + n.letters()
		}
	}
	if _, err := os.Lstat(string(n)); err == nil {
		return string(n)
	}
	return ""
}

// lockFile makes a file if it is missing and locks it; the error is EWOULDBLOCK
// when somebody else has.
func lockFile(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: path, Err: err}
		}
		if isAt(f, path) {
			return f, nil
		}
		f.Close()
	}
}

// isAt says whether a path still leads to the file. A holder removes it before it
// lets go of the lock: who opened it before that, and locks it after, holds
// nothing that others can see.
func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(opened, there)
}

// inUse fails while the kernel holds a disk: while one of its file systems is
// mounted, in any namespace, or it is swapped to or part of a volume group.
func inUse(disk DevicePath) error {
	fd, err := unix.Open(string(disk), unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s is still in use: one of its partitions is mounted, swapped to, or part of another device: %w", disk, err)
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: string(disk), Err: err}
	}
	return unix.Close(fd)
}
