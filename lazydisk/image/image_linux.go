package image

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/overlay"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/supply"
)

// stripes is the number of locks that the blocks share.
const stripes = 256

// Image is the content of a disk. Its methods may be called by several goroutines.
type Image struct {
	overlay *overlay.Overlay
	supply  *supply.Supply
	locks   [stripes]sync.RWMutex

	read, written, discarded atomic.Int64
}

// New returns the image of an overlay over a supply. The supply is not used for blocks that the
// overlay does not list as present.
func New(o *overlay.Overlay, s *supply.Supply) *Image { return &Image{overlay: o, supply: s} }

// Size returns the size of the disk in bytes.
func (m *Image) Size() int64 { return m.overlay.Blocks() * block.Size }

// Traffic returns the numbers of bytes that were read, written and discarded.
func (m *Image) Traffic() (read, written, discarded int64) {
	return m.read.Load(), m.written.Load(), m.discarded.Load()
}

// each calls a function with each part of a range that lies in one block.
func (m *Image) each(off, length int64, call func(index, within, n int64) error) error {
	if off < 0 || length < 0 || off > m.Size() || length > m.Size()-off {
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
func (m *Image) ReadAt(p []byte, off int64) error {
	m.read.Add(int64(len(p)))
	return m.each(off, int64(len(p)), func(index, within, n int64) error {
		lock := &m.locks[index%stripes]
		lock.RLock()
		defer lock.RUnlock()
		err := m.readBlock(p[:n], index, within, true)
		p = p[n:]
		return err
	})
}

// readBlock reads a part of a locked block. It prefetches the next blocks if ahead is true.
func (m *Image) readBlock(p []byte, index, within int64, ahead bool) error {
	r, err := m.overlay.Record(index)
	if err != nil {
		return m.failed(index, false, err)
	}
	for _, part := range r.Parts(int(within), len(p)) {
		into := p[part.Offset-int(within):][:part.Length]
		switch {
		case part.Written:
			if err := m.overlay.ReadAt(into, index*block.Size+int64(part.Offset)); err != nil {
				return m.failed(index, false, err)
			}
		case r.Present:
			if ahead {
				m.supply.Prefetch(index)
			}
			if err := m.supply.ReadAt(into, index, int64(part.Offset)); err != nil {
				return err
			}
		default:
			clear(into)
		}
	}
	return nil
}

// failed records an error of the overlay.
func (m *Image) failed(index int64, write bool, err error) error {
	f := &block.DiskError{Write: write, Index: index, Reason: err.Error()}
	m.supply.Fail(f)
	return err
}

// WriteAt writes a part of the disk.
func (m *Image) WriteAt(p []byte, off int64) error {
	m.written.Add(int64(len(p)))
	return m.each(off, int64(len(p)), func(index, within, n int64) error {
		lock := &m.locks[index%stripes]
		lock.Lock()
		defer lock.Unlock()
		err := m.writeBlock(p[:n], index, within)
		p = p[n:]
		return err
	})
}

// writeBlock writes a part of a locked block.
func (m *Image) writeBlock(p []byte, index, within int64) error {
	const mask = block.PageSize - 1
	first, last := within&^mask, (within+int64(len(p))+mask)&^mask
	if first != within || last != within+int64(len(p)) {
		pages, err := m.widen(p, index, within, first, last)
		if err != nil {
			return err
		}
		p = pages
	}
	if err := m.overlay.WriteAt(p, index*block.Size+first); err != nil {
		return m.failed(index, true, err)
	}
	return nil
}

// widen returns the content of the pages from first to last with p written to them.
func (m *Image) widen(p []byte, index, within, first, last int64) ([]byte, error) {
	pages := make([]byte, last-first)
	end := within + int64(len(p))
	if first != within {
		if err := m.readBlock(pages[:block.PageSize], index, first, false); err != nil {
			return nil, err
		}
	}
	if at := last - block.PageSize; last != end && (at != first || first == within) {
		if err := m.readBlock(pages[at-first:], index, at, false); err != nil {
			return nil, err
		}
	}
	copy(pages[within-first:], p)
	return pages, nil
}

// Zero writes zeros to a part of the disk. Whole pages of zeros take no space.
func (m *Image) Zero(off, length int64) error {
	m.discarded.Add(length)
	next := int64(-1) // blocks before it have no content
	return m.each(off, length, func(index, within, n int64) (err error) {
		if index < next {
			return nil
		}
		lock := &m.locks[index%stripes]
		lock.Lock()
		defer lock.Unlock()
		if next, err = m.overlay.Next(index); err != nil {
			return m.failed(index, true, err)
		}
		if index < next {
			return nil
		}
		return m.zeroBlock(index, within, n)
	})
}

// zeroBlock writes zeros to a part of a locked block.
func (m *Image) zeroBlock(index, within, n int64) error {
	const mask = block.PageSize - 1
	first, last := (within+mask)&^mask, (within+n)&^mask
	if first >= last {
		return m.writeBlock(make([]byte, n), index, within)
	}
	if first > within {
		if err := m.writeBlock(make([]byte, first-within), index, within); err != nil {
			return err
		}
	}
	if last < within+n {
		if err := m.writeBlock(make([]byte, within+n-last), index, last); err != nil {
			return err
		}
	}
	if err := m.overlay.Zero(index*block.Size+first, last-first); err != nil {
		return m.failed(index, true, err)
	}
	return nil
}

// Sync returns an error if written data was lost.
func (m *Image) Sync() error {
	if err := m.overlay.Sync(); err != nil {
		return m.failed(0, true, err)
	}
	return nil
}

// NextChange returns the first block with an index of at least from that was written, or the
// number of blocks.
func (m *Image) NextChange(from int64) (int64, error) { return m.overlay.NextWritten(from) }

// Change reads a block that was written into p, completed from the source.
func (m *Image) Change(index int64, p []byte) (Change, error) {
	lock := &m.locks[index%stripes]
	lock.RLock()
	defer lock.RUnlock()
	r, err := m.overlay.Record(index)
	if err != nil {
		return Change{}, err
	}
	if err := m.readBlock(p, index, 0, false); err != nil {
		return Change{}, err
	}
	c := Change{Index: index, Sum: sha256.Sum256(p), Zero: block.IsZero(p), InParent: r.Present}
	if r.Present && (!c.Zero || m.supply.Holds(index)) {
		// A block whose original cannot be read any more counts as changed. So do zeros whose
		// original is not in the cache: snapshots hardly ever have blocks of zeros.
		sum, err := m.supply.Sum(index)
		c.Equal = err == nil && sum == c.Sum
	}
	return c, nil
}
