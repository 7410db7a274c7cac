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

// Upload implements Root. It creates missing directories. An existing file is
// written over, so that it keeps its mode, its owner and its other names. A link is
// followed as in the chroot. A file that Upload created is removed if its content
// cannot be written.
func (m *Mounted) Upload(ctx context.Context, dst string, src io.Reader, file NewFile) error {
	if err := m.upload(ctx, dst, src, file); err != nil {
		return fmt.Errorf("cannot upload to %s: %w", dst, err)
	}
	return nil
}

func (m *Mounted) upload(ctx context.Context, dst string, src io.Reader, file NewFile) error {
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.close()
	dst, err = in.destination(dst, file.Name)
	if err != nil {
		return err
	}
	f, made, err := in.create(dst, file.Mode)
	if err != nil {
		return err
	}
	was, err := f.Stat()
	if err == nil {
		err = fill(ctx, f, src)
	}
	if err == nil { // writing takes set-uid and set-gid away
		err = f.Chmod(was.Mode())
	}
	if err != nil && made {
		in.discard(dst, f)
	}
	m.uploads.note(dst, f, made)
	m.uploads.noteDirs(in)
	return errors.Join(err, f.Close())
}

// destination returns the path of the file to write: dst itself or, if a directory is
// there and the file has a name, that name in it, as cp(1) does.
func (in *inside) destination(dst, name string) (string, error) {
	dir, err := in.open(dst, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil || name == "" {
		if err == nil {
			err = dir.Close()
		}
		return dst, ignoreMissing(ignoreLinks(err))
	}
	if name == "." || name == ".." || strings.Contains(name, "/") {
		return "", errors.Join(fmt.Errorf("%q is not a file name", name), dir.Close())
	}
	return strings.TrimRight(dst, "/") + "/" + name, dir.Close()
}

// discard removes a file that was created and could not be filled, unless another
// file has taken its place.
func (in *inside) discard(path string, f *os.File) {
	parent, name := split(path)
	dir, err := in.open(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	defer dir.Close()
	discardAt(dir, name, f)
}

// discardAt is discard for an entry of an open directory.
func discardAt(dir *os.File, name string, f *os.File) {
	var made, there unix.Stat_t
	if unix.Fstat(int(f.Fd()), &made) != nil {
		return
	}
	err := unix.Fstatat(int(dir.Fd()), name, &there, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && inodeOf(&there) == inodeOf(&made) {
		_ = unix.Unlinkat(int(dir.Fd()), name, 0)
	}
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
// root. Existing directories are added to, and existing files keep their mode and
// owner. An entry is left out if its name, or
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
	return m.downloadDirFor(ctx, src, dst, exclude, owner{})
}

// downloadDirFor is DownloadDir for a user: what it creates belongs to that user.
func (m *Mounted) downloadDirFor(ctx context.Context, src, dst string, exclude []string, whose owner) error {
	if err := m.downloadDir(ctx, src, dst, exclude, whose); err != nil {
		return fmt.Errorf("cannot download the directory %s to %s: %w", src, dst, err)
	}
	return nil
}

func (m *Mounted) downloadDir(ctx context.Context, src, dst string, exclude []string, whose owner) error {
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
	if err := whose.mkdirAll(dst); err != nil {
		return err
	}
	to, err := openDir(dst)
	if err != nil {
		return err
	}
	defer to.Close()
	c := &copier{from: trimmed(from.Name()), to: trimmed(dst), exclude: exclude, owner: whose}
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
