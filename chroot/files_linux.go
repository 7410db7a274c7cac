package chroot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Upload implements Root. Missing directories are made. A file that is there is
// written over, so that it keeps its owner and its other names; a link is followed
// as in the chroot.
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
	f, made, err := in.create(dst, mode)
	if err != nil {
		return err
	}
	err = fill(ctx, f, src)
	m.uploads.note(dst, f, made)
	m.uploads.noteDirs(in)
	return errors.Join(err, f.Close())
}

// fill writes a file that is empty.
func fill(ctx context.Context, dst *os.File, src io.Reader) error {
	file, ok := src.(*os.File)
	if !ok || !atStart(file) {
		return copyTo(ctx, dst, src)
	}
	return content{dst: dst, src: file}.stretch(ctx, 0, math.MaxInt64)
}

// atStart says whether a file is a regular one of which nothing was read yet.
func atStart(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	at, err := f.Seek(0, io.SeekCurrent)
	return err == nil && at == 0
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
	if file, ok := dst.(*os.File); ok && atStart(file) {
		return content{dst: file, src: f}.stretch(ctx, 0, math.MaxInt64)
	}
	return copyTo(ctx, dst, f)
}

// UploadDir implements Root. Links are copied as links, and files with several
// names as such; modes, times and holes are kept, and what is made belongs to
// root. What is there already is added to. An entry is left out if its name, or
// its path below src, matches a pattern of exclude (path.Match); a directory with
// all it holds. A device, a named pipe or a socket is an error.
func (m *Mounted) UploadDir(ctx context.Context, dst, src string, exclude []string) error {
	if err := m.uploadDir(ctx, dst, src, exclude); err != nil {
		return fmt.Errorf("cannot upload the directory %s to %s: %w", src, dst, err)
	}
	return nil
}

func (m *Mounted) uploadDir(ctx context.Context, dst, src string, exclude []string) error {
	from, err := openDir(src)
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
	to, err := in.open(dst, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	c := &copier{from: trimmed(src), to: trimmed(to.Name()), image: in, dst: trimmed(dst), exclude: exclude, note: m.uploads.note}
	if err := c.start(to); err != nil {
		return err
	}
	defer m.uploads.noteDirs(in)
	return c.copy(ctx, from, placed(src))
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
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.close()
	dir, pattern := src, ""
	if parent, last := split(src); strings.ContainsAny(last, `*?[`) {
		dir, pattern = parent, last
	}
	from, err := in.open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return err
	}
	to, err := openDir(dst)
	if err != nil {
		return err
	}
	defer to.Close()
	c := &copier{from: trimmed(from.Name()), to: trimmed(dst), exclude: exclude}
	if err := c.start(to); err != nil {
		return err
	}
	if pattern != "" {
		return c.matching(ctx, from, pattern)
	}
	return c.copy(ctx, from, placed(src))
}

// openDir opens a directory of the host, and nothing else.
func openDir(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// trimmed is a directory's path without slashes at its end.
func trimmed(path string) string { return strings.TrimRight(path, "/") }

// placed is where below the destination a directory goes: under its own name or,
// with a slash at the end, in the destination itself.
func placed(src string) string {
	_, name := split(src)
	if name == "" || name == "." || name == ".." {
		return "."
	}
	return name
}
