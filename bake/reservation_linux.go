package bake

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/safedir"
)

// held are the locked files of this process's reservations, by their paths.
var held sync.Map

// lockPrefix begins the names of the files that reserve device names.
const lockPrefix = "device-"

// lockFileName matches the name of the file of a reservation.
var lockFileName = regexp.MustCompile(`^` + lockPrefix + `[a-z]+$`)

// lockName returns the name of the file that reserves a device name.
func lockName(name DeviceName) string { return lockPrefix + filepath.Base(name.letters()) }

// lockMode prevents other users from opening the file of a reservation, and so from locking
// it.
const lockMode = 0o600

// openLocks opens the directory of reservations and creates it if it is missing. Its
// parent, such as /run/lock, may be writable by every user.
func openLocks(dir string) (*safedir.Dir, error) {
	d, err := safedir.Make(dir, 0o755)
	if err != nil {
		return nil, fmt.Errorf("cannot reserve device names in the lock directory %s: %w; remove it, or name another one in PACKER_CHROOT_LOCK_DIR", dir, err)
	}
	return d, nil
}

// checkLockDirSpace returns an error if no file can be created in the directory of
// reservations, as on a full disk. It creates a file without a name, if the file system has
// such files.
func checkLockDirSpace(dir string) error {
	d, err := openLocks(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	fd, err := unix.Openat(d.Fd(), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot reserve device names: %w", &os.PathError{Op: "make a file in", Path: dir, Err: err})
	}
	return unix.Close(fd)
}

// reserve reserves the first free name. A reservation is a lock on a file, which ends with
// its process, even if that is killed.
func reserve(dir string, names []DeviceName) (DeviceName, error) {
	d, err := openLocks(dir)
	if err != nil {
		return "", err
	}
	defer d.Close()
	for _, name := range names {
		if node := name.node(); node != "" {
			continue
		}
		lock, err := lockFile(d, lockName(name), os.O_CREATE)
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

// release releases a name. If the process that had reserved it has ended, so has the lock,
// and the file is removed, unless another build holds it.
func release(dir string, name DeviceName) error {
	lock, ours := held.LoadAndDelete(filepath.Join(dir, lockName(name)))
	if ours {
		defer lock.(*os.File).Close()
	}
	d, err := safedir.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if !ours {
		return removeUnheld(d, lockName(name))
	}
	if !d.Holds(lockName(name), lock.(*os.File)) {
		return nil // it was removed already
	}
	return d.Remove(lockName(name))
}

// removeUnheld removes the file of a reservation, unless a process holds it.
func removeUnheld(d *safedir.Dir, name string) error {
	lock, err := lockFile(d, name, 0)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(d.Remove(name), lock.Close())
}

// sweepNames removes the files of all reservations that no process holds.
func sweepNames(dir string) error {
	d, err := safedir.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	entries, err := d.Entries()
	for _, entry := range entries {
		if entry.Type().IsRegular() && lockFileName.MatchString(entry.Name()) {
			err = errors.Join(err, removeUnheld(d, entry.Name()))
		}
	}
	return err
}

// node returns the existing node in /dev with the name; empty if there is none.
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

// lockFile opens a file and locks it; the error is EWOULDBLOCK if another process has locked
// it. A holder removes the file before it unlocks it. If the file was opened before that
// and locked afterwards, no other process can see it, so that lockFile tries again.
func lockFile(d *safedir.Dir, name string, create int) (*os.File, error) {
	for {
		f, err := d.OpenFile(name, os.O_RDWR|create, lockMode)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		if d.Holds(name, f) {
			return f, nil
		}
		f.Close()
	}
}
