package cow

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/fetch"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/overlay"
)

// stripes is the number of locks that the blocks share.
const stripes = 256

// Content is the content of a disk. Its methods may be called by several goroutines.
type Content struct {
	overlay *overlay.Overlay
	fetcher *fetch.Fetcher
	locks   [stripes]sync.RWMutex

	read, written atomic.Int64
}

// New returns the content of an overlay over a fetcher. The fetcher is not used for blocks that the
// overlay does not list as present.
func New(o *overlay.Overlay, f *fetch.Fetcher) *Content { return &Content{overlay: o, fetcher: f} }

// Size returns the size of the disk in bytes.
func (c *Content) Size() int64 { return c.overlay.Blocks() * block.Size }

// Traffic returns the numbers of bytes that were read and written.
func (c *Content) Traffic() (read, written int64) { return c.read.Load(), c.written.Load() }

// each calls a function with each part of a range that lies in one block.
func (c *Content) each(off, length int64, call func(index, within, n int64) error) error {
	if off < 0 || length < 0 || off > c.Size() || length > c.Size()-off {
		return fmt.Errorf("%d bytes at %d are not within the disk", length, off)
	}
	for length > 0 {
		within := off % block.Size
		n := min(length, block.Size-within)
		if err := call(off/block.Size, within, n); err != nil {
			return err
		}
		off, length = off+n, length-n
	}
	return nil
}

// ReadAt reads a part of the disk.
func (c *Content) ReadAt(p []byte, off int64) error {
	c.read.Add(int64(len(p)))
	return c.each(off, int64(len(p)), func(index, within, n int64) error {
		lock := &c.locks[index%stripes]
		lock.RLock()
		defer lock.RUnlock()
		err := c.readBlock(p[:n], index, within, true)
		p = p[n:]
		return err
	})
}

// readBlock reads a part of a locked block. It prefetches the next blocks if ahead is true.
func (c *Content) readBlock(p []byte, index, within int64, ahead bool) error {
	r, err := c.overlay.Record(index)
	if err != nil {
		return c.failed(index, false, err)
	}
	for _, part := range r.Parts(int(within), len(p)) {
		into := p[part.Offset-int(within):][:part.Length]
		switch {
		case part.Written:
			if err := c.overlay.ReadAt(into, index*block.Size+int64(part.Offset)); err != nil {
				return c.failed(index, false, err)
			}
		case r.Present:
			if ahead {
				c.fetcher.Prefetch(index*block.Size+int64(part.Offset), int64(part.Length))
			}
			if err := c.fetcher.ReadAt(into, index, int64(part.Offset)); err != nil {
				return err
			}
		default:
			clear(into)
		}
	}
	return nil
}

// failed records an error of the overlay.
func (c *Content) failed(index int64, write bool, err error) error {
	f := &block.DiskError{Write: write, Index: index, Reason: err.Error()}
	c.fetcher.Fail(f)
	return err
}

// WriteAt writes a part of the disk.
func (c *Content) WriteAt(p []byte, off int64) error {
	c.written.Add(int64(len(p)))
	return c.each(off, int64(len(p)), func(index, within, n int64) error {
		lock := &c.locks[index%stripes]
		lock.Lock()
		defer lock.Unlock()
		err := c.writeBlock(p[:n], index, within)
		p = p[n:]
		return err
	})
}

// writeBlock writes a part of a locked block.
func (c *Content) writeBlock(p []byte, index, within int64) error {
	const mask = block.PageSize - 1
	first, last := within&^mask, (within+int64(len(p))+mask)&^mask
	if first != within || last != within+int64(len(p)) {
		pages, err := c.widen(p, index, within, first, last)
		if err != nil {
			return err
		}
		p = pages
	}
	if err := c.overlay.WriteAt(p, index*block.Size+first); err != nil {
		return c.failed(index, true, err)
	}
	return nil
}

// widen returns the content of the pages from first to last with p written to them.
func (c *Content) widen(p []byte, index, within, first, last int64) ([]byte, error) {
	pages := make([]byte, last-first)
	end := within + int64(len(p))
	if first != within {
		if err := c.readBlock(pages[:block.PageSize], index, first, false); err != nil {
			return nil, err
		}
	}
	if at := last - block.PageSize; last != end && (at != first || first == within) {
		if err := c.readBlock(pages[at-first:], index, at, false); err != nil {
			return nil, err
		}
	}
	copy(pages[within-first:], p)
	return pages, nil
}

// Zero writes zeros to a part of the disk. Whole pages of zeros take no space.
func (c *Content) Zero(off, length int64) error {
	next := int64(-1) // blocks before it have no content
	return c.each(off, length, func(index, within, n int64) (err error) {
		if index < next {
			return nil
		}
		lock := &c.locks[index%stripes]
		lock.Lock()
		defer lock.Unlock()
		if next, err = c.overlay.Next(index); err != nil {
			return c.failed(index, true, err)
		}
		if index < next {
			return nil
		}
		return c.zeroBlock(index, within, n)
	})
}

// zeroBlock writes zeros to a part of a locked block.
func (c *Content) zeroBlock(index, within, n int64) error {
	const mask = block.PageSize - 1
	first, last := (within+mask)&^mask, (within+n)&^mask
	if first >= last {
		return c.writeBlock(make([]byte, n), index, within)
	}
	if first > within {
		if err := c.writeBlock(make([]byte, first-within), index, within); err != nil {
			return err
		}
	}
	if last < within+n {
		if err := c.writeBlock(make([]byte, within+n-last), index, last); err != nil {
			return err
		}
	}
	if err := c.overlay.Zero(index*block.Size+first, last-first); err != nil {
		return c.failed(index, true, err)
	}
	return nil
}

// Sync returns an error if written data was lost.
func (c *Content) Sync() error {
	if err := c.overlay.Sync(); err != nil {
		return c.failed(0, true, err)
	}
	return nil
}

// NextChange returns the first block with an index of at least from that was written, or the
// number of blocks.
func (c *Content) NextChange(from int64) (int64, error) { return c.overlay.NextWritten(from) }

// Change reads a block that was written into p, completed from the source.
func (c *Content) Change(index int64, p []byte) (Change, error) {
	lock := &c.locks[index%stripes]
	lock.RLock()
	defer lock.RUnlock()
	r, err := c.overlay.Record(index)
	if err != nil {
		return Change{}, err
	}
	if err := c.readBlock(p, index, 0, false); err != nil {
		return Change{}, err
	}
	change := Change{Index: index, Sum: sha256.Sum256(p), Zero: block.IsZero(p), InParent: r.Present}
	if r.Present && (!change.Zero || c.fetcher.Holds(index)) {
		// A block whose original cannot be read any more counts as changed. So do zeros whose
		// original is not in the cache: snapshots hardly ever have blocks of zeros.
		sum, err := c.fetcher.Sum(index)
		change.Equal = err == nil && sum == change.Sum
	}
	return change, nil
}
