package bake

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// keepFiles keeps the files that this process was started with, standard input,
// output and error apart, from the commands that it will start. Packer hands its
// own output to its plugins: a daemon that a provisioner leaves behind would
// hold it open, and who reads what Packer prints would wait for the daemon.
func keepFiles() error {
	const files = "/proc/self/fd"
	entries, err := os.ReadDir(files)
	if err != nil {
		return fmt.Errorf("cannot keep open files from commands: %w", err)
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// reserve takes the first free name. A reservation is a lock on a file, which ends
// with the process that holds it, however that ends.
func reserve(dir string, names []DeviceName) (DeviceName, func() error, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, fmt.Errorf("cannot reserve a device name: %w", err)
	}
	for _, name := range names {
		if node := name.node(); node != "" {
			continue
		}
		lock, err := lockFile(filepath.Join(dir, "device-"+filepath.Base(name.letters())))
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return "", nil, fmt.Errorf("cannot reserve %s: %w", name, err)
		}
		return name, func() error { return errors.Join(os.Remove(lock.Name()), lock.Close()) }, nil
	}
	return "", nil, fmt.Errorf("no device name is free on this host: tried %v, of which each is there or held by another build", names)
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
