package safedir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is an open directory that only trusted users can write to.
type Dir struct{ f *os.File }

// Open opens a directory. The error wraps os.ErrNotExist if it is missing.
func Open(path string) (*Dir, error) { return open(path, 0) }

// Make opens a directory and creates it, and its parents, if they are missing.
func Make(path string, mode os.FileMode) (*Dir, error) { return open(path, uint32(mode.Perm())) }

func open(path string, mode uint32) (*Dir, error) {
	w, err := walk(path, mode, false)
	if err != nil {
		return nil, err
	}
	defer w.close()
	if !trusted(w.st.Uid) {
		return nil, fmt.Errorf("%s belongs to user %d, and this is user %d", path, w.st.Uid, os.Geteuid())
	}
	if shared(&w.st) {
		return nil, fmt.Errorf("%s can be written to by others: its mode is %04o", path, w.st.Mode&0o7777)
	}
	fd, err := unix.Openat(w.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &Dir{os.NewFile(uintptr(fd), path)}, nil
}

// Fixed returns an error if another user could replace a part of a path. A missing part
// counts as created by a trusted user.
func Fixed(path string) error {
	w, err := walk(path, 0, true)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		w.close()
	}
	return err
}

// Close closes the directory.
func (d *Dir) Close() error { return d.f.Close() }

// Path returns the path that the directory was opened by.
func (d *Dir) Path() string { return d.f.Name() }

// Fd returns the descriptor, which is valid until Close.
func (d *Dir) Fd() int { return int(d.f.Fd()) }

// Stat returns the directory's file info.
func (d *Dir) Stat() (os.FileInfo, error) { return d.f.Stat() }

// Sync writes the directory's entries to the disk.
func (d *Dir) Sync() error { return d.f.Sync() }

// Entries returns the directory's entries, in the order of their names.
func (d *Dir) Entries() ([]os.DirEntry, error) {
	fd, err := unix.Openat(d.Fd(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.Path(), Err: err}
	}
	f := os.NewFile(uintptr(fd), d.Path())
	defer f.Close()
	entries, err := f.ReadDir(-1)
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

// Child returns the path of a file in the directory.
func (d *Dir) Child(name string) string { return filepath.Join(d.Path(), name) }

// OpenFile opens a file in the directory, with the flags of os.OpenFile. It must be a
// regular file with a single link that belongs to a trusted user, and that nobody else can
// write to.
func (d *Dir) OpenFile(name string, flag int, mode os.FileMode) (*os.File, error) {
	if name != filepath.Base(name) || name == ".." || name == "." || name == "/" {
		return nil, &os.PathError{Op: "open", Path: d.Child(name), Err: unix.EINVAL}
	}
	const safely = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := unix.Openat(d.Fd(), name, flag|safely, uint32(mode.Perm()))
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: %w", d.Child(name), err)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.Child(name), Err: err}
	}
	f := os.NewFile(uintptr(fd), d.Child(name))
	if err := check(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// check returns an error unless only trusted users can change an open file. A file that was
// removed since it was opened has no links.
func check(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s is not a regular file", f.Name())
	case !trusted(st.Uid):
		return fmt.Errorf("%s belongs to user %d, and this is user %d", f.Name(), st.Uid, os.Geteuid())
	case st.Nlink > 1:
		return fmt.Errorf("%s has another name: it is a hard link", f.Name())
	case shared(&st):
		return fmt.Errorf("%s can be written to by others: its mode is %04o", f.Name(), st.Mode&0o7777)
	}
	return nil
}

// Holds reports whether a name in the directory refers to an open file.
func (d *Dir) Holds(name string, f *os.File) bool {
	var opened, there unix.Stat_t
	return unix.Fstat(int(f.Fd()), &opened) == nil &&
		unix.Fstatat(d.Fd(), name, &there, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		opened.Dev == there.Dev && opened.Ino == there.Ino
}

// Remove removes a file in the directory.
func (d *Dir) Remove(name string) error {
	if err := unix.Unlinkat(d.Fd(), name, 0); err != nil {
		return &os.PathError{Op: "remove", Path: d.Child(name), Err: err}
	}
	return nil
}

// Rename renames a file within the directory.
func (d *Dir) Rename(from, to string) error {
	if err := unix.Renameat(d.Fd(), from, d.Fd(), to); err != nil {
		return &os.LinkError{Op: "rename", Old: d.Child(from), New: d.Child(to), Err: err}
	}
	return nil
}
