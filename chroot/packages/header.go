package packages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// The tags of an rpm header that are read, and the types of their values.
const (
	tagName    = 1000
	tagVersion = 1001
	tagRelease = 1002
	tagEpoch   = 1003
	tagArch    = 1022

	typeInt32      = 4
	typeString     = 6
	typeI18NString = 9
)

const (
	// entrySize is the size of an entry of the index of a header.
	entrySize = 16
	// mostEntries is the maximum number of entries of an index, as in rpm itself.
	mostEntries = 1 << 16
	// headerStart is the size of the beginning of a header that has the tags which are read: the index and
	// the first values. Headers with the files of a kernel have many MiB.
	headerStart = 2 << 20
)

// errHeader is the error for an rpm header that cannot be read.
var errHeader = errors.New("an rpm header is damaged")

// readHeader reads a package from the beginning of an rpm header, as it is in a database: the numbers of
// entries and of bytes, the index, and the values. All numbers are big-endian.
func readHeader(header []byte) (Package, error) {
	if len(header) < 8 {
		return Package{}, errHeader
	}
	entries := int64(binary.BigEndian.Uint32(header))
	values := 8 + entries*entrySize
	if entries > mostEntries || values > int64(len(header)) {
		return Package{}, fmt.Errorf("%w: it has %d entries in %d bytes", errHeader, entries, len(header))
	}
	p, release, epoch := Package{Manager: "rpm"}, "", ""
	texts := map[uint32]*string{tagName: &p.Name, tagVersion: &p.Version, tagRelease: &release, tagArch: &p.Arch}
	for i := range entries {
		entry := header[8+i*entrySize:][:entrySize]
		tag, kind, offset := binary.BigEndian.Uint32(entry), binary.BigEndian.Uint32(entry[4:]), binary.BigEndian.Uint32(entry[8:])
		at := values + int64(offset)
		if text := texts[tag]; text != nil && (kind == typeString || kind == typeI18NString) {
			if at >= int64(len(header)) {
				return Package{}, fmt.Errorf("%w: tag %d is outside", errHeader, tag)
			}
			value, _, ended := bytes.Cut(header[at:min(at+longestText+1, int64(len(header)))], []byte{0})
			if !ended {
				return Package{}, fmt.Errorf("%w: tag %d has no end", errHeader, tag)
			}
			*text = strings.ToValidUTF8(string(value), "�")
		}
		if tag == tagEpoch && kind == typeInt32 && at+4 <= int64(len(header)) {
			epoch = fmt.Sprintf("%d:", binary.BigEndian.Uint32(header[at:]))
		}
	}
	if p.Version != "" && release != "" {
		p.Version = epoch + p.Version + "-" + release
	}
	if !p.valid() {
		return Package{}, fmt.Errorf("%w: it has no name or version", errHeader)
	}
	return p, nil
}
