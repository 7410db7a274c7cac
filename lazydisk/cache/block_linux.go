package cache

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// Block is an open block. It can be read after its file was removed from the cache.
type Block struct {
	source *Source
	index  int64
	file   *os.File
	header *header
	// dropped is true once the block was found to be damaged.
	dropped atomic.Bool
}

// load reads and verifies the header, and marks the block as used.
func (b *Block) load() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(b.file.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: b.file.Name(), Err: err}
	}
	if st.Size != fileSize {
		return fmt.Errorf("%w: %s has %d bytes", errDamaged, b.file.Name(), st.Size)
	}
	var raw [headerSize]byte
	if _, err := b.file.ReadAt(raw[:], 0); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	h, err := decodeHeader(raw[:])
	if err != nil {
		return err
	}
	if h.index != b.index || h.key != b.source.key {
		return fmt.Errorf("%w: %s is block %d of another source", errDamaged, b.file.Name(), h.index)
	}
	b.header = h
	b.touch(time.Unix(st.Mtim.Unix()))
	return nil
}

// touch writes the time of the last use, if it is older than touchAfter.
func (b *Block) touch(last time.Time) {
	now := time.Now()
	if age := now.Sub(last); age > touchAfter || age < 0 {
		at := unix.NsecToTimeval(now.UnixNano())
		_ = unix.Futimes(int(b.file.Fd()), []unix.Timeval{at, at})
	}
}

// Close closes the block.
func (b *Block) Close() { b.file.Close() }

// Sum returns the checksum of the block.
func (b *Block) Sum() block.Sum { return b.header.sum }

// ReadAt reads a part of the block and verifies the pages that it consists of. If they are
// damaged, it removes the block from the cache, and the error wraps ErrDamaged.
func (b *Block) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > block.Size {
		return 0, fmt.Errorf("cannot read %d bytes at %d of a block", len(p), off)
	}
	if off%block.PageSize != 0 || len(p)%block.PageSize != 0 {
		return b.readWithin(p, off)
	}
	_, err := b.file.ReadAt(p, headerSize+off)
	if err == nil {
		err = b.header.verify(p, int(off/block.PageSize))
	}
	return len(p), b.judge(err)
}

// readWithin reads a part that does not consist of whole pages.
func (b *Block) readWithin(p []byte, off int64) (int, error) {
	first := off &^ (block.PageSize - 1)
	last := (off + int64(len(p)) + block.PageSize - 1) &^ (block.PageSize - 1)
	pages := make([]byte, last-first)
	if _, err := b.ReadAt(pages, first); err != nil {
		return 0, err
	}
	return copy(p, pages[off-first:]), nil
}

// ErrDamaged is wrapped by the error of reading a block that differs from its checksum.
var ErrDamaged = errDamaged

// judge removes the block from the cache if an error shows that it is damaged.
func (b *Block) judge(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EIO) {
		err = fmt.Errorf("%w: %w", errDamaged, err)
	}
	if errors.Is(err, errDamaged) && !b.dropped.Swap(true) {
		b.source.drop(b)
	}
	return err
}
