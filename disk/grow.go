package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
)

// Disk is a disk whose partition table can be read and written.
type Disk interface {
	io.ReaderAt
	io.WriterAt
}

// GrowInTable extends a partition to the end of the disk, only in the table. It reports
// whether the partition grew. It must be the last on the disk.
//
// The backup of a GPT moves to the disk's end, and is written before the primary, so that
// one of both is valid at any moment. Everything else in the table stays as it is, byte
// for byte.
func GrowInTable(d Disk, size int64, sector, number int) (bool, error) {
	t, err := ReadTable(d, size, sector)
	if err != nil {
		return false, err
	}
	p, ok := t.Partition(number)
	if !ok {
		return false, fmt.Errorf("there is no partition %d", number)
	}
	if next, ok := t.behind(p); ok {
		return false, fmt.Errorf("it is not the last one: partition %d lies behind it", next.Number)
	}
	w := writer{reader{r: d, sector: int64(sector), sectors: size / int64(sector)}, d}
	if t.Kind == GPT {
		return w.growGPT(p)
	}
	return w.growMBR(p)
}

// behind returns a partition that begins after p.
func (t Table) behind(p Partition) (Partition, bool) {
	for _, other := range t.Partitions {
		if other.Number != p.Number && other.Start >= p.Start {
			return other, true
		}
	}
	return Partition{}, false
}

// writer reads and writes whole sectors.
type writer struct {
	reader
	w io.WriterAt
}

func (w writer) write(lba int64, sectors []byte) error {
	if _, err := w.w.WriteAt(sectors, lba*w.sector); err != nil {
		return fmt.Errorf("cannot write sector %d: %w", lba, err)
	}
	return nil
}

// grain is the unit in bytes to which the end of a partition is aligned: a multiple of
// every file system's block.
const grain = 4096

// aligned returns the last sector, at or before last, with which a partition from first
// on has whole grains.
func (w writer) aligned(first, last int64) int64 {
	per := max(1, grain/w.sector)
	return first + (last-first+1)/per*per - 1
}

// growMBR grows a partition and, for a logical one, the partitions that contain it.
func (w writer) growMBR(p Partition) (bool, error) {
	sector, err := w.read(0, 1)
	if err != nil {
		return false, err
	}
	if p.Number > 4 {
		return w.growLogical(p, sector)
	}
	first := p.Start / w.sector
	last := w.lastFor(first, first)
	if (last-first+1)*w.sector <= p.Length {
		return false, nil
	}
	setLength(sector, p.Number-1, last-first+1)
	return true, w.write(0, sector)
}

// lastFor returns the last sector that a partition from first on can have. Sectors are
// counted in 32 bits, from another one on for logical partitions.
func (w writer) lastFor(first, counted int64) int64 {
	return w.aligned(first, min(w.sectors-1, counted+math.MaxUint32-1))
}

// setLength sets the length of an entry of a boot sector, in sectors. The fields for
// cylinder and head of the last sector get their value for "out of range", as every disk
// of today needs it.
func setLength(sector []byte, index int, length int64) {
	raw := sector[bootEntries+16*index:]
	copy(raw[5:8], "\xfe\xff\xff")
	binary.LittleEndian.PutUint32(raw[12:], uint32(length))
}

// growLogical grows a logical partition. The extended partition, and the link to its
// record in the record before, are written before it.
func (w writer) growLogical(p Partition, sector []byte) (bool, error) {
	l, err := w.findLogical(p, sector)
	if err != nil {
		return false, err
	}
	extended, mine := l.extended.start, l.records[l.record]
	first := p.Start / w.sector
	last := w.lastFor(first, extended)
	if (last-first+1)*w.sector <= p.Length {
		return false, nil
	}
	if length := last - extended + 1; length > l.extended.count {
		setLength(sector, l.primary, length)
		if err := w.write(0, sector); err != nil {
			return false, err
		}
	}
	if l.record > 0 {
		before := l.records[l.record-1]
		setLength(before.sector, before.link, last-mine.at+1)
		if err := w.write(before.at, before.sector); err != nil {
			return false, err
		}
	}
	setLength(mine.sector, l.entry, last-first+1)
	return true, w.write(mine.at, mine.sector)
}

// logicalOnDisk is the place of a logical partition on the disk.
type logicalOnDisk struct {
	// extended is its extended partition, entry number primary of the MBR.
	extended entry
	primary  int
	// records are those of the extended partition; one of them has the partition as an
	// entry.
	records       []record
	record, entry int
}

// findLogical finds it by its beginning: no other partition begins there.
func (w writer) findLogical(p Partition, sector []byte) (l logicalOnDisk, err error) {
	b, _ := parseBoot(sector)
	for i, extended := range b.entries {
		if !extended.used() || !extended.extended() || extended.start == 0 {
			continue
		}
		if l.records, err = w.chain(extended); err != nil {
			return l, err
		}
		l.extended, l.primary = extended, i
		for l.record = range l.records {
			r := l.records[l.record]
			l.entry = slices.IndexFunc(r.entries[:], func(e entry) bool {
				return e.used() && !e.extended() && (r.at+e.start)*w.sector == p.Start
			})
			if l.entry >= 0 {
				return l, nil
			}
		}
	}
	return l, errors.New("its extended partition begins where the table is")
}

// growGPT grows a partition and moves the backup.
func (w writer) growGPT(p Partition) (bool, error) {
	g, err := w.readGPT()
	if err != nil {
		return false, err
	}
	le := binary.LittleEndian
	// After the last usable sector are the backup's entries and its header.
	backup := w.sectors - 1
	usable := backup - g.length - 1
	raw := g.entries[g.size*(p.Number-1):]
	first := int64(le.Uint64(raw[32:]))
	last := w.aligned(first, usable)
	if last <= int64(le.Uint64(raw[40:])) {
		return false, nil
	}
	le.PutUint64(raw[40:], uint64(last))
	le.PutUint64(g.sector[48:], uint64(usable))
	le.PutUint32(g.sector[88:], crc32.ChecksumIEEE(g.entries[:g.bytes]))
	if err := w.writeGPT(g.sector, g.entries, backup, 1, backup-g.length); err != nil {
		return false, err
	}
	if err := w.writeGPT(g.sector, g.entries, 1, backup, g.at); err != nil {
		return false, err
	}
	return true, w.protect()
}

// gptOnDisk is a GPT in its form on the disk.
type gptOnDisk struct {
	sector  []byte // the header's sector
	entries []byte // whole sectors, of which bytes are entries
	bytes   int
	size    int   // of an entry
	length  int64 // of the entries, in sectors
	at      int64 // the sector of the primary's entries
}

// readGPT reads the primary, or the backup if the primary is torn. The primary's entries
// are after its header then, as usual.
func (w writer) readGPT() (gptOnDisk, error) {
	for _, lba := range []int64{1, w.sectors - 1} {
		if _, err := w.gptAt(lba); err != nil {
			continue
		}
		sector, err := w.read(lba, 1)
		if err != nil {
			return gptOnDisk{}, err
		}
		h, err := parseHeader(sector, lba)
		if err != nil {
			return gptOnDisk{}, err
		}
		g := gptOnDisk{sector: sector, size: h.size, bytes: h.count * h.size, at: 2}
		g.length = (int64(g.bytes) + w.sector - 1) / w.sector
		g.entries, err = w.read(int64(h.entries), g.length)
		if lba == 1 {
			g.at = int64(h.entries)
		}
		return g, err
	}
	return gptOnDisk{}, errors.New("neither its primary nor its backup GPT is sound")
}

// writeGPT writes the entries, and then the header with their checksum.
func (w writer) writeGPT(header, entries []byte, at, other, entriesAt int64) error {
	le := binary.LittleEndian
	sector := append([]byte(nil), header...)
	le.PutUint64(sector[24:], uint64(at))
	le.PutUint64(sector[32:], uint64(other))
	le.PutUint64(sector[72:], uint64(entriesAt))
	le.PutUint32(sector[16:], 0)
	le.PutUint32(sector[16:], crc32.ChecksumIEEE(sector[:le.Uint32(sector[12:])]))
	if err := w.write(entriesAt, entries); err != nil {
		return err
	}
	return w.write(at, sector)
}

// protect makes a protective MBR cover the whole disk. A hybrid one stays.
func (w writer) protect() error {
	sector, err := w.read(0, 1)
	if err != nil {
		return err
	}
	b, ok := parseBoot(sector)
	if !ok || b.entries[0].kind != typeProtective || b.entries[1].used() || b.entries[2].used() || b.entries[3].used() {
		return nil
	}
	binary.LittleEndian.PutUint32(sector[bootEntries+12:], uint32(min(w.sectors-1, math.MaxUint32)))
	return w.write(0, sector)
}
