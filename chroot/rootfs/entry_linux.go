package rootfs

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Inode identifies a file.
type Inode struct{ dev, ino uint64 }

// InodeOf returns the inode of a file with a status.
func InodeOf(st *unix.Stat_t) Inode { return Inode{st.Dev, st.Ino} }

// Entry is an entry of an open directory. Path is its path, for errors.
type Entry struct {
	Dir        *os.File
	Name, Path string
}

// Fd returns the descriptor of the directory.
func (e Entry) Fd() int { return int(e.Dir.Fd()) }

// Child returns an entry of the directory e, which is open as dir.
func (e Entry) Child(dir *os.File, name string) Entry {
	return Entry{dir, name, path.Join(e.Path, name)}
}

// OpenPath opens an entry of any kind as an O_PATH descriptor, which has no effect on it,
// and returns its status.
func (e Entry) OpenPath() (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := unix.Openat(e.Fd(), e.Name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, st, err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, st, err
	}
	return os.NewFile(uintptr(fd), e.Path), st, nil
}

// OpenAt opens an entry of an open directory; the error is the kernel's.
func OpenAt(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Reopen opens a regular file for use that OpenPath has found.
func Reopen(found *os.File, flags int) (*os.File, error) {
	fd, err := unix.Open(ProcPath(found), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), found.Name()), nil
}

// LinkTarget returns the target of an open symbolic link.
func LinkTarget(f *os.File) (string, error) {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buffer)
	return string(buffer[:max(n, 0)]), err
}

// ReadLink returns the target of a link. The path up to its last name is resolved as in the
// chroot.
func (in *Root) ReadLink(name string) (string, error) {
	f, err := in.Open(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return LinkTarget(f)
}

// Rename renames an entry of an open directory, with the flags of renameat2(2).
func Rename(dir *os.File, from, to string, flags uint) error {
	if err := unix.Renameat2(int(dir.Fd()), from, int(dir.Fd()), to, flags); err != nil {
		return &os.LinkError{Op: "rename", Old: dir.Name() + from, New: to, Err: err}
	}
	return nil
}

// Remove removes an entry of an open directory, if it exists.
func Remove(dir *os.File, name string) error {
	if err := unix.Unlinkat(int(dir.Fd()), name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: dir.Name() + name, Err: err}
	}
	return nil
}
