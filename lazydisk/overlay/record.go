package overlay

import (
	"encoding/binary"
	"math/bits"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// recordSize is the size of a block's record in the map file: a bit for each page, then a byte of
// flags, then zeros. A block that is neither written nor present has a record of zeros, which takes
// no space in a sparse file.
const recordSize = 32

// flagPresent is set if the source has the block.
const flagPresent = 1

const words = block.Pages / 64

// Record is the state of a block.
type Record struct {
	written [words]uint64
	// Present reports whether the source has the block.
	Present bool
}

// Written reports whether a page was written.
func (r *Record) Written(page int) bool { return r.written[page/64]>>(page%64)&1 != 0 }

// WrittenPages returns the number of written pages.
func (r *Record) WrittenPages() int {
	n := 0
	for _, w := range r.written {
		n += bits.OnesCount64(w)
	}
	return n
}

// run returns the number of pages from first, and before end, that are all written or all
// unwritten, as first is.
func (r *Record) run(first, end int) (n int, written bool) {
	written = r.Written(first)
	for n = 1; first+n < end && r.Written(first+n) == written; n++ {
	}
	return n, written
}

// mark marks pages as written and reports whether that changed the record.
func (r *Record) mark(first, n int) (changed bool) {
	for page := first; page < first+n; page++ {
		if !r.Written(page) {
			r.written[page/64] |= 1 << (page % 64)
			changed = true
		}
	}
	return changed
}

// encode writes the record to b, which has recordSize bytes.
func (r *Record) encode(b []byte) {
	clear(b[:recordSize])
	for i, w := range r.written {
		binary.LittleEndian.PutUint64(b[8*i:], w)
	}
	if r.Present {
		b[8*words] = flagPresent
	}
}

// decodeRecord returns the record that b holds.
func decodeRecord(b []byte) Record {
	var r Record
	for i := range r.written {
		r.written[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	r.Present = b[8*words]&flagPresent != 0
	return r
}
