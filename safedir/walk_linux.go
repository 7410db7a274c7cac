package safedir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mostLinks is the maximum number of symbolic links in a path, as in the kernel.
const mostLinks = 40

// walker walks a path one name at a time.
type walker struct {
	// fd is the current directory, path its name, and st its status.
	fd   int
	path string
	st   unix.Stat_t
	// rest holds the remaining names.
	rest  []string
	links int
	// mode is the mode of directories to create; 0 creates none.
	mode uint32
	// fixed refuses entries that another user could replace later.
	fixed bool
}

// walk walks a path to its end. The caller closes the walker's directory.
func walk(path string, mode uint32, fixed bool) (*walker, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	w := &walker{fd: -1, rest: names(abs), mode: mode, fixed: fixed}
	for err = w.restart(); err == nil && len(w.rest) > 0; {
		err = w.step()
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// names splits a path.
func names(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
}

func (w *walker) close() {
	if w.fd >= 0 {
		_ = unix.Close(w.fd)
	}
	w.fd = -1
}

// restart goes to the root directory.
func (w *walker) restart() error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/", Err: err}
	}
	return w.enter(fd, "/")
}

// enter makes an open directory the current one.
func (w *walker) enter(fd int, path string) error {
	w.close()
	w.fd, w.path = fd, path
	return unix.Fstat(fd, &w.st)
}

// step walks to the next name of the path.
func (w *walker) step() error {
	name := w.rest[0]
	path := filepath.Join(w.path, name)
	fd, err := w.open(name, path)
	if err != nil {
		return err
	}
	w.rest = w.rest[1:]
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if err := w.accept(path, &st); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return w.enter(fd, path)
	case unix.S_IFLNK:
		return errors.Join(w.follow(fd, path), unix.Close(fd))
	}
	return errors.Join(fmt.Errorf("%s is not a directory: %w", path, unix.ENOTDIR), unix.Close(fd))
}

// open opens an entry without following it. If mode is set, it creates a missing directory.
func (w *walker) open(name, path string) (int, error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(w.fd, name, flags, 0)
	if errors.Is(err, unix.ENOENT) && w.mode != 0 {
		if err := unix.Mkdirat(w.fd, name, w.mode); err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, &os.PathError{Op: "mkdir", Path: path, Err: err}
		}
		fd, err = unix.Openat(w.fd, name, flags, 0)
	}
	if errors.Is(err, unix.ENOENT) && w.fixed && exposed(&w.st) && !w.sticky() {
		return -1, fmt.Errorf("%s can be replaced by others: %s", path, w.why())
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// follow replaces the name of a symbolic link by its target.
func (w *walker) follow(fd int, path string) error {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buffer)
	if err != nil {
		return &os.PathError{Op: "readlink", Path: path, Err: err}
	}
	target := string(buffer[:n])
	if len(w.rest) == 0 && !w.fixed {
		return fmt.Errorf("%s is a symbolic link to %s: name the directory itself", path, target)
	}
	if w.links++; w.links > mostLinks {
		return &os.PathError{Op: "open", Path: path, Err: unix.ELOOP}
	}
	w.rest = append(names(target), w.rest...)
	if filepath.IsAbs(target) {
		return w.restart()
	}
	return nil
}

// accept returns an error if another user could have created an entry of the current
// directory or, if fixed is set, could replace it.
func (w *walker) accept(path string, entry *unix.Stat_t) error {
	if filepath.Dir(path) != w.path || !exposed(&w.st) { // the first: the name was ".."
		return nil
	}
	if !trusted(entry.Uid) {
		return fmt.Errorf("%s belongs to user %d, and %s", path, entry.Uid, w.why())
	}
	if w.fixed && !w.sticky() {
		return fmt.Errorf("%s can be replaced by others: %s", path, w.why())
	}
	return nil
}

// why names the users who can write to the current directory.
func (w *walker) why() string {
	if !trusted(w.st.Uid) {
		return fmt.Sprintf("the directory %s belongs to user %d", w.path, w.st.Uid)
	}
	return fmt.Sprintf("the directory %s can be written to by others: its mode is %04o", w.path, w.st.Mode&0o7777)
}

// sticky reports whether only trusted users can rename entries of trusted users in the
// current directory.
func (w *walker) sticky() bool { return w.st.Mode&unix.S_ISVTX != 0 && trusted(w.st.Uid) }

// exposed reports whether users who are not trusted can write to a directory.
func exposed(st *unix.Stat_t) bool { return !trusted(st.Uid) || shared(st) }

// shared reports whether users other than the owner can write to a file or directory. A group
// with the same ID as the owner is assumed to be private to the owner, as useradd creates it.
func shared(st *unix.Stat_t) bool {
	return st.Mode&0o002 != 0 || st.Mode&0o020 != 0 && st.Gid != st.Uid
}
