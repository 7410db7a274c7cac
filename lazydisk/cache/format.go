package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// The file of a block is, with big-endian numbers:
//
//	magic     4 bytes    "lzb1"
//	checksum  4 bytes    CRC-32C of the rest of the header
//	index     8 bytes
//	key      32 bytes    SHA-256 of the key of the source
//	sum      32 bytes    SHA-256 of the block
//	pages   512 bytes    CRC-32C of each page
//	zeros                up to 4096 bytes
//	data     512 KiB
const (
	magic      = "lzb1"
	headerSize = 4096
	fileSize   = headerSize + block.Size

	atChecksum = 4
	atIndex    = 8
	atKey      = 16
	atSum      = atKey + sha256.Size
	atPages    = atSum + sha256.Size
	headerUsed = atPages + 4*block.Pages
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged is wrapped by errors about a file that is not the expected block.
var errDamaged = errors.New("damaged block in the cache")

// header describes a block.
type header struct {
	index int64
	key   [sha256.Size]byte
	sum   block.Sum
	pages [block.Pages]uint32
}

// newHeader returns the header of a block with the content data.
func newHeader(key [sha256.Size]byte, index int64, sum block.Sum, data []byte) *header {
	h := &header{index: index, key: key, sum: sum}
	for i := range h.pages {
		h.pages[i] = crc32.Checksum(data[i*block.PageSize:(i+1)*block.PageSize], castagnoli)
	}
	return h
}

// encode returns the header as it is in the file.
func (h *header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	binary.BigEndian.PutUint64(b[atIndex:], uint64(h.index))
	copy(b[atKey:], h.key[:])
	copy(b[atSum:], h.sum[:])
	for i, page := range h.pages {
		binary.BigEndian.PutUint32(b[atPages+4*i:], page)
	}
	binary.BigEndian.PutUint32(b[atChecksum:], crc32.Checksum(b[atIndex:], castagnoli))
	return b
}

// decodeHeader returns the header that b begins with.
func decodeHeader(b []byte) (*header, error) {
	if len(b) < headerSize {
		return nil, fmt.Errorf("%w: the header has %d bytes", errDamaged, len(b))
	}
	if string(b[:atChecksum]) != magic {
		return nil, fmt.Errorf("%w: unknown format %q", errDamaged, b[:atChecksum])
	}
	if crc32.Checksum(b[atIndex:headerSize], castagnoli) != binary.BigEndian.Uint32(b[atChecksum:]) {
		return nil, fmt.Errorf("%w: wrong checksum of the header", errDamaged)
	}
	h := &header{index: int64(binary.BigEndian.Uint64(b[atIndex:]))}
	copy(h.key[:], b[atKey:])
	copy(h.sum[:], b[atSum:])
	for i := range h.pages {
		h.pages[i] = binary.BigEndian.Uint32(b[atPages+4*i:])
	}
	return h, nil
}

// verify returns an error if p, which begins at a page, differs from the block's pages.
func (h *header) verify(p []byte, first int) error {
	for i := first; len(p) > 0; i++ {
		n := min(block.PageSize, len(p))
		if n < block.PageSize || crc32.Checksum(p[:n], castagnoli) != h.pages[i] {
			return fmt.Errorf("%w: wrong checksum of page %d of block %d", errDamaged, i, h.index)
		}
		p = p[n:]
	}
	return nil
}
