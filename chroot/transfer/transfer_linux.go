package transfer

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
)

// Upload writes a file inside from a reader. If a directory is at dst and name is not
// empty, the file is written into it under that name. A created file gets mode, and is
// removed if its content cannot be written. An existing one keeps its mode, its owner and
// its other names. A link is followed as in the chroot.
func Upload(ctx context.Context, in *rootfs.Root, dst string, src io.Reader, file NewFile, u *Uploads) error {
	dst, err := in.Destination(dst, file.Name)
	if err != nil {
		return err
	}
	f, made, err := in.Create(dst, file.Mode)
	if err != nil {
		return err
	}
	was, err := f.Stat()
	if err == nil {
		err = fill(ctx, f, src)
	}
	if err == nil { // writing clears set-uid and set-gid
		err = f.Chmod(was.Mode())
	}
	if err != nil && made {
		in.Discard(dst, f)
	}
	u.add(dst, f, made)
	u.addDirs(in)
	return errors.Join(err, f.Close())
}

// Download reads a file inside.
func Download(ctx context.Context, in *rootfs.Root, src string, dst io.Writer) error {
	f, err := in.OpenFile(src, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	if file, ok := dst.(*os.File); ok && atStart(file) {
		return content{dst: file, src: f}.stretch(ctx, 0, math.MaxInt64)
	}
	return Copy(ctx, dst, f)
}

// UploadDir copies the host's directory src to dst inside. Without a slash at the end of
// src it is created in dst, and with one its content is. Links are copied as links, and
// files with several names as such; modes, times and holes are kept, and created files
// belong to root. Existing directories are added to, and existing files keep their mode
// and owner. An entry is left out if its name, or its path below src, matches a pattern of
// exclude (path.Match); a directory with its content. A device, a named pipe or a socket is
// an error.
func UploadDir(ctx context.Context, in *rootfs.Root, dst, src string, exclude []string, u *Uploads) error {
	from, err := openDir(src)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := in.MkdirAll(dst); err != nil {
		return err
	}
	to, err := in.Open(dst, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	c := &copier{from: trimmed(src), to: trimmed(to.Name()), image: in, dst: trimmed(dst), exclude: exclude, note: u.add}
	if err := c.start(to); err != nil {
		return err
	}
	defer u.addDirs(in)
	return c.copy(ctx, from, placed(src))
}

// DownloadDir copies a directory inside to the host as UploadTree does the other way; a
// copy belongs to whose. The last name of src may be a pattern (path.Match), and every
// entry that matches is copied into dst.
func DownloadDir(ctx context.Context, in *rootfs.Root, src, dst string, exclude []string, whose Owner) error {
	dir, pattern := src, ""
	if parent, last := rootfs.Split(src); strings.ContainsAny(last, `*?[`) {
		dir, pattern = parent, last
	}
	from, err := in.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
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

// fill writes an empty file.
func fill(ctx context.Context, dst *os.File, src io.Reader) error {
	file, ok := src.(*os.File)
	if !ok || !atStart(file) {
		return Copy(ctx, dst, src)
	}
	return content{dst: dst, src: file}.stretch(ctx, 0, math.MaxInt64)
}

// atStart reports whether a file is regular and at its beginning.
func atStart(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	at, err := f.Seek(0, io.SeekCurrent)
	return err == nil && at == 0
}

// openDir opens a directory of the host, and no other file.
func openDir(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// trimmed returns a directory's path without slashes at its end.
func trimmed(path string) string { return strings.TrimRight(path, "/") }

// placed returns the path of a directory's copy below the destination: its own name or,
// with a slash at the end, the destination itself.
func placed(src string) string {
	_, name := rootfs.Split(src)
	if name == "" || name == "." || name == ".." {
		return "."
	}
	return name
}
