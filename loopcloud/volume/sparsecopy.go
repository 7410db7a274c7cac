//go:build linux

package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// unfinished is the prefix of the name of a file that is being written.
const unfinished = ".unfinished-"

// create creates a file atomically. The file must not exist.
func create(file string, write func(*os.File) error) error {
	if _, err := os.Lstat(file); err == nil {
		return &fs.PathError{Op: "create", Path: file, Err: fs.ErrExist}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return replace(file, write)
}

// replace creates a file or replaces it, atomically.
func replace(file string, write func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), unfinished+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = write(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// sweep removes the unfinished files of a killed process from a directory.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), unfinished) {
			errs = append(errs, remove.All(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// clone creates dst as a sparse copy of src of this size; 0 means the size of src.
func clone(dst, src string, size int64) error {
	return create(dst, func(out *os.File) error { return copyFile(out, src, size) })
}

// copyFile copies the content of src into an empty file. Its cost depends on the written data,
// not on the size.
func copyFile(out *os.File, src string, size int64) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	length, err := in.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size == 0 {
		size = length
	}
	if size < length {
		return fmt.Errorf("%s has %d bytes, more than %d", src, length, size)
	}
	// Btrfs and XFS share the blocks; every other file system returns its own error.
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) != nil {
		stretch := copyRange
		if onTmpfs(in) {
			stretch = copyBlocks
		}
		if err := eachData(in, length, func(at, end int64) error { return stretch(out, in, at, end) }); err != nil {
			return err
		}
	}
	return out.Truncate(size)
}

// onTmpfs reports whether a file is on a tmpfs. A tmpfs does not know zeroed ranges, such as the empty journal of a new ext4,
// so such zeros are data there, and take memory in each copy.
func onTmpfs(f *os.File) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &st) == nil && st.Type == unix.TMPFS_MAGIC
}

// eachData calls a function with every part of a file that is not a hole.
func eachData(f *os.File, length int64, call func(at, end int64) error) error {
	for end := int64(0); end < length; {
		at, err := f.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // a hole up to the end
		}
		if errors.Is(err, unix.EINVAL) {
			at, err = end, nil // the file system has no holes
		}
		if err != nil {
			return err
		}
		if end, err = f.Seek(at, unix.SEEK_HOLE); errors.Is(err, unix.EINVAL) {
			end, err = length, nil
		}
		if err != nil {
			return err
		}
		if err := call(at, end); err != nil {
			return err
		}
	}
	return nil
}

// copyRange copies within the kernel, or in user space between file systems that do not support
// this.
func copyRange(out, in *os.File, at, end int64) error {
	from, to := at, at
	for from < end {
		n, err := unix.CopyFileRange(int(in.Fd()), &from, int(out.Fd()), &to, int(min(end-from, 1<<30)), 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
			return copyBlocks(out, in, from, end)
		case err != nil:
			return fmt.Errorf("cannot copy %s: %w", in.Name(), err)
		case n == 0:
			return fmt.Errorf("cannot copy %s: %w", in.Name(), io.ErrUnexpectedEOF)
		}
	}
	return nil
}

// copyBlocks copies data in user space. Zeros become holes, except that a block of only zeros begins with 4 KiB of them: a
// snapshot has the block then, too.
func copyBlocks(out, in *os.File, at, end int64) error {
	return copyWith(writeBlock, out, in, at, end)
}

// copyWith reads data in parts that end where blocks end, and writes them with a function.
func copyWith(write func(*os.File, []byte, int64) error, out, in *os.File, at, end int64) error {
	buf := make([]byte, state.BlockSize)
	for at < end {
		part := buf[:min(state.BlockSize-at%state.BlockSize, end-at)]
		n, err := in.ReadAt(part, at)
		if n < len(part) {
			return fmt.Errorf("cannot copy %s: %w", in.Name(), err)
		}
		if err := write(out, part, at); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// writeBlock writes a block, or a part of it, into a hole.
func writeBlock(f *os.File, data []byte, at int64) error {
	if isZero(data) {
		_, err := f.WriteAt(zeros[:min(block, len(data))], at)
		return err
	}
	return writeNonZero(f, data, at)
}

const block = 4096

var zeros [block]byte

// writeNonZero writes the blocks that are not zero, adjacent ones together.
func writeNonZero(out *os.File, chunk []byte, at int64) error {
	start := -1 // of the current run of blocks
	for i := 0; ; i += block {
		last := i >= len(chunk)
		zero := last || bytes.Equal(chunk[i:min(i+block, len(chunk))], zeros[:min(block, len(chunk)-i)])
		switch {
		case zero && start >= 0:
			if _, err := out.WriteAt(chunk[start:min(i, len(chunk))], at+int64(start)); err != nil {
				return err
			}
			start = -1
		case !zero && start < 0:
			start = i
		}
		if last {
			return nil
		}
	}
}
