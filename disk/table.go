package disk

import (
	"fmt"
	"io"
	"strings"
)

// Kind is the kind of a partition table.
type Kind int

// The kinds of partition table. None means that the whole disk has one content: a file
// system, or nothing.
const (
	None Kind = iota
	MBR
	GPT
)

func (k Kind) String() string {
	switch k {
	case MBR:
		return "MBR"
	case GPT:
		return "GPT"
	default:
		return "none"
	}
}

// Table is a partition table, or the absence of one.
type Table struct {
	Kind Kind
	// Partitions are in the order of their numbers.
	Partitions []Partition
}

// Partition is one entry of a table. Start and Length are in bytes, and lie
// within the disk.
type Partition struct {
	// Number is the one in Linux: the index in the table plus one, and from 5 on for the
	// logical partitions of an MBR.
	Number        int
	Start, Length int64
	// Type is two hexadecimal digits of an MBR, or the type GUID of a GPT in lower
	// case.
	Type string
	// GUID is the partition's own identity, as in PARTUUID=: for an MBR the disk's
	// signature and the number.
	GUID string
	// Name is a GPT's partition name; an MBR has none.
	Name string
	// Bootable is the active flag of an MBR or the legacy BIOS bootable
	// attribute of a GPT.
	Bootable bool
}

// Extended reports whether the partition only contains the logical ones of an MBR.
func (p Partition) Extended() bool {
	return p.Type == "05" || p.Type == "0f" || p.Type == "85"
}

// Partition returns the partition with a number.
func (t Table) Partition(number int) (Partition, bool) {
	for _, p := range t.Partitions {
		if p.Number == number {
			return p, true
		}
	}
	return Partition{}, false
}

// maxPartitions is the highest partition number that Linux knows
// (DISK_MAX_PARTS less the disk itself).
const maxPartitions = 255

// ReadTable reads the partition table of a disk with a size and a logical sector in
// bytes. No content of a disk makes it read beyond the size, or for long.
//
// It follows Linux: a GPT counts only after a protective MBR, and its backup is used if
// the primary is torn; entries that begin after the end of the disk are left out, and
// those of an MBR that end after it are cut there. Partitions may overlap.
//
// An error means that the disk could not be read, or that its protective MBR announces a
// GPT and neither header is valid.
func ReadTable(r io.ReaderAt, size int64, sector int) (Table, error) {
	if sector < 512 || sector > 64<<10 || sector&(sector-1) != 0 {
		return Table{}, fmt.Errorf("cannot read a partition table: %d bytes is no sector size", sector)
	}
	d := reader{r: r, sector: int64(sector), sectors: size / int64(sector)}
	if d.sectors == 0 {
		return Table{}, nil
	}
	first, err := d.read(0, 1)
	if err != nil {
		return Table{}, fmt.Errorf("cannot read the partition table: %w", err)
	}
	boot, ok := parseBoot(first)
	switch {
	case !ok:
		return Table{}, nil
	case boot.protective():
		return d.gpt()
	default:
		return d.mbr(boot, first)
	}
}

// reader reads whole sectors within a disk.
type reader struct {
	r               io.ReaderAt
	sector, sectors int64
}

// read reads count sectors from the sector lba on.
func (d reader) read(lba, count int64) ([]byte, error) {
	if lba < 0 || count < 0 || lba > d.sectors || count > d.sectors-lba {
		return nil, fmt.Errorf("sector %d lies behind the end of the disk", lba)
	}
	buf := make([]byte, count*d.sector)
	n, err := d.r.ReadAt(buf, lba*d.sector)
	if n == len(buf) {
		return buf, nil
	}
	return nil, fmt.Errorf("cannot read sector %d: %w", lba, err)
}

// numbers returns the numbers of the partitions, for an error message.
func (t Table) numbers() string {
	if len(t.Partitions) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, p := range t.Partitions {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d", p.Number)
	}
	return b.String()
}
