package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is an open root directory. The kernel resolves every path as for a process in the
// chroot: absolute links start at the root, and .. ends there. It needs openat2(2), Linux
// 5.6.
type Root struct {
	dir *os.File
	// name is the root's path on the host, for errors.
	name string
	// Created are the directories that MkdirAll has created, outermost first.
	Created []string
}

// OpenRoot opens a directory of the host as a root. name stands for it in errors.
func OpenRoot(dir, name string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return &Root{dir: os.NewFile(uintptr(fd), name), name: name}, nil
}

// ProcPath returns a path that leads to the root's directory by way of the kernel.
func (in *Root) ProcPath() string { return ProcPath(in.dir) }

// Close closes the root. It must be closed before the root can be unmounted.
func (in *Root) Close() { _ = in.dir.Close() }

// Open opens a path inside. The error is a PathError with the path inside.
func (in *Root) Open(path string, flags int, mode uint32) (*os.File, error) {
	if path == "" {
		path = "."
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(mode), Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := RetryOpenat2(func() (int, error) { return unix.Openat2(int(in.dir.Fd()), path, &how) })
	if errors.Is(err, unix.ENOSYS) {
		err = fmt.Errorf("%w: openat2 is needed, of Linux 5.6", err)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: in.name + ":" + path, Err: err}
	}
	return os.NewFile(uintptr(fd), in.name+":"+path), nil
}

// RetryOpenat2 calls openat2 again if a file was renamed or mounted in the meantime.
func RetryOpenat2(open func() (int, error)) (fd int, err error) {
	const tries = 64
	for range tries {
		fd, err = open()
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return fd, err
}

// OpenPath opens a file of any kind as an O_PATH descriptor, which has no effect on it.
func (in *Root) OpenPath(path string) (*os.File, os.FileInfo, error) {
	f, err := in.Open(path, unix.O_PATH, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// OpenFile opens an existing regular file. A file of another kind is an error.
func (in *Root) OpenFile(path string, flags int) (*os.File, error) {
	found, info, err := in.OpenPath(path)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %s, not a regular file", found.Name(), KindOf(info.Mode()))
	}
	f, err := Reopen(found, flags)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: found.Name(), Err: err}
	}
	return f, nil
}

// Create opens a file for writing from its beginning. An existing file is emptied and
// keeps its mode. A missing one is created with mode, and with its directories, and made
// is true.
func (in *Root) Create(path string, mode os.FileMode) (f *os.File, made bool, err error) {
	dir, name := Split(path)
	if name == "" {
		return nil, false, fmt.Errorf("%s:%s is the name of a directory, not of a file", in.name, path)
	}
	f, err = in.OpenFile(path, unix.O_WRONLY|unix.O_TRUNC)
	if errors.Is(err, os.ErrNotExist) {
		made = true
		if err := in.MkdirAll(dir); err != nil {
			return nil, false, err
		}
		f, err = in.make(path)
	}
	if err != nil || !made {
		return f, false, err
	}
	if err := f.Chmod(mode); err != nil {
		f.Close()
		return nil, false, err
	}
	return f, true, nil
}

// make creates a file, also as the target of a dangling link. If a file of another kind
// was put there in the meantime, it is neither waited for nor used.
func (in *Root) make(path string) (*os.File, error) {
	f, err := in.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_NOCTTY|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is %s, not a regular file", f.Name(), KindOf(info.Mode()))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// MkdirAll creates a directory and its parents, with mode 0755, if they are missing.
func (in *Root) MkdirAll(path string) error {
	made := ""
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." {
			continue
		}
		if err := in.mkdir(made, part, 0o755); err != nil {
			return err
		}
		made += "/" + part
	}
	return nil
}

// mkdir creates a directory in another one. An existing one stays as it is.
func (in *Root) mkdir(parent, name string, mode os.FileMode) error {
	if d, err := in.Open(parent+"/"+name, unix.O_PATH|unix.O_DIRECTORY, 0); !errors.Is(err, os.ErrNotExist) {
		if err == nil {
			err = d.Close()
		}
		return err
	}
	dir, err := in.Open(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Mkdirat(int(dir.Fd()), name, 0o700)
	if err == nil {
		in.Created = append(in.Created, parent+"/"+name)
		err = chmodDir(dir, name, mode)
	}
	if errors.Is(err, unix.EEXIST) {
		err = fmt.Errorf("a link is there that leads nowhere: %w", unix.ENOTDIR)
	}
	if err != nil {
		return &os.PathError{Op: "mkdir", Path: in.name + ":" + parent + "/" + name, Err: err}
	}
	return nil
}

// chmodDir changes the mode of a directory. It does not follow a link that was put in its
// place.
func chmodDir(parent *os.File, name string, mode os.FileMode) error {
	dir, err := OpenAt(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Fchmod(int(dir.Fd()), bits(mode))
}

// Split splits a path before its last name. It keeps every .., the meaning of which depends
// on links.
func Split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:i+1], path[i+1:]
}

// ProcPath returns a path that leads to an open file by way of the kernel.
func ProcPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// bits returns the permissions of a mode in the kernel's form.
func bits(mode os.FileMode) uint32 {
	b := uint32(mode.Perm())
	for flag, bit := range map[os.FileMode]uint32{os.ModeSetuid: unix.S_ISUID, os.ModeSetgid: unix.S_ISGID, os.ModeSticky: unix.S_ISVTX} {
		if mode&flag != 0 {
			b |= bit
		}
	}
	return b
}

// KindOfStat is KindOf for the status of a file.
func KindOfStat(st *unix.Stat_t) string {
	kinds := map[uint32]os.FileMode{
		unix.S_IFREG: 0, unix.S_IFDIR: os.ModeDir, unix.S_IFLNK: os.ModeSymlink, unix.S_IFBLK: os.ModeDevice,
		unix.S_IFCHR: os.ModeDevice, unix.S_IFIFO: os.ModeNamedPipe, unix.S_IFSOCK: os.ModeSocket,
	}
	kind, ok := kinds[st.Mode&unix.S_IFMT]
	if !ok {
		kind = os.ModeIrregular
	}
	return KindOf(kind)
}

// KindOf returns the kind of a file, for a message.
func KindOf(mode os.FileMode) string {
	switch {
	case mode.IsRegular():
		return "a file"
	case mode.IsDir():
		return "a directory"
	case mode&os.ModeSymlink != 0:
		return "a link"
	case mode&os.ModeDevice != 0:
		return "a device"
	case mode&os.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&os.ModeSocket != 0:
		return "a socket"
	default:
		return "no file"
	}
}

// Touch creates an empty file.
func (in *Root) Touch(path string) error {
	f, _, err := in.Create(path, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// Destination returns the path of the file to write: dst itself or, if a directory is
// there and the file has a name, that name in it, as cp(1) does.
func (in *Root) Destination(dst, name string) (string, error) {
	dir, err := in.Open(dst, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil || name == "" {
		if err == nil {
			err = dir.Close()
		}
		return dst, IgnoreMissing(IgnoreDangling(err))
	}
	if name == "." || name == ".." || strings.Contains(name, "/") {
		return "", errors.Join(fmt.Errorf("%q is not a file name", name), dir.Close())
	}
	return strings.TrimRight(dst, "/") + "/" + name, dir.Close()
}

// ReadText returns the content of a small regular file.
func (in *Root) ReadText(name string) (string, error) {
	f, err := in.OpenFile(name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const most = 64 << 10
	raw, err := io.ReadAll(io.LimitReader(f, most))
	return string(raw), err
}
