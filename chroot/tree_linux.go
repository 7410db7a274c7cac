package chroot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// copier copies a directory into another one. It goes from open directory to open
// directory by single names and follows no link of either side on its way, so that
// nothing that is renamed meanwhile leads it elsewhere, and no path is walked once
// per file. What an entry is, is looked at without opening it; a device or a pipe
// is never opened.
//
// Links are copied as links, hard links among the files as such; modes, times and
// holes are kept. Created files belong to owner. A directory
// that is there stays as it is and is added to.
type copier struct {
	// from and to are the paths of both directories, for errors.
	from, to string
	top      *os.File
	// image is set when the destination is in an image: a link that is there means
	// what it means in the chroot. On the host a link is replaced by a file, and is
	// no directory.
	image *inside
	// dst is the destination's path in the image.
	dst     string
	exclude []string
	// owner is the user that created files belong to; root leaves them as they are.
	owner owner
	// note, if not nil, is told of every file and directory copied, a directory after
	// what it holds; made says that it was not there.
	note func(path string, f *os.File, made bool)

	itself inode
	// links are the files with several names that were copied, by what they were.
	links map[inode]copiedFile
}

// inode is what tells files apart.
type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// copiedFile is a file with several names: where its copy is, and what.
type copiedFile struct {
	path string
	is   inode
}

// spot is an entry of an open directory; path is the same below the directory that
// is copied.
type spot struct {
	dir        *os.File
	name, path string
}

func (s spot) fd() int { return int(s.dir.Fd()) }

// child is an entry of the directory that is open as dir.
func (s spot) child(dir *os.File, name string) spot {
	return spot{dir, name, path.Join(s.path, name)}
}

// peek opens an entry, whatever it is, without touching it.
func (s spot) peek() (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := unix.Openat(s.fd(), s.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, st, err
	}
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, st, err
	}
	return os.NewFile(uintptr(fd), s.path), st, nil
}

// start checks the patterns and notes where the copy goes to, which is not to be
// copied itself.
func (c *copier) start(top *os.File) error {
	for _, pattern := range c.exclude {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("exclude %q: %w", pattern, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(top.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: c.to, Err: err}
	}
	c.top, c.itself, c.links = top, inodeOf(&st), map[inode]copiedFile{}
	return nil
}

// copy copies the directory src to the entry at of the destination, which may be
// the destination itself: ".".
func (c *copier) copy(ctx context.Context, src *os.File, at string) error {
	if at == "." {
		return c.children(ctx, src, c.top, spot{}, spot{})
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return c.reading("stat", spot{}, err)
	}
	return c.directory(ctx, src, &st, spot{}, spot{c.top, at, at})
}

// matching copies the entries of src whose names match.
func (c *copier) matching(ctx context.Context, src *os.File, pattern string) error {
	found := false
	err := c.each(ctx, src, spot{}, func(name string) error {
		ok, err := path.Match(pattern, name)
		if err != nil {
			return fmt.Errorf("%q: %w", pattern, err)
		}
		if !ok {
			return nil
		}
		found = true
		return c.entry(ctx, spot{src, name, name}, spot{c.top, name, name})
	})
	if _, bad := path.Match(pattern, ""); err == nil && !found {
		return fmt.Errorf("%q: %w", pattern, cmp.Or(bad, os.ErrNotExist))
	}
	return err
}

// each calls for the entries that are not excluded.
func (c *copier) each(ctx context.Context, dir *os.File, at spot, do func(name string) error) error {
	const batch = 1024 // a directory may be as large as it likes
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			if c.excluded(path.Join(at.path, name)) {
				continue
			}
			if err := do(name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.reading("read", at, err)
		}
	}
}

func (c *copier) children(ctx context.Context, src, dst *os.File, from, to spot) error {
	return c.each(ctx, src, from, func(name string) error {
		return c.entry(ctx, from.child(src, name), to.child(dst, name))
	})
}

// entry copies one entry, a directory with all it holds.
func (c *copier) entry(ctx context.Context, from, to spot) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	found, st, err := from.peek()
	if err != nil {
		return c.reading("open", from, err)
	}
	defer found.Close()
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		src, err := openAt(found, ".", unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return c.reading("open", from, err)
		}
		defer src.Close()
		return c.directory(ctx, src, &st, from, to)
	case unix.S_IFREG:
		return c.file(ctx, found, &st, from, to)
	case unix.S_IFLNK:
		return c.link(found, &st, from, to)
	default:
		return fmt.Errorf("%s is %s: only files, directories and links can be copied", c.from+"/"+from.path, kindOfStat(&st))
	}
}

func (c *copier) directory(ctx context.Context, src *os.File, st *unix.Stat_t, from, to spot) error {
	if inodeOf(st) == c.itself {
		return fmt.Errorf("%s cannot be copied into itself", c.to)
	}
	dst, made, err := c.mkdir(to)
	if err != nil {
		return c.writing("mkdir", to, err)
	}
	defer dst.Close()
	if err := c.children(ctx, src, dst, from, to); err != nil || !made {
		return err
	}
	return c.finish(dst, st, to, true)
}

// mkdir makes a directory for this process alone, and opens it, or the one that is
// there.
func (c *copier) mkdir(to spot) (dir *os.File, made bool, err error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW
	err = unix.Mkdirat(to.fd(), to.name, 0o700)
	made = err == nil
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, false, err
	}
	dir, err = openAt(to.dir, to.name, flags)
	if !made && c.image != nil && isLink(err) {
		dir, err = c.image.open(c.inImage(to), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	if err == nil && made {
		if err = c.owner.take(dir); err != nil {
			dir.Close()
		}
	}
	return dir, made, err
}

// isLink says that O_NOFOLLOW met what may be a link: with O_DIRECTORY the kernel
// says that it is no directory.
func isLink(err error) bool { return errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) }

func (c *copier) file(ctx context.Context, found *os.File, st *unix.Stat_t, from, to spot) error {
	if st.Nlink > 1 && c.linked(st, to) {
		return nil
	}
	src, err := reopen(found, unix.O_RDONLY)
	if err != nil {
		return c.reading("open", from, err)
	}
	defer src.Close()
	dst, made, err := c.create(to)
	if err != nil {
		return c.writing("create", to, err)
	}
	err = content{dst: dst, src: src}.copy(ctx, st)
	if err == nil {
		err = c.finish(dst, st, to, made)
	} else if made {
		discardAt(to.dir, to.name, dst)
	}
	err = errors.Join(err, dst.Close())
	var told *os.PathError
	if errors.As(err, &told) && (told.Op == "read" || told.Op == "seek") {
		return c.reading(told.Op, from, told.Err)
	}
	if err != nil {
		return c.writing("write", to, err)
	}
	return nil
}

// create opens a file to be written from its beginning.
func (c *copier) create(to spot) (f *os.File, made bool, err error) {
	f, err = c.createNew(to)
	if !errors.Is(err, unix.EEXIST) {
		return f, true, err
	}
	there, st, err := to.peek()
	if err != nil {
		return nil, false, err
	}
	defer there.Close()
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFREG:
		f, err = reopen(there, unix.O_WRONLY|unix.O_TRUNC)
	case kind == unix.S_IFLNK && c.image != nil:
		return c.image.create(c.inImage(to), 0o600)
	case kind == unix.S_IFLNK:
		if err = unix.Unlinkat(to.fd(), to.name, 0); err == nil {
			f, err = c.createNew(to)
		}
	default:
		err = fmt.Errorf("%s is in the way", kindOfStat(&st))
	}
	return f, false, err
}

func (c *copier) createNew(to spot) (*os.File, error) {
	f, err := openAt(to.dir, to.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	if err := c.owner.take(f); err != nil {
		discardAt(to.dir, to.name, f)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// linked makes a further name of a file that was copied under another one. It
// answers false where that cannot be done, and the file must be copied.
func (c *copier) linked(st *unix.Stat_t, to spot) bool {
	first, ok := c.links[inodeOf(st)]
	if !ok {
		return false
	}
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	fd, err := again(func() (int, error) { return unix.Openat2(int(c.top.Fd()), first.path, &how) })
	if err != nil {
		return false
	}
	f := os.NewFile(uintptr(fd), first.path)
	defer f.Close()
	var is unix.Stat_t
	if unix.Fstat(fd, &is) != nil || inodeOf(&is) != first.is {
		return false
	}
	return unix.Linkat(unix.AT_FDCWD, procPath(f), to.fd(), to.name, unix.AT_SYMLINK_FOLLOW) == nil
}

// finish gives a copy the times of its source and, if the copy was created, its mode.
func (c *copier) finish(dst *os.File, st *unix.Stat_t, to spot, made bool) error {
	if made {
		if err := unix.Fchmod(int(dst.Fd()), c.owner.mode(st)); err != nil {
			return &os.PathError{Op: "chmod", Path: c.to + "/" + to.path, Err: err}
		}
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, procPath(dst), []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
		return &os.PathError{Op: "set the times of", Path: c.to + "/" + to.path, Err: err}
	}
	if c.note != nil {
		c.note(c.inImage(to), dst, made)
	}
	if st.Nlink > 1 && st.Mode&unix.S_IFMT == unix.S_IFREG {
		var is unix.Stat_t
		if unix.Fstat(int(dst.Fd()), &is) == nil {
			c.links[inodeOf(st)] = copiedFile{to.path, inodeOf(&is)}
		}
	}
	return nil
}

// link makes a symbolic link in the place of another one, or of a file.
func (c *copier) link(found *os.File, st *unix.Stat_t, from, to spot) error {
	target, err := readLink(found)
	if err != nil {
		return c.reading("readlink", from, err)
	}
	err = unix.Symlinkat(target, to.fd(), to.name)
	if errors.Is(err, unix.EEXIST) && unix.Unlinkat(to.fd(), to.name, 0) == nil {
		err = unix.Symlinkat(target, to.fd(), to.name)
	}
	if err == nil {
		err = unix.UtimesNanoAt(to.fd(), to.name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil {
		err = c.owner.takeLink(to)
	}
	if err != nil {
		return c.writing("symlink", to, err)
	}
	return nil
}

func readLink(f *os.File) (string, error) {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buffer)
	return string(buffer[:max(n, 0)]), err
}

// excluded says whether an entry's name, or its path, matches a pattern.
func (c *copier) excluded(name string) bool {
	for _, pattern := range c.exclude {
		for _, candidate := range []string{name, path.Base(name)} {
			if ok, _ := path.Match(strings.TrimSuffix(pattern, "/"), candidate); ok {
				return true
			}
		}
	}
	return false
}

// inImage is the path of a destination as the image sees it.
func (c *copier) inImage(to spot) string { return c.dst + "/" + to.path }

func (c *copier) reading(op string, from spot, err error) error {
	return about(op, c.from, from, err)
}

func (c *copier) writing(op string, to spot, err error) error {
	return about(op, c.to, to, err)
}

// about says which path an error is about, unless it says so itself.
func about(op, base string, at spot, err error) error {
	var told *os.PathError
	if errors.As(err, &told) && strings.HasPrefix(told.Path, base) {
		return err
	}
	if told != nil {
		err = told.Err
	}
	return &os.PathError{Op: op, Path: strings.TrimSuffix(base+"/"+at.path, "/"), Err: err}
}

// openAt opens an entry of an open directory; the error is the kernel's.
func openAt(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// reopen opens for use a regular file that was found by peek.
func reopen(found *os.File, flags int) (*os.File, error) {
	fd, err := unix.Open(procPath(found), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), found.Name()), nil
}
