package transfer

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

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
)

// copier copies a directory into another one. It goes from open directory to open
// directory by single names and follows no link of either side, so that no file that is
// renamed in the meantime leads it elsewhere, and no path is resolved once per file. It
// reads the kind of an entry from an O_PATH descriptor; a device or a pipe is never opened.
//
// Links are copied as links, hard links among the files as such; modes, times and holes
// are kept. Created files belong to owner. An existing directory is added to.
type copier struct {
	// from and to are the paths of both directories, for errors.
	from, to string
	top      *os.File
	// image is set if the destination is in an image: an existing link is followed as in
	// the chroot. On the host a link is replaced by a file, and is not a directory.
	image *rootfs.Root
	// dst is the destination's path in the image.
	dst     string
	exclude []string
	// owner is the user to whom created files belong.
	owner Owner
	// note, if not nil, is called with every copied file and directory, a directory after
	// its content; made reports whether it was created.
	note func(path string, f *os.File, made bool)

	itself rootfs.Inode
	// links are the copies of files with several names, by the inode of the source.
	links map[rootfs.Inode]copiedFile
}

// copiedFile is the copy of a file with several names.
type copiedFile struct {
	path string
	is   rootfs.Inode
}

// start checks the patterns and records the destination, which must not be copied itself.
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
	c.top, c.itself, c.links = top, rootfs.InodeOf(&st), map[rootfs.Inode]copiedFile{}
	return nil
}

// copy copies the directory src to the entry at of the destination, which may be
// the destination itself: ".".
func (c *copier) copy(ctx context.Context, src *os.File, at string) error {
	if at == "." {
		return c.children(ctx, src, c.top, rootfs.Entry{}, rootfs.Entry{})
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return c.reading("stat", rootfs.Entry{}, err)
	}
	return c.directory(ctx, src, &st, rootfs.Entry{}, rootfs.Entry{Dir: c.top, Name: at, Path: at})
}

// matching copies the entries of src whose names match.
func (c *copier) matching(ctx context.Context, src *os.File, pattern string) error {
	found := false
	err := c.each(ctx, src, rootfs.Entry{}, func(name string) error {
		ok, err := path.Match(pattern, name)
		if err != nil {
			return fmt.Errorf("%q: %w", pattern, err)
		}
		if !ok {
			return nil
		}
		found = true
		return c.entry(ctx, rootfs.Entry{Dir: src, Name: name, Path: name}, rootfs.Entry{Dir: c.top, Name: name, Path: name})
	})
	if _, bad := path.Match(pattern, ""); err == nil && !found {
		return fmt.Errorf("%q: %w", pattern, cmp.Or(bad, os.ErrNotExist))
	}
	return err
}

// each calls do for the entries that are not excluded.
func (c *copier) each(ctx context.Context, dir *os.File, at rootfs.Entry, do func(name string) error) error {
	const batch = 1024 // a directory may have any size
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			if c.excluded(path.Join(at.Path, name)) {
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

// children copies the entries of a directory.
func (c *copier) children(ctx context.Context, src, dst *os.File, from, to rootfs.Entry) error {
	return c.each(ctx, src, from, func(name string) error {
		return c.entry(ctx, from.Child(src, name), to.Child(dst, name))
	})
}

// entry copies one entry, a directory with its content.
func (c *copier) entry(ctx context.Context, from, to rootfs.Entry) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	found, st, err := from.OpenPath()
	if err != nil {
		return c.reading("open", from, err)
	}
	defer found.Close()
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		src, err := rootfs.OpenAt(found, ".", unix.O_RDONLY|unix.O_DIRECTORY)
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
		return fmt.Errorf("%s is %s: only files, directories and links can be copied", c.from+"/"+from.Path, rootfs.KindOfStat(&st))
	}
}

// directory copies a directory with its content.
func (c *copier) directory(ctx context.Context, src *os.File, st *unix.Stat_t, from, to rootfs.Entry) error {
	if rootfs.InodeOf(st) == c.itself {
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

// mkdir creates a directory that only this process can use, or opens the existing one.
func (c *copier) mkdir(to rootfs.Entry) (dir *os.File, made bool, err error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW
	err = unix.Mkdirat(to.Fd(), to.Name, 0o700)
	made = err == nil
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, false, err
	}
	dir, err = rootfs.OpenAt(to.Dir, to.Name, flags)
	if !made && c.image != nil && isLink(err) {
		dir, err = c.image.Open(c.inImage(to), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	}
	if err == nil && made {
		if err = c.owner.take(dir); err != nil {
			dir.Close()
		}
	}
	return dir, made, err
}

// isLink reports whether an open with O_NOFOLLOW may have met a link: with O_DIRECTORY the
// kernel returns ENOTDIR for one.
func isLink(err error) bool { return errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) }

// file copies a regular file.
func (c *copier) file(ctx context.Context, found *os.File, st *unix.Stat_t, from, to rootfs.Entry) error {
	if st.Nlink > 1 && c.linked(st, to) {
		return nil
	}
	src, err := rootfs.Reopen(found, unix.O_RDONLY)
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
		rootfs.DiscardAt(to.Dir, to.Name, dst)
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

// create opens a file for writing from its beginning.
func (c *copier) create(to rootfs.Entry) (f *os.File, made bool, err error) {
	f, err = c.createNew(to)
	if !errors.Is(err, unix.EEXIST) {
		return f, true, err
	}
	there, st, err := to.OpenPath()
	if err != nil {
		return nil, false, err
	}
	defer there.Close()
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFREG:
		f, err = rootfs.Reopen(there, unix.O_WRONLY|unix.O_TRUNC)
	case kind == unix.S_IFLNK && c.image != nil:
		return c.image.Create(c.inImage(to), 0o600)
	case kind == unix.S_IFLNK:
		if err = unix.Unlinkat(to.Fd(), to.Name, 0); err == nil {
			f, err = c.createNew(to)
		}
	default:
		err = fmt.Errorf("%s is in the way", rootfs.KindOfStat(&st))
	}
	return f, false, err
}

func (c *copier) createNew(to rootfs.Entry) (*os.File, error) {
	f, err := rootfs.OpenAt(to.Dir, to.Name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	if err := c.owner.take(f); err != nil {
		rootfs.DiscardAt(to.Dir, to.Name, f)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// linked creates a hard link to a file that was copied under another name. It returns
// false if it cannot, and the file must be copied.
func (c *copier) linked(st *unix.Stat_t, to rootfs.Entry) bool {
	first, ok := c.links[rootfs.InodeOf(st)]
	if !ok {
		return false
	}
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	fd, err := rootfs.RetryOpenat2(func() (int, error) { return unix.Openat2(int(c.top.Fd()), first.path, &how) })
	if err != nil {
		return false
	}
	f := os.NewFile(uintptr(fd), first.path)
	defer f.Close()
	var is unix.Stat_t
	if unix.Fstat(fd, &is) != nil || rootfs.InodeOf(&is) != first.is {
		return false
	}
	return unix.Linkat(unix.AT_FDCWD, rootfs.ProcPath(f), to.Fd(), to.Name, unix.AT_SYMLINK_FOLLOW) == nil
}

// finish sets the times of a copy and, if it was created, its mode.
func (c *copier) finish(dst *os.File, st *unix.Stat_t, to rootfs.Entry, made bool) error {
	if made {
		if err := unix.Fchmod(int(dst.Fd()), c.owner.mode(st)); err != nil {
			return &os.PathError{Op: "chmod", Path: c.to + "/" + to.Path, Err: err}
		}
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, rootfs.ProcPath(dst), []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
		return &os.PathError{Op: "set the times of", Path: c.to + "/" + to.Path, Err: err}
	}
	if c.note != nil {
		c.note(c.inImage(to), dst, made)
	}
	if st.Nlink > 1 && st.Mode&unix.S_IFMT == unix.S_IFREG {
		var is unix.Stat_t
		if unix.Fstat(int(dst.Fd()), &is) == nil {
			c.links[rootfs.InodeOf(st)] = copiedFile{to.Path, rootfs.InodeOf(&is)}
		}
	}
	return nil
}

// link creates a symbolic link in the place of another one, or of a file.
func (c *copier) link(found *os.File, st *unix.Stat_t, from, to rootfs.Entry) error {
	target, err := rootfs.LinkTarget(found)
	if err != nil {
		return c.reading("readlink", from, err)
	}
	err = unix.Symlinkat(target, to.Fd(), to.Name)
	if errors.Is(err, unix.EEXIST) && unix.Unlinkat(to.Fd(), to.Name, 0) == nil {
		err = unix.Symlinkat(target, to.Fd(), to.Name)
	}
	if err == nil {
		err = unix.UtimesNanoAt(to.Fd(), to.Name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil {
		err = c.owner.takeLink(to)
	}
	if err != nil {
		return c.writing("symlink", to, err)
	}
	return nil
}

// excluded reports whether an entry's name, or its path, matches a pattern.
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

// inImage returns the path of a destination inside the image.
func (c *copier) inImage(to rootfs.Entry) string { return c.dst + "/" + to.Path }

// reading returns an error about the source.
func (c *copier) reading(op string, from rootfs.Entry, err error) error {
	return about(op, c.from, from, err)
}

// writing returns an error about the destination.
func (c *copier) writing(op string, to rootfs.Entry, err error) error {
	return about(op, c.to, to, err)
}

// about adds a path to an error that has none.
func about(op, base string, at rootfs.Entry, err error) error {
	var told *os.PathError
	if errors.As(err, &told) && strings.HasPrefix(told.Path, base) {
		return err
	}
	if told != nil {
		err = told.Err
	}
	return &os.PathError{Op: op, Path: strings.TrimSuffix(base+"/"+at.Path, "/"), Err: err}
}
