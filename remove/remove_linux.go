package remove

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ErrMounted is wrapped by the error of a removal that met a mount point.
var ErrMounted = errors.New("is a mount point")

// All removes a file, a symbolic link, or a directory with everything below it. It
// returns nil if the path does not exist.
//
// If the path is a mount point or holds one, All removes nothing and returns an error
// that wraps ErrMounted and names all of them. A mount that appears during the removal
// is not entered: everything below it stays.
//
// Symbolic links below the path are removed and not followed. A link in the path's
// parent directories is followed, as in every path. All needs Linux 5.6 (openat2).
func All(path string) error {
	clean := filepath.Clean(path)
	name := filepath.Base(clean)
	if path == "" || name == "." || name == ".." || name == "/" {
		return fmt.Errorf("cannot remove %q: it does not name a directory entry", path)
	}
	parent, err := os.Open(filepath.Dir(clean))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", path, err)
	}
	defer parent.Close()
	if err := notMounted(clean); err != nil {
		return fmt.Errorf("cannot remove %s: %w", path, err)
	}
	if err := entry(parent, name, clean); err != nil {
		return fmt.Errorf("cannot remove %s: %w", path, err)
	}
	return nil
}

// notMounted returns an error for each mount point at the path and below it. The mount
// table names also those that are hidden by another mount.
func notMounted(path string) error {
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	top := filepath.Join(dir, filepath.Base(path))
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return m.Mountpoint != top && !strings.HasPrefix(m.Mountpoint, top+"/"), false
	})
	if err != nil {
		return fmt.Errorf("cannot read the mount table: %w", err)
	}
	var errs []error
	for _, m := range mounts {
		errs = append(errs, fmt.Errorf("%s %w (%s)", m.Mountpoint, ErrMounted, m.FSType))
	}
	return errors.Join(errs...)
}

// entry removes one entry of an open directory. path names it in errors.
func entry(dir *os.File, name, path string) error {
	err := unix.Unlinkat(int(dir.Fd()), name, 0)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return failed("unlink", path, err)
	}
	sub, openErr := enter(dir, name, path)
	if errors.Is(openErr, unix.ENOTDIR) || errors.Is(openErr, unix.ELOOP) {
		return failed("unlink", path, err) // it may not be removed
	}
	if openErr != nil {
		return openErr
	}
	defer sub.Close()
	if err := content(sub, path); err != nil {
		return err
	}
	if err := unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return failed("rmdir", path, err)
	}
	return nil
}

// enter opens a subdirectory. RESOLVE_NO_XDEV has the kernel refuse every mount point,
// bind mounts of the same file system included, so that no race can lead across one.
func enter(dir *os.File, name, path string) (*os.File, error) {
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH,
	})
	if errors.Is(err, unix.EXDEV) {
		return nil, fmt.Errorf("%s %w", path, ErrMounted)
	}
	if err != nil {
		return nil, failed("open", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// content removes the entries of an open directory. It goes on after an error.
func content(dir *os.File, path string) error {
	names, err := dir.Readdirnames(-1)
	errs := []error{err}
	for _, name := range names {
		errs = append(errs, entry(dir, name, filepath.Join(path, name)))
	}
	return errors.Join(errs...)
}

func failed(op, path string, err error) error {
	return &os.PathError{Op: op, Path: path, Err: err}
}
