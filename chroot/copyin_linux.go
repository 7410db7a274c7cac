package chroot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copied is a file that was copied in for the time of the build.
type copied struct {
	dir, name string
	// saved is the name in dir of what was there before; empty if nothing was.
	saved string
	// sum is of what was copied in.
	sum [sha256.Size]byte
}

// CheckFile fails when a file of the host cannot be copied in.
func CheckFile(path string) error {
	f, _, err := openFile(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// openFile opens a regular file of the host.
func openFile(path string) (*os.File, os.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is %s, not a file", path, kindOf(info.Mode()))
	}
	f, err := os.Open(path)
	return f, info.Mode(), err
}

// CopyIn copies a file of the host to the same path inside, until PutBack. What is
// there, be it a file or a link, is set aside under another name, so that it comes
// back as it was to the last attribute; a link is never written through.
func (m *Mounted) CopyIn(ctx context.Context, path string) error {
	if err := m.copyIn(ctx, path); err != nil {
		return fmt.Errorf("cannot copy %s into %s: %w", path, m.path, err)
	}
	return nil
}

func (m *Mounted) copyIn(ctx context.Context, path string) error {
	src, mode, err := openFile(path)
	if err != nil {
		return err
	}
	defer src.Close()
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.close()
	c := copied{}
	c.dir, c.name = split(path)
	if err := in.mkdirAll(c.dir); err != nil {
		return err
	}
	dir, err := in.open(c.dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := c.setAside(dir, len(m.copies)); err != nil {
		return err
	}
	m.copies = append(m.copies, c)
	return m.copies[len(m.copies)-1].write(ctx, dir, src, mode)
}

// setAside renames what is there; n keeps the names of copies apart.
func (c *copied) setAside(dir *os.File, n int) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), c.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "stat", Path: dir.Name() + c.name, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return fmt.Errorf("%s is a directory there", dir.Name()+c.name)
	}
	saved := fmt.Sprintf(".%s.packer-chroot-%d", c.name, n)
	if err := rename(dir, c.name, saved, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	c.saved = saved
	return nil
}

// write makes the file, and notes what it holds.
func (c *copied) write(ctx context.Context, dir *os.File, src io.Reader, mode os.FileMode) error {
	fd, err := unix.Openat(int(dir.Fd()), c.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: dir.Name() + c.name, Err: err}
	}
	dst := os.NewFile(uintptr(fd), dir.Name()+c.name)
	sum := sha256.New()
	err = copyTo(ctx, io.MultiWriter(dst, sum), src)
	sum.Sum(c.sum[:0])
	return errors.Join(err, dst.Chmod(mode), dst.Close())
}

// PutBack removes what CopyIn copied and puts back what was there before. A file
// that was changed since is somebody's wish, and stays.
func (m *Mounted) PutBack(context.Context) error {
	for last := len(m.copies) - 1; last >= 0; last-- {
		c := m.copies[last]
		if err := m.putBack(c); err != nil {
			return fmt.Errorf("cannot put back %s in %s: %w", c.dir+c.name, m.path, err)
		}
		m.copies = m.copies[:last]
	}
	return nil
}

func (m *Mounted) putBack(c copied) error {
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.close()
	dir, err := in.open(c.dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // removed with its directory
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	same, err := c.unchanged(dir)
	switch {
	case err != nil:
		return err
	case same && c.saved != "":
		return rename(dir, c.saved, c.name, 0)
	case same:
		return remove(dir, c.name)
	case c.saved != "":
		return remove(dir, c.saved)
	default:
		return nil
	}
}

// unchanged says whether the file is still what was copied in.
func (c *copied) unchanged(dir *os.File) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), c.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || (err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "stat", Path: dir.Name() + c.name, Err: err}
	}
	fd, err := unix.Openat(int(dir.Fd()), c.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: dir.Name() + c.name, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir.Name()+c.name)
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return false, err
	}
	return [sha256.Size]byte(sum.Sum(nil)) == c.sum, nil
}

func rename(dir *os.File, from, to string, flags uint) error {
	if err := unix.Renameat2(int(dir.Fd()), from, int(dir.Fd()), to, flags); err != nil {
		return &os.LinkError{Op: "rename", Old: dir.Name() + from, New: to, Err: err}
	}
	return nil
}

func remove(dir *os.File, name string) error {
	if err := unix.Unlinkat(int(dir.Fd()), name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: dir.Name() + name, Err: err}
	}
	return nil
}
