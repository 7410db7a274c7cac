package packages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The format of rpm's own database, ndb: a header, pages of slots that have the places of headers, and the
// headers. All numbers are little-endian.
const (
	ndbMagic   = "RpmP"
	slotMagic  = "Slot"
	blobMagic  = "BlbS"
	ndbHeader  = 32
	ndbPage    = 4096
	slotSize   = 16
	blockSize  = 16
	blobHeader = 16
	// mostSlotPages is the maximum number of pages of slots.
	mostSlotPages = 1 << 12
)

// errNDB is the error for a database of rpm that cannot be read.
var errNDB = errors.New("it is not an ndb database of rpm, or damaged")

// readNDB reads the packages of an ndb database.
func readNDB(file io.ReaderAt, bytes int64) ([]Package, error) {
	var header [ndbHeader]byte
	if _, err := file.ReadAt(header[:], 0); err != nil || string(header[:4]) != ndbMagic {
		return nil, errNDB
	}
	if version := binary.LittleEndian.Uint32(header[4:]); version != 0 {
		return nil, fmt.Errorf("%w: it has version %d", errNDB, version)
	}
	pages := binary.LittleEndian.Uint32(header[12:])
	if pages > mostSlotPages || int64(pages)*ndbPage > bytes {
		return nil, fmt.Errorf("%w: it has %d pages of slots", errNDB, pages)
	}
	slots := make([]byte, int64(pages)*ndbPage)
	if _, err := file.ReadAt(slots, 0); err != nil {
		return nil, err
	}
	var all []Package
	for at := ndbHeader; at+slotSize <= len(slots); at += slotSize {
		p, used, err := readSlot(file, bytes, slots[at:at+slotSize])
		if err != nil {
			return nil, err
		}
		if used {
			all = append(all, p)
		}
		if err := tooMany(all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// readSlot reads the package of a slot. used is false if the slot has none.
func readSlot(file io.ReaderAt, bytes int64, slot []byte) (p Package, used bool, err error) {
	if string(slot[:4]) != slotMagic {
		return p, false, fmt.Errorf("%w: a slot has no magic number", errNDB)
	}
	index, block := binary.LittleEndian.Uint32(slot[4:]), int64(binary.LittleEndian.Uint32(slot[8:]))
	if block == 0 {
		return p, false, nil
	}
	var head [blobHeader]byte
	at := block * blockSize
	if _, err := file.ReadAt(head[:], at); err != nil {
		return p, false, fmt.Errorf("%w: a header is outside of it", errNDB)
	}
	length := int64(binary.LittleEndian.Uint32(head[12:]))
	if string(head[:4]) != blobMagic || binary.LittleEndian.Uint32(head[4:]) != index || at+blobHeader+length > bytes {
		return p, false, fmt.Errorf("%w: the header of package %d is not where its slot says", errNDB, index)
	}
	header := make([]byte, min(length, headerStart))
	if _, err := file.ReadAt(header, at+blobHeader); err != nil {
		return p, false, err
	}
	p, err = readHeader(header)
	return p, true, err
}
