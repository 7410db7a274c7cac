package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/packer-chroot/packer-plugin-chroot/disk/superblock"
)

// The layout of a GPT header and its entries: UEFI specification, 5.3.
const (
	gptMagic      = "EFI PART"
	gptHeaderSize = 92
	gptEntrySize  = 128
	// gptMaxEntries is the greatest accepted size of the array of entries in bytes. The
	// usual 128 entries take 16 KiB.
	gptMaxEntries = 1 << 20
	// gptLegacyBoot is the attribute bit of a partition that a BIOS boots from.
	gptLegacyBoot = 1 << 2
)

// gpt reads the primary header, and the backup one if that is torn.
func (d reader) gpt() (Table, error) {
	t, err := d.gptAt(1)
	if err == nil {
		return t, nil
	}
	t, backup := d.gptAt(d.sectors - 1)
	if backup == nil {
		return t, nil
	}
	return Table{}, fmt.Errorf("the disk has a protective MBR and no sound GPT: %w",
		errors.Join(fmt.Errorf("primary header: %w", err), fmt.Errorf("backup header: %w", backup)))
}

// gptAt reads the header in a sector and the entries that it points to.
func (d reader) gptAt(lba int64) (Table, error) {
	sector, err := d.read(lba, 1)
	if err != nil {
		return Table{}, err
	}
	h, err := parseHeader(sector, lba)
	if err != nil {
		return Table{}, err
	}
	entries, err := d.gptEntries(h)
	if err != nil {
		return Table{}, err
	}
	t := Table{Kind: GPT}
	for i := 0; i < h.count && i < maxPartitions; i++ {
		if p, ok := parseEntry(entries[i*h.size:], d); ok {
			p.Number = i + 1
			t.Partitions = append(t.Partitions, p)
		}
	}
	return t, nil
}

// header has the place of the entries: count of them, size bytes each.
type header struct {
	entries     uint64
	count, size int
	crc         uint32
}

// parseHeader parses a header and verifies all of its fields.
func parseHeader(sector []byte, lba int64) (header, error) {
	le := binary.LittleEndian
	if string(sector[:8]) != gptMagic {
		return header{}, errors.New("it has no signature")
	}
	size := int64(le.Uint32(sector[12:]))
	if size < gptHeaderSize || size > int64(len(sector)) {
		return header{}, fmt.Errorf("its size of %d bytes cannot be", size)
	}
	sum := append([]byte(nil), sector[:size]...)
	copy(sum[16:20], []byte{0, 0, 0, 0})
	if crc32.ChecksumIEEE(sum) != le.Uint32(sector[16:]) {
		return header{}, errors.New("its checksum is wrong")
	}
	if at := le.Uint64(sector[24:]); at != uint64(lba) {
		return header{}, fmt.Errorf("it is in sector %d and says %d", lba, at)
	}
	count, each := uint64(le.Uint32(sector[80:])), uint64(le.Uint32(sector[84:]))
	if each < gptEntrySize || each%8 != 0 || count*each > gptMaxEntries {
		return header{}, fmt.Errorf("%d entries of %d bytes cannot be", count, each)
	}
	return header{le.Uint64(sector[72:]), int(count), int(each), le.Uint32(sector[88:])}, nil
}

// gptEntries reads the array of entries and verifies its checksum.
func (d reader) gptEntries(h header) ([]byte, error) {
	if h.entries > uint64(d.sectors) {
		return nil, fmt.Errorf("its entries are in sector %d, behind the end of the disk", h.entries)
	}
	bytes := int64(h.count) * int64(h.size)
	buf, err := d.read(int64(h.entries), (bytes+d.sector-1)/d.sector)
	if err != nil {
		return nil, err
	}
	buf = buf[:bytes]
	if crc32.ChecksumIEEE(buf) != h.crc {
		return nil, errors.New("the checksum of its entries is wrong")
	}
	return buf, nil
}

// parseEntry parses one entry. It returns none if the entry is unused or not within the
// disk.
func parseEntry(raw []byte, d reader) (Partition, bool) {
	le := binary.LittleEndian
	kind, first, last := guid(raw), le.Uint64(raw[32:]), le.Uint64(raw[40:])
	if kind == guid(make([]byte, 16)) || first > last || last >= uint64(d.sectors) {
		return Partition{}, false
	}
	return Partition{
		Start:    int64(first) * d.sector,
		Length:   int64(last-first+1) * d.sector,
		Type:     kind,
		GUID:     guid(raw[16:]),
		Name:     superblock.UTF16(raw[56:gptEntrySize]),
		Bootable: le.Uint64(raw[48:])&gptLegacyBoot != 0,
	}, true
}

// guid formats a GUID: its first three groups are little-endian on disk.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}
