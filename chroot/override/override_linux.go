package override

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/transfer"
)

// Files are the files that were put into a root.
type Files struct {
	mu    sync.Mutex
	files []file
}

// file is a file that was put into a root.
type file struct {
	dir, name string
	// saved is the name in dir of the file that was there before; empty if there was none.
	saved string
	// immutable are the flags that kept that file from being renamed.
	immutable int
	// dirs are the directories that were created for it, outermost first.
	dirs []string
	// sum is the checksum of the content.
	sum [sha256.Size]byte
	// mode, uid and gid are those of the file that was put.
	mode, uid, gid uint32
}

// Put writes a file inside, until PutBack.
func (f *Files) Put(ctx context.Context, in *rootfs.Root, path string, src io.Reader, mode os.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := file{}
	c.dir, c.name = rootfs.Split(path)
	if c.name == "" {
		return fmt.Errorf("%s is the name of a directory, not of a file", path)
	}
	err := in.MkdirAll(c.dir)
	c.dirs = in.Created
	if err != nil {
		return errors.Join(err, in.RemoveDirs(c.dirs))
	}
	dir, err := in.Open(c.dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := c.setAside(dir); err != nil {
		return err
	}
	f.files = append(f.files, c)
	return f.files[len(f.files)-1].write(ctx, dir, src, mode)
}

// Has reports whether a file was put at a path.
func (f *Files) Has(path string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.files, func(c file) bool { return c.dir+c.name == path })
}

// PutBack removes the files and restores those that were there before, the last first. A
// file that was changed since, removed, or given to another user is left as it is. open
// opens the root, and name is the root's path in errors.
func (f *Files) PutBack(name string, open func() (*rootfs.Root, error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for last := len(f.files) - 1; last >= 0; last-- {
		c := f.files[last]
		if err := c.putBack(open); err != nil {
			return fmt.Errorf("cannot put back %s in %s: %w", c.dir+c.name, name, err)
		}
		f.files = f.files[:last]
	}
	return nil
}

// setAside renames an existing file to a name that is free.
func (c *file) setAside(dir *os.File) error {
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
	err = c.save(dir)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	if c.immutable, err = rootfs.ClearImmutable(dir, c.name); err == nil {
		if err = c.save(dir); err != nil {
			err = errors.Join(err, rootfs.SetImmutable(dir, c.name, c.immutable))
		}
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (an attribute of the directory may forbid it: lsattr -d %s)", err, dir.Name())
	}
	return err
}

// save renames the existing file.
func (c *file) save(dir *os.File) (err error) {
	const tries = 1000
	for n := range tries {
		saved := fmt.Sprintf(".%s.packer-chroot-%d", c.name, n)
		err = rootfs.Rename(dir, c.name, saved, unix.RENAME_NOREPLACE)
		if err == nil {
			c.saved = saved
		}
		if !errors.Is(err, unix.EEXIST) {
			break
		}
	}
	return err
}

// write creates the file, and records its checksum, mode and owner.
func (c *file) write(ctx context.Context, dir *os.File, src io.Reader, mode os.FileMode) error {
	dst, err := rootfs.OpenAt(dir, c.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "create", Path: dir.Name() + c.name, Err: err}
	}
	sum := sha256.New()
	err = transfer.Copy(ctx, io.MultiWriter(dst, sum), src)
	sum.Sum(c.sum[:0])
	err = errors.Join(err, dst.Chmod(mode))
	var st unix.Stat_t
	err = errors.Join(err, unix.Fstat(int(dst.Fd()), &st), dst.Close())
	c.mode, c.uid, c.gid = st.Mode, st.Uid, st.Gid
	return err
}

// putBack removes the file, and restores the one that was there before.
func (c *file) putBack(open func() (*rootfs.Root, error)) error {
	in, err := open()
	if err != nil {
		return err
	}
	defer in.Close()
	dir, err := in.Open(c.dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return rootfs.IgnoreMissing(rootfs.IgnoreDangling(err)) // removed with its directory
	}
	defer dir.Close()
	same, err := c.unchanged(dir)
	if err != nil {
		return err
	}
	if err := c.restore(dir, same); err != nil {
		return err
	}
	return in.RemoveDirs(c.dirs)
}

// restore restores the saved file if the other one is unchanged, and drops it otherwise.
func (c *file) restore(dir *os.File, same bool) error {
	switch {
	case same && c.saved != "":
		err := rootfs.Rename(dir, c.saved, c.name, 0)
		if errors.Is(err, unix.ENOENT) { // the saved file was removed inside
			return rootfs.Remove(dir, c.name)
		}
		return errors.Join(err, rootfs.SetImmutable(dir, c.name, c.immutable))
	case same:
		return rootfs.Remove(dir, c.name)
	case c.saved != "":
		return rootfs.Remove(dir, c.saved)
	default:
		return nil
	}
}

// unchanged reports whether the file is still the one that was put there.
func (c *file) unchanged(dir *os.File) (bool, error) {
	found, st, err := rootfs.Entry{Dir: dir, Name: c.name, Path: c.name}.OpenPath()
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "stat", Path: dir.Name() + c.name, Err: err}
	}
	defer found.Close()
	if st.Mode != c.mode || st.Uid != c.uid || st.Gid != c.gid { // possibly not even a file
		return false, nil
	}
	f, err := rootfs.Reopen(found, unix.O_RDONLY)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: dir.Name() + c.name, Err: err}
	}
	defer f.Close()
	if rootfs.Immutable(f) != 0 {
		return false, nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return false, err
	}
	return [sha256.Size]byte(sum.Sum(nil)) == c.sum, nil
}
