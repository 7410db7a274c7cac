package chroot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Upload implements Root. Missing directories are made.
func (m *Mounted) Upload(ctx context.Context, dst string, src io.Reader, mode os.FileMode) error {
	if err := m.upload(ctx, dst, src, mode); err != nil {
		return fmt.Errorf("cannot upload to %s: %w", dst, err)
	}
	return nil
}

func (m *Mounted) upload(ctx context.Context, dst string, src io.Reader, mode os.FileMode) error {
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.close()
	f, err := in.create(dst, mode)
	if err != nil {
		return err
	}
	return errors.Join(copyTo(ctx, f, src), f.Close())
}

// Download implements Root.
func (m *Mounted) Download(ctx context.Context, src string, dst io.Writer) error {
	if err := m.download(ctx, src, dst); err != nil {
		return fmt.Errorf("cannot download %s: %w", src, err)
	}
	return nil
}

func (m *Mounted) download(ctx context.Context, src string, dst io.Writer) error {
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.close()
	f, err := in.regular(src, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	return copyTo(ctx, dst, f)
}

// UploadDir implements Root. Links are copied as links, modes are kept, and what
// is there already is added to. An entry is left out if its name, or its path
// below src, matches a pattern of exclude (path.Match); a directory with all it
// holds.
func (m *Mounted) UploadDir(ctx context.Context, dst, src string, exclude []string) error {
	if err := m.uploadDir(ctx, dst, src, exclude); err != nil {
		return fmt.Errorf("cannot upload the directory %s to %s: %w", src, dst, err)
	}
	return nil
}

func (m *Mounted) uploadDir(ctx context.Context, dst, src string, exclude []string) error {
	from, err := os.OpenRoot(src)
	if err != nil {
		return err
	}
	defer from.Close()
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.close()
	if err := in.mkdirAll(dst); err != nil {
		return err
	}
	return tree{from: from, to: imageSide{in, dst}, exclude: exclude}.copy(ctx, placed(src))
}

// DownloadDir implements Root. It copies as UploadDir does. The last name of src
// may be a pattern (path.Match), as Packer's file provisioner passes it; every
// entry that matches is copied into dst.
func (m *Mounted) DownloadDir(ctx context.Context, src, dst string, exclude []string) error {
	if err := m.downloadDir(ctx, src, dst, exclude); err != nil {
		return fmt.Errorf("cannot download the directory %s to %s: %w", src, dst, err)
	}
	return nil
}

func (m *Mounted) downloadDir(ctx context.Context, src, dst string, exclude []string) error {
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return err
	}
	to, err := os.OpenRoot(dst)
	if err != nil {
		return err
	}
	defer to.Close()
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.close()
	dir, pattern := src, ""
	if parent, last := split(src); strings.ContainsAny(last, `*?[`) {
		dir, pattern = parent, last
	}
	from, err := in.openRoot(dir)
	if err != nil {
		return err
	}
	defer from.Close()
	t := tree{from: from, to: hostSide{to}, exclude: exclude}
	if pattern != "" {
		return t.matching(ctx, pattern)
	}
	return t.copy(ctx, placed(src))
}

// openRoot opens a directory inside from which nothing leads out, neither out of
// the image nor, unlike inside, out of the directory.
func (in *inside) openRoot(path string) (*os.Root, error) {
	dir, err := in.open(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return os.OpenRoot(procPath(dir))
}

// placed is where below the destination a directory goes: under its own name or,
// with a slash at the end, in the destination itself.
func placed(src string) string {
	_, name := split(src)
	if name == "" || name == "." || name == ".." {
		return "."
	}
	return name
}

// target is the side of a copy that is written. Paths are relative to where the
// copy goes; their parents exist.
type target interface {
	// mkdir makes a directory; one that exists stays as it is.
	mkdir(name string, mode os.FileMode) error
	create(name string, mode os.FileMode) (*os.File, error)
	// link makes a symbolic link in the place of another one, or of a file.
	link(name, to string) error
}

// tree is a directory to copy.
type tree struct {
	from    *os.Root
	to      target
	exclude []string
}

// copy copies the whole tree to be the directory at.
func (t tree) copy(ctx context.Context, at string) error {
	for _, pattern := range t.exclude {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("exclude %q: %w", pattern, err)
		}
	}
	return t.entry(ctx, ".", at)
}

// matching copies the entries whose names match.
func (t tree) matching(ctx context.Context, pattern string) error {
	names, err := t.names(".")
	if err != nil {
		return err
	}
	found := false
	for _, name := range names {
		ok, err := path.Match(pattern, name)
		if err != nil {
			return fmt.Errorf("%q: %w", pattern, err)
		}
		if !ok || t.excluded(name) {
			continue
		}
		found = true
		if err := t.entry(ctx, name, name); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%q: %w", pattern, os.ErrNotExist)
	}
	return nil
}

// entry copies one entry, a directory with all it holds.
func (t tree) entry(ctx context.Context, name, at string) error {
	info, err := t.from.Lstat(name)
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return t.directory(ctx, name, at, mode)
	case mode.IsRegular():
		return t.file(ctx, name, at, mode)
	case mode&os.ModeSymlink != 0:
		to, err := t.from.Readlink(name)
		if err != nil {
			return err
		}
		return t.to.link(at, to)
	default:
		return fmt.Errorf("%s is %s: only files, directories and links can be copied", name, kindOf(mode))
	}
}

func (t tree) directory(ctx context.Context, name, at string, mode os.FileMode) error {
	if err := t.to.mkdir(at, mode); err != nil {
		return err
	}
	names, err := t.names(name)
	if err != nil {
		return err
	}
	for _, child := range names {
		if t.excluded(path.Join(name, child)) {
			continue
		}
		if err := t.entry(ctx, path.Join(name, child), path.Join(at, child)); err != nil {
			return err
		}
	}
	return nil
}

func (t tree) file(ctx context.Context, name, at string, mode os.FileMode) error {
	src, err := t.from.Open(name)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := t.to.create(at, mode)
	if err != nil {
		return err
	}
	return errors.Join(copyTo(ctx, dst, src), dst.Close())
}

func (t tree) names(name string) ([]string, error) {
	dir, err := t.from.Open(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}

func (t tree) excluded(name string) bool {
	for _, pattern := range t.exclude {
		for _, candidate := range []string{name, path.Base(name)} {
			if ok, _ := path.Match(strings.TrimSuffix(pattern, "/"), candidate); ok {
				return true
			}
		}
	}
	return false
}

// imageSide writes into an image, where links are followed as in the chroot.
type imageSide struct {
	in  *inside
	dir string
}

func (s imageSide) at(name string) string { return s.dir + "/" + name }

func (s imageSide) mkdir(name string, mode os.FileMode) error {
	if name == "." {
		return nil
	}
	parent, last := split(s.at(name))
	return s.in.mkdir(parent, last, mode)
}

func (s imageSide) create(name string, mode os.FileMode) (*os.File, error) {
	return s.in.create(s.at(name), mode)
}

func (s imageSide) link(name, to string) error {
	parent, last := split(s.at(name))
	dir, err := s.in.open(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return replace(func() error {
		err := unix.Symlinkat(to, int(dir.Fd()), last)
		if err != nil {
			return &os.LinkError{Op: "symlink", Old: to, New: s.at(name), Err: err}
		}
		return nil
	}, func() error { return unix.Unlinkat(int(dir.Fd()), last, 0) })
}

// hostSide writes into a directory of the host, and never follows a link out of
// it: an earlier copy may have brought one.
type hostSide struct{ root *os.Root }

func (s hostSide) mkdir(name string, mode os.FileMode) error {
	err := s.root.Mkdir(name, 0o700)
	if err == nil {
		return s.root.Chmod(name, mode)
	}
	if info, statErr := s.root.Stat(name); statErr == nil && info.IsDir() {
		return nil
	}
	return err
}

func (s hostSide) create(name string, mode os.FileMode) (*os.File, error) {
	if info, err := s.root.Lstat(name); err == nil && info.Mode()&os.ModeSymlink != 0 {
		if err := s.root.Remove(name); err != nil {
			return nil, err
		}
	}
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(mode); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (s hostSide) link(name, to string) error {
	return replace(func() error { return s.root.Symlink(to, name) }, func() error { return s.root.Remove(name) })
}

// replace makes something; if something is there, that is removed first.
func replace(create, remove func() error) error {
	err := create()
	if !errors.Is(err, os.ErrExist) || remove() != nil {
		return err
	}
	return create()
}
