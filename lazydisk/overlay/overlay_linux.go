package overlay

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// Overlay holds the changes of a disk.
type Overlay struct {
	blocks int64
	// data holds the pages at their places, and records the map of the blocks.
	data, records *os.File
}

// Create creates an empty overlay of a disk of a number of blocks. Its files are in dir, without
// names.
func Create(dir string, blocks int64) (*Overlay, error) {
	o := &Overlay{blocks: blocks}
	var err error
	if o.data, err = nameless(dir, blocks*block.Size); err != nil {
		return nil, err
	}
	if o.records, err = nameless(dir, blocks*recordSize); err != nil {
		o.data.Close()
		return nil, err
	}
	return o, nil
}

// nameless creates a sparse file that has no name, so that nothing of it remains if this process
// is killed.
func nameless(dir string, size int64) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	var f *os.File
	switch {
	case err == nil:
		f = os.NewFile(uintptr(fd), filepath.Join(dir, "(unnamed)"))
	case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR):
		f, err = os.CreateTemp(dir, "packer-chroot-overlay-")
		if err == nil {
			err = os.Remove(f.Name())
		}
	}
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, fmt.Errorf("cannot create a file for changed blocks in %s: %w", dir, err)
	}
	return f, nil
}

// Close removes the overlay.
func (o *Overlay) Close() {
	o.data.Close()
	o.records.Close()
}

// Blocks returns the number of blocks of the disk.
func (o *Overlay) Blocks() int64 { return o.blocks }

// Record returns the state of a block.
func (o *Overlay) Record(index int64) (Record, error) {
	var b [recordSize]byte
	if _, err := o.records.ReadAt(b[:], index*recordSize); err != nil {
		return Record{}, fmt.Errorf("cannot read the state of block %d: %w", index, err)
	}
	return decodeRecord(b[:]), nil
}

func (o *Overlay) setRecord(index int64, r *Record) error {
	var b [recordSize]byte
	r.encode(b[:])
	if _, err := o.records.WriteAt(b[:], index*recordSize); err != nil {
		return fmt.Errorf("cannot write the state of block %d: %w", index, err)
	}
	return nil
}

// presentBatch is the number of records that SetPresent writes at once.
const presentBatch = 2048

// SetPresent records that the source has blocks. It must be called before anything is written.
func (o *Overlay) SetPresent(r block.Range) error {
	if r.First < 0 || r.Count < 0 || r.First > o.blocks || r.Count > o.blocks-r.First {
		return fmt.Errorf("the source has blocks %d to %d, and the disk only has %d", r.First, r.First+r.Count-1, o.blocks)
	}
	present := Record{Present: true}
	b := make([]byte, recordSize*min(r.Count, presentBatch))
	for i := 0; i < len(b); i += recordSize {
		present.encode(b[i:])
	}
	for r.Count > 0 {
		n := min(r.Count, presentBatch)
		if _, err := o.records.WriteAt(b[:n*recordSize], r.First*recordSize); err != nil {
			return fmt.Errorf("cannot write the list of present blocks: %w", err)
		}
		r.First, r.Count = r.First+n, r.Count-n
	}
	return nil
}

// Part is a part of a block in which either all pages were written or none.
type Part struct {
	// Offset and Length are in bytes, within the block.
	Offset, Length int
	// Written reports whether the overlay holds the part.
	Written bool
}

// Parts returns the parts of length bytes at an offset of a block.
func (r *Record) Parts(offset, length int) []Part {
	var parts []Part
	end := offset + length
	for offset < end {
		n, written := r.run(offset/block.PageSize, (end+block.PageSize-1)/block.PageSize)
		next := min(end, (offset/block.PageSize+n)*block.PageSize)
		parts = append(parts, Part{offset, next - offset, written})
		offset = next
	}
	return parts
}

// ReadAt reads written pages.
func (o *Overlay) ReadAt(p []byte, off int64) error {
	if _, err := o.data.ReadAt(p, off); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("cannot read changed blocks: %w", err)
	}
	return nil
}

// WriteAt writes whole pages of one block.
func (o *Overlay) WriteAt(p []byte, off int64) error {
	if _, err := o.data.WriteAt(p, off); err != nil {
		return fmt.Errorf("cannot store changed blocks: %w", err)
	}
	return o.mark(off, int64(len(p)))
}

// mark marks whole pages of one block as written.
func (o *Overlay) mark(off, length int64) error {
	index := off / block.Size
	r, err := o.Record(index)
	if err != nil {
		return err
	}
	if r.mark(int(off%block.Size/block.PageSize), int(length/block.PageSize)) {
		return o.setRecord(index, &r)
	}
	return nil
}

// Zero writes zeros to whole pages of one block, and frees their space.
func (o *Overlay) Zero(off, length int64) error {
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	r, err := o.Record(off / block.Size)
	if err != nil {
		return err
	}
	if !r.Present && r.WrittenPages() == 0 {
		return nil // it is zero
	}
	err = unix.Fallocate(int(o.data.Fd()), punch, off, length)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return o.WriteAt(make([]byte, length), off)
	}
	if err != nil {
		return fmt.Errorf("cannot discard changed blocks: %w", err)
	}
	return o.mark(off, length)
}

// Sync returns an error if written pages were lost.
func (o *Overlay) Sync() error {
	if err := errors.Join(o.data.Sync(), o.records.Sync()); err != nil {
		return fmt.Errorf("changed blocks were lost: %w", err)
	}
	return nil
}

// Next returns the first block with an index of at least from that is present or of which pages
// were written. It returns the number of blocks if there is none.
func (o *Overlay) Next(from int64) (int64, error) { return o.search(from, recordSize) }

// NextWritten returns the first block with an index of at least from of which pages were written,
// or the number of blocks.
func (o *Overlay) NextWritten(from int64) (int64, error) { return o.search(from, 8*words) }

// search returns the first block whose record has a byte other than 0 among the first ones.
func (o *Overlay) search(from int64, bytes int) (int64, error) {
	for from < o.blocks {
		start, err := o.records.Seek(from*recordSize, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return o.blocks, nil
		}
		if err != nil {
			return 0, fmt.Errorf("cannot search changed blocks: %w", err)
		}
		found, next, err := o.scan(max(from, start/recordSize), bytes)
		if err != nil || found {
			return next, err
		}
		from = next
	}
	return o.blocks, nil
}

// scan searches some records and returns the block at which the search ended.
func (o *Overlay) scan(from int64, bytes int) (found bool, next int64, err error) {
	var b [256 * recordSize]byte
	n := min(o.blocks-from, int64(len(b)/recordSize))
	if _, err := o.records.ReadAt(b[:n*recordSize], from*recordSize); err != nil {
		return false, 0, fmt.Errorf("cannot search changed blocks: %w", err)
	}
	for i := range n {
		if !block.IsZero(b[i*recordSize:][:bytes]) {
			return true, from + i, nil
		}
	}
	return false, from + n, nil
}
