package chroot

import (
	"os"

	"golang.org/x/sys/unix"
)

// locks are the attributes of a file that keep everybody, root too, from changing,
// renaming and removing it; chattr(1). Images have such a resolv.conf to keep
// network managers away from it.
const locks = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND

// locksOf are the locks of an open file. The kernel has the same numbers for them
// in statx(2) and FS_IOC_GETFLAGS. A file system without attributes has none.
func locksOf(f *os.File) int {
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return 0
	}
	return int(flags) & locks
}

// unlock takes the locks off a regular file, and answers which it had.
func unlock(dir *os.File, name string) (locked int, err error) {
	err = withAttributes(dir, name, func(f *os.File, flags int) error {
		locked = flags & locks
		return setAttributes(f, flags&^locks)
	})
	return locked, err
}

// lock puts locks on a regular file.
func lock(dir *os.File, name string, locked int) error {
	if locked == 0 {
		return nil
	}
	return withAttributes(dir, name, func(f *os.File, flags int) error { return setAttributes(f, flags|locked) })
}

// withAttributes does something with the attributes of a file. What is no regular
// file is not opened, and has no locks that one could take off.
func withAttributes(dir *os.File, name string, do func(f *os.File, flags int) error) error {
	found, st, err := spot{dir: dir, name: name, path: name}.peek()
	if err != nil {
		return &os.PathError{Op: "open", Path: dir.Name() + name, Err: err}
	}
	defer found.Close()
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	f, err := reopen(found, unix.O_RDONLY)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir.Name() + name, Err: err}
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return nil // a file system without attributes
	}
	return do(f, int(flags))
}

func setAttributes(f *os.File, flags int) error {
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags); err != nil {
		return &os.PathError{Op: "change the attributes of", Path: f.Name(), Err: err}
	}
	return nil
}
