package disk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// Offsets in a boot sector.
const (
	bootSignature = 440 // 4 bytes, the disk's identity
	bootEntries   = 446 // four entries of 16 bytes
	bootMagic     = 510 // 55 aa
	bootSize      = 512
)

// typeProtective is the MBR type that announces a GPT.
const typeProtective = 0xee

// entry is one of the four of a boot sector; start and count are in sectors.
type entry struct {
	active       bool
	kind         byte
	start, count int64
}

func (e entry) used() bool     { return e.kind != 0 && e.count > 0 }
func (e entry) extended() bool { return e.kind == 0x05 || e.kind == 0x0f || e.kind == 0x85 }

// boot holds the partitions of a boot sector, or of an extended boot record.
type boot struct {
	signature uint32
	entries   [4]entry
}

// protective reports whether the disk has a GPT. As in Linux one such entry is enough, so
// that a hybrid MBR counts too.
func (b boot) protective() bool {
	return slices.ContainsFunc(b.entries[:], func(e entry) bool { return e.kind == typeProtective })
}

// parseBoot parses a boot sector. It returns none without the magic number, and if a flag
// is neither active nor inactive: then code or a file system's parameters are in the
// place of the entries.
func parseBoot(sector []byte) (boot, bool) {
	if len(sector) < bootSize || sector[bootMagic] != 0x55 || sector[bootMagic+1] != 0xaa {
		return boot{}, false
	}
	b := boot{signature: binary.LittleEndian.Uint32(sector[bootSignature:])}
	for i := range b.entries {
		raw := sector[bootEntries+16*i:]
		if raw[0] != 0 && raw[0] != 0x80 {
			return boot{}, false
		}
		b.entries[i] = entry{
			active: raw[0] == 0x80,
			kind:   raw[4],
			start:  int64(binary.LittleEndian.Uint32(raw[8:])),
			count:  int64(binary.LittleEndian.Uint32(raw[12:])),
		}
	}
	return b, true
}

// mbr reads the primary partitions and follows the chains of logical ones.
func (d reader) mbr(b boot, first []byte) (Table, error) {
	t := Table{Kind: MBR}
	for i, e := range b.entries {
		t.add(d, b.signature, i+1, e)
	}
	if len(t.Partitions) == 0 && d.fileSystem(first) {
		return Table{}, nil
	}
	next := 5
	for _, e := range b.entries {
		if !e.used() || !e.extended() {
			continue
		}
		if err := d.logical(&t, b.signature, e, &next); err != nil {
			return Table{}, err
		}
	}
	return t, nil
}

// logical adds the partitions of the chain of records in an extended partition.
func (d reader) logical(t *Table, signature uint32, extended entry, next *int) error {
	records, err := d.chain(extended)
	if err != nil {
		return fmt.Errorf("cannot read the logical partitions: %w", err)
	}
	for _, r := range records {
		for _, e := range r.entries {
			if e.used() && !e.extended() {
				e.start += r.at
				if t.add(d, signature, *next, e) {
					*next++
				}
			}
		}
	}
	return nil
}

// record is an extended boot record.
type record struct {
	boot
	at     int64 // in sectors of the disk
	sector []byte
	link   int // the entry that leads to the next record; -1 is none
}

// chain follows the extended boot records of an extended partition. Each holds a
// partition relative to itself, and the next record relative to the extended partition. A
// chain ends if it comes back to a record, leaves the disk, meets a sector that is not a
// record, or has more records than Linux has numbers for partitions.
func (d reader) chain(extended entry) (records []record, err error) {
	seen := map[int64]bool{}
	for at := extended.start; at < d.sectors && !seen[at] && len(seen) < maxPartitions; {
		seen[at] = true
		sector, err := d.read(at, 1)
		if err != nil {
			return nil, err
		}
		b, ok := parseBoot(sector)
		if !ok {
			break
		}
		r := record{b, at, sector, slices.IndexFunc(b.entries[:], func(e entry) bool { return e.used() && e.extended() })}
		records = append(records, r)
		if r.link < 0 {
			break
		}
		at = extended.start + b.entries[r.link].start
	}
	return records, nil
}

// add appends an entry that is used and begins on the disk. Its end is cut at the disk's.
func (t *Table) add(d reader, signature uint32, number int, e entry) bool {
	if !e.used() || e.start >= d.sectors || number > maxPartitions {
		return false
	}
	t.Partitions = append(t.Partitions, Partition{
		Number:   number,
		Start:    e.start * d.sector,
		Length:   min(e.count, d.sectors-e.start) * d.sector,
		Type:     fmt.Sprintf("%02x", e.kind),
		GUID:     fmt.Sprintf("%08x-%02x", signature, number),
		Bootable: e.active,
	})
	return true
}

// Magic numbers of file systems whose first sector can look like a boot sector without
// partitions, and their offsets. Those of FAT and NTFS are in that sector, those of ext4
// and btrfs after it.
var fileSystems = []struct {
	at    int64
	magic string
}{
	{0x03, "NTFS    "},
	{0x36, "FAT"},
	{0x52, "FAT32"},
	{0x438, "\x53\xef"},
	{0x10040, "_BHRfS_M"},
}

// fileSystem reports whether a disk with a boot sector is a file system as a whole: a
// boot loader's code ends with the same magic number as a table.
func (d reader) fileSystem(first []byte) bool {
	for _, fs := range fileSystems {
		buf := make([]byte, len(fs.magic))
		if end := fs.at + int64(len(buf)); end <= int64(len(first)) {
			copy(buf, first[fs.at:])
		} else if end > d.sectors*d.sector {
			continue
		} else if n, _ := d.r.ReadAt(buf, fs.at); n < len(buf) {
			continue
		}
		if bytes.Equal(buf, []byte(fs.magic)) {
			return true
		}
	}
	return false
}
