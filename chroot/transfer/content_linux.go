package transfer

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// bufferSize is the number of bytes per read and write if the kernel cannot copy by
	// itself; a larger one gains nothing.
	bufferSize = 256 << 10
	// piece is the number of bytes that the kernel copies between two checks of the context.
	piece = 16 << 20
	// blockSize is the unit of st_blocks; stat(2).
	blockSize = 512
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// content copies the content of a regular file to an empty one.
type content struct{ dst, src *os.File }

// copy copies a file. It keeps holes if the file takes less space than its size.
func (c content) copy(ctx context.Context, st *unix.Stat_t) error {
	switch {
	case st.Size <= bufferSize: // which may be wrong, as in /proc
		return c.byHand(ctx, 0, math.MaxInt64)
	case st.Blocks*blockSize < st.Size:
		return c.sparse(ctx)
	default:
		return c.stretch(ctx, 0, math.MaxInt64)
	}
}

// sparse copies the data between the holes.
func (c content) sparse(ctx context.Context) error {
	src := int(c.src.Fd())
	for at := int64(0); ; {
		data, err := unix.Seek(src, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if errors.Is(err, unix.EINVAL) && at == 0 { // a file system that does not know its holes
			return c.stretch(ctx, 0, math.MaxInt64)
		}
		if err != nil {
			return &os.PathError{Op: "seek", Path: c.src.Name(), Err: err}
		}
		if at, err = unix.Seek(src, data, unix.SEEK_HOLE); err != nil {
			return &os.PathError{Op: "seek", Path: c.src.Name(), Err: err}
		}
		if err := c.stretch(ctx, data, at); err != nil {
			return err
		}
	}
	end, err := c.src.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	return c.dst.Truncate(end)
}

// stretch has the kernel copy from one offset to another, or to the end of the file. If
// the kernel cannot, for example between different kinds of file systems, it copies by
// itself. Linux 6.18 returns 0 for files of unknown size.
func (c content) stretch(ctx context.Context, at, end int64) error {
	for at < end {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		from, to := at, at
		n, err := unix.CopyFileRange(int(c.src.Fd()), &from, int(c.dst.Fd()), &to, int(min(end-at, piece)), 0)
		if err != nil || n == 0 {
			return c.byHand(ctx, at, end)
		}
		at += int64(n)
	}
	return nil
}

// byHand copies by reading and writing.
func (c content) byHand(ctx context.Context, at, end int64) error {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for at < end {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := c.src.ReadAt(buffer[:min(end-at, bufferSize)], at)
		if n > 0 {
			if _, err := c.dst.WriteAt(buffer[:n], at); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// Copy copies until the end of src or until ctx ends.
func Copy(ctx context.Context, dst io.Writer, src io.Reader) error {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	// The wrappers hide WriteTo and ReadFrom, which would bypass the buffer and the context.
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, &reader{ctx, src}, buffer[:])
	return err
}

// reader is an io.Reader that ends with a context.
type reader struct {
	ctx context.Context
	src io.Reader
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.src.Read(p)
}
