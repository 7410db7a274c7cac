package chroot

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// inside is a root to open files in. The kernel resolves every path as it would
// for a process in the chroot: absolute links start at the root, and .. ends
// there. That takes openat2(2), Linux 5.6.
type inside struct {
	dir *os.File
	// where is the root's path on the host, for errors.
	where string
	// made are the directories that mkdirAll made, outermost first.
	made []string
}

// open opens the root itself. It must be closed before the root can be left.
func (m *Mounted) open() (*inside, error) {
	if err := m.visible(); err != nil {
		return nil, err
	}
	fd, err := unix.Open(m.real, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: m.path, Err: err}
	}
	return &inside{dir: os.NewFile(uintptr(fd), m.path), where: m.path}, nil
}

func (in *inside) close() { _ = in.dir.Close() }

// open opens a path inside. The error is a PathError of the path inside.
func (in *inside) open(path string, flags int, mode uint32) (*os.File, error) {
	if path == "" {
		path = "."
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(mode), Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := again(func() (int, error) { return unix.Openat2(int(in.dir.Fd()), path, &how) })
	if errors.Is(err, unix.ENOSYS) {
		err = fmt.Errorf("%w: openat2 is needed, of Linux 5.6", err)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: in.where + ":" + path, Err: err}
	}
	return os.NewFile(uintptr(fd), in.where+":"+path), nil
}

// again calls openat2 once more when something was renamed or mounted meanwhile.
func again(open func() (int, error)) (fd int, err error) {
	const tries = 64
	for range tries {
		fd, err = open()
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return fd, err
}

// find opens what is at a path, whatever it is, without touching it.
func (in *inside) find(path string) (*os.File, os.FileInfo, error) {
	f, err := in.open(path, unix.O_PATH, 0)
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

// regular opens a regular file that exists. Nothing else is ever opened: a device
// node of an image leads to a device of the host.
func (in *inside) regular(path string, flags int) (*os.File, error) {
	found, info, err := in.find(path)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %s, not a regular file", found.Name(), kindOf(info.Mode()))
	}
	f, err := reopen(found, flags)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: found.Name(), Err: err}
	}
	return f, nil
}

// create opens a file to be written from its beginning. An existing file is emptied
// and keeps its mode; a missing one is created with mode, with its directories, and
// then made is true.
func (in *inside) create(path string, mode os.FileMode) (f *os.File, made bool, err error) {
	dir, name := split(path)
	if name == "" {
		return nil, false, fmt.Errorf("%s:%s is the name of a directory, not of a file", in.where, path)
	}
	f, err = in.regular(path, unix.O_WRONLY|unix.O_TRUNC)
	if errors.Is(err, os.ErrNotExist) {
		made = true
		if err := in.mkdirAll(dir); err != nil {
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

// make makes a file, also where a link leads that leads nowhere yet. Something
// else may have been put there meanwhile: that is neither waited for nor used.
func (in *inside) make(path string) (*os.File, error) {
	f, err := in.open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_NOCTTY|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is %s, not a regular file", f.Name(), kindOf(info.Mode()))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// mkdirAll makes a directory and its parents, 0755, where they are missing.
func (in *inside) mkdirAll(path string) error {
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

// mkdir makes a directory in another one. One that exists stays as it is.
func (in *inside) mkdir(parent, name string, mode os.FileMode) error {
	if d, err := in.open(parent+"/"+name, unix.O_PATH|unix.O_DIRECTORY, 0); !errors.Is(err, os.ErrNotExist) {
		if err == nil {
			err = d.Close()
		}
		return err
	}
	dir, err := in.open(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Mkdirat(int(dir.Fd()), name, 0o700)
	if err == nil {
		in.made = append(in.made, parent+"/"+name)
		err = chmodDir(dir, name, mode)
	}
	if errors.Is(err, unix.EEXIST) {
		err = fmt.Errorf("a link is there that leads nowhere: %w", unix.ENOTDIR)
	}
	if err != nil {
		return &os.PathError{Op: "mkdir", Path: in.where + ":" + parent + "/" + name, Err: err}
	}
	return nil
}

// chmodDir changes the mode of a directory, and of nothing that a link leads to
// which was put in its place.
func chmodDir(parent *os.File, name string, mode os.FileMode) error {
	dir, err := openAt(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Fchmod(int(dir.Fd()), bits(mode))
}

// split parts a path into what is before the last name, and that name. It keeps
// every .., whose meaning hangs on links.
func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:i+1], path[i+1:]
}

// procPath is a path that leads to an open file, by way of the kernel.
func procPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// bits are the permissions of a mode as the kernel has them.
func bits(mode os.FileMode) uint32 {
	b := uint32(mode.Perm())
	for flag, bit := range map[os.FileMode]uint32{os.ModeSetuid: unix.S_ISUID, os.ModeSetgid: unix.S_ISGID, os.ModeSticky: unix.S_ISVTX} {
		if mode&flag != 0 {
			b |= bit
		}
	}
	return b
}

// kindOfStat is kindOf of what stat(2) tells.
func kindOfStat(st *unix.Stat_t) string {
	kinds := map[uint32]os.FileMode{
		unix.S_IFREG: 0, unix.S_IFDIR: os.ModeDir, unix.S_IFLNK: os.ModeSymlink, unix.S_IFBLK: os.ModeDevice,
		unix.S_IFCHR: os.ModeDevice, unix.S_IFIFO: os.ModeNamedPipe, unix.S_IFSOCK: os.ModeSocket,
	}
	kind, ok := kinds[st.Mode&unix.S_IFMT]
	if !ok {
		kind = os.ModeIrregular
	}
	return kindOf(kind)
}

// kindOf names what a file is.
func kindOf(mode os.FileMode) string {
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
