package rootfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// RemoveDirs removes directories, which are given outermost first, from the innermost one
// on. It stops at the first that is not empty.
func (in *Root) RemoveDirs(dirs []string) error {
	for last := len(dirs) - 1; last >= 0; last-- {
		parent, name := Split(dirs[last])
		dir, err := in.Open(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return IgnoreMissing(IgnoreDangling(err))
		}
		err = unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
		dir.Close()
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil
		}
	}
	return nil
}

// RemoveEmpty removes an empty directory or an empty file. Everything else stays.
func (in *Root) RemoveEmpty(path string) {
	parent, name := Split(path)
	dir, err := in.Open(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	defer dir.Close()
	var st unix.Stat_t
	if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		_ = unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
	case st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0:
		_ = unix.Unlinkat(int(dir.Fd()), name, 0)
	}
}

// Discard removes a file that was created and could not be filled, unless another file is
// in its place.
func (in *Root) Discard(path string, f *os.File) {
	parent, name := Split(path)
	dir, err := in.Open(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	defer dir.Close()
	DiscardAt(dir, name, f)
}

// DiscardAt is Discard for an entry of an open directory.
func DiscardAt(dir *os.File, name string, f *os.File) {
	var made, there unix.Stat_t
	if unix.Fstat(int(f.Fd()), &made) != nil {
		return
	}
	err := unix.Fstatat(int(dir.Fd()), name, &there, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && InodeOf(&there) == InodeOf(&made) {
		_ = unix.Unlinkat(int(dir.Fd()), name, 0)
	}
}

// IgnoreDangling returns nil for an error about a path that leads nowhere, because a parent
// is not a directory or links form a loop, and every other error as it is.
func IgnoreDangling(err error) error {
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	return err
}

// IgnoreMissing returns nil for an error about a missing file, and every other error as it
// is.
func IgnoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
