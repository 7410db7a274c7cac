package chroot

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
	// bufferSize is what is read and written at once where the kernel cannot copy by
	// itself; more gains nothing.
	bufferSize = 256 << 10
	// piece is what the kernel copies between two looks at the context.
	piece = 16 << 20
	// blockSize is the unit of st_blocks; stat(2).
	blockSize = 512
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// content copies what a regular file holds to an empty one.
type content struct{ dst, src *os.File }

// copy keeps the holes of a file that takes less room than its size says.
func (c content) copy(ctx context.Context, st *unix.Stat_t) error {
	switch {
	case st.Size <= bufferSize: // which may be a lie, as in /proc
		return c.byHand(ctx, 0, math.MaxInt64)
	case st.Blocks*blockSize < st.Size:
		return c.sparse(ctx)
	default:
		return c.stretch(ctx, 0, math.MaxInt64)
	}
}

// sparse copies what is between the holes.
func (c content) sparse(ctx context.Context) error {
	src := int(c.src.Fd())
	for at := int64(0); ; {
		data, err := unix.Seek(src, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if errors.Is(err, unix.EINVAL) && at == 0 { // a file system that cannot tell
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

// stretch has the kernel copy from one offset to another or to the end of the
// file, and does by hand what the kernel will not: between different kinds of file
// systems, for one. Linux 6.18 answers 0 for files whose size is not known.
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

// copyTo copies until the end or until ctx is cancelled.
func copyTo(ctx context.Context, dst io.Writer, src io.Reader) error {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	// Only Read and Write are shown: what else the two can do would do without the
	// buffer and the context.
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, &reader{ctx, src}, buffer[:])
	return err
}

// reader ends with a context, for which io.Reader has no place.
type reader struct {
	ctx context.Context
	src io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.src.Read(p)
}
