package rootfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// immutableFlags are the immutable and append-only flags of a file, which keep every user,
// root too, from changing, renaming and removing it; chattr(1). Images have such a
// resolv.conf to keep network managers away from it.
const immutableFlags = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND

// Immutable returns the immutable and append-only flags of an open file. The kernel has the
// same numbers for them in statx(2) and FS_IOC_GETFLAGS. A file system without attributes
// has none.
func Immutable(f *os.File) int {
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return 0
	}
	return int(flags) & immutableFlags
}

// ClearImmutable clears the immutable and append-only flags of a regular file and returns
// the flags that were set.
func ClearImmutable(dir *os.File, name string) (set int, err error) {
	err = changeFlags(dir, name, func(f *os.File, flags int) error {
		set = flags & immutableFlags
		return setFlags(f, flags&^immutableFlags)
	})
	return set, err
}

// SetImmutable sets flags that ClearImmutable has returned.
func SetImmutable(dir *os.File, name string, set int) error {
	if set == 0 {
		return nil
	}
	return changeFlags(dir, name, func(f *os.File, flags int) error { return setFlags(f, flags|set) })
}

// changeFlags calls do with the attributes of a file. A file that is not regular is not
// opened, and has no flags to clear.
func changeFlags(dir *os.File, name string, do func(f *os.File, flags int) error) error {
	found, st, err := Entry{Dir: dir, Name: name, Path: name}.OpenPath()
	if err != nil {
		return &os.PathError{Op: "open", Path: dir.Name() + name, Err: err}
	}
	defer found.Close()
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	f, err := Reopen(found, unix.O_RDONLY)
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

func setFlags(f *os.File, flags int) error {
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags); err != nil {
		return &os.PathError{Op: "change the attributes of", Path: f.Name(), Err: err}
	}
	return nil
}
