package packages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// sqliteMagic begins a database of SQLite.
const sqliteMagic = "SQLite format 3\x00"

// errSQLite is the error for a database of SQLite that cannot be read.
var errSQLite = errors.New("it is not a database of SQLite, or damaged")

// sqlite is a database of SQLite 3 that is only read, page by page. The format is described in
// https://www.sqlite.org/fileformat2.html. Only tables are read, and no indexes.
type sqlite struct {
	file  io.ReaderAt
	pages uint32
	// size is the size of a page, and usable its part without the reserved bytes at the end.
	size, usable int64
	// visited are the pages of tables that were read: a damaged database could have loops.
	visited map[uint32]bool
}

// openSQLite reads the header of a database.
func openSQLite(file io.ReaderAt, bytes int64) (*sqlite, error) {
	var header [100]byte
	if _, err := file.ReadAt(header[:], 0); err != nil || string(header[:len(sqliteMagic)]) != sqliteMagic {
		return nil, errSQLite
	}
	size := int64(binary.BigEndian.Uint16(header[16:]))
	if size == 1 {
		size = 1 << 16
	}
	usable := size - int64(header[20])
	if size < 512 || size&(size-1) != 0 || usable < 480 {
		return nil, errSQLite
	}
	pages := min(bytes/size, 1<<32-2)
	return &sqlite{file: file, pages: uint32(pages), size: size, usable: usable, visited: map[uint32]bool{}}, nil
}

// page reads a page. Pages are numbered from 1.
func (s *sqlite) page(number uint32) ([]byte, error) {
	if number == 0 || number > s.pages {
		return nil, fmt.Errorf("%w: there is no page %d", errSQLite, number)
	}
	page := make([]byte, s.size)
	_, err := s.file.ReadAt(page, int64(number-1)*s.size)
	return page, err
}

// root returns the first page of a table.
func (s *sqlite) root(table string) (root uint32, err error) {
	err = s.rows(1, 1<<16, func(payload []byte) error {
		columns, err := record(payload)
		if err == nil && len(columns) >= 4 && string(columns[0]) == "table" && string(columns[1]) == table {
			root = uint32(number(columns[3]))
		}
		return err
	})
	if err == nil && root == 0 {
		err = fmt.Errorf("%w: it has no table %s", errSQLite, table)
	}
	return root, err
}

// The types of the pages of tables.
const (
	interiorPage = 0x05
	leafPage     = 0x0d
)

// rows calls a function with the beginning of each row of a table, at most most bytes of it.
func (s *sqlite) rows(root uint32, most int64, call func([]byte) error) error {
	for open := []uint32{root}; len(open) > 0; {
		number := open[len(open)-1]
		open = open[:len(open)-1]
		if s.visited[number] {
			return fmt.Errorf("%w: page %d is used twice", errSQLite, number)
		}
		s.visited[number] = true
		page, err := s.page(number)
		if err != nil {
			return err
		}
		below, err := s.visit(page, number == 1, most, call)
		if err != nil {
			return err
		}
		open = append(open, below...)
	}
	return nil
}

// visit calls a function with the rows of a leaf, or returns the pages below another page. The first page
// of the file begins with the header of the file.
func (s *sqlite) visit(page []byte, first bool, most int64, call func([]byte) error) (below []uint32, err error) {
	start := int64(0)
	if first {
		start = 100
	}
	kind, cells := page[start], int64(binary.BigEndian.Uint16(page[start+3:]))
	pointers := start + 8
	if kind == interiorPage {
		pointers = start + 12
		below = append(below, binary.BigEndian.Uint32(page[start+8:]))
	}
	if kind != interiorPage && kind != leafPage || pointers+2*cells > s.usable {
		return nil, fmt.Errorf("%w: a page of type %d has %d cells", errSQLite, kind, cells)
	}
	for i := range cells {
		at := int64(binary.BigEndian.Uint16(page[pointers+2*i:]))
		if at+4 > s.usable {
			return nil, fmt.Errorf("%w: a cell is outside of its page", errSQLite)
		}
		if kind == interiorPage {
			below = append(below, binary.BigEndian.Uint32(page[at:]))
			continue
		}
		payload, err := s.payload(page[at:s.usable], most)
		if err == nil {
			err = call(payload)
		}
		if err != nil {
			return nil, err
		}
	}
	return below, nil
}

// payload returns the beginning of the payload of a cell of a leaf: the part in the cell, and that in a
// chain of overflow pages.
func (s *sqlite) payload(cell []byte, most int64) ([]byte, error) {
	length, n := varint(cell)
	_, rowid := varint(cell[n:])
	if cell = cell[n+rowid:]; n == 0 || rowid == 0 || length > 1<<31 {
		return nil, fmt.Errorf("%w: a cell has no length", errSQLite)
	}
	total, local := int64(length), s.local(int64(length))
	if local > int64(len(cell)) || local < total && local+4 > int64(len(cell)) {
		return nil, fmt.Errorf("%w: a cell is longer than its page", errSQLite)
	}
	payload := append([]byte(nil), cell[:local]...)
	if local == total {
		return payload, nil
	}
	next := binary.BigEndian.Uint32(cell[local:])
	for int64(len(payload)) < min(total, most) {
		page, err := s.page(next)
		if err != nil {
			return nil, err
		}
		part := min(total-int64(len(payload)), s.usable-4)
		payload = append(payload, page[4:4+part]...)
		next = binary.BigEndian.Uint32(page)
	}
	return payload, nil
}

// local returns how much of a payload is in its cell.
func (s *sqlite) local(total int64) int64 {
	if total <= s.usable-35 {
		return total
	}
	least := (s.usable-12)*32/255 - 23
	if some := least + (total-least)%(s.usable-4); some <= s.usable-35 {
		return some
	}
	return least
}

// record returns the columns of a row. A column of which only the beginning is there is shorter.
func record(payload []byte) (columns [][]byte, err error) {
	length, n := varint(payload)
	if n == 0 || length > uint64(len(payload)) || length < uint64(n) {
		return nil, fmt.Errorf("%w: a row has no header", errSQLite)
	}
	header, values := payload[n:length], payload[length:]
	for len(header) > 0 {
		kind, n := varint(header)
		if n == 0 {
			return nil, fmt.Errorf("%w: the header of a row is damaged", errSQLite)
		}
		header = header[n:]
		size := min(columnSize(kind), uint64(len(values)))
		columns = append(columns, values[:size])
		values = values[size:]
	}
	return columns, nil
}

// columnSize returns the size of a value by its type.
func columnSize(kind uint64) uint64 {
	switch {
	case kind <= 4:
		return kind
	case kind == 5:
		return 6
	case kind == 6 || kind == 7:
		return 8
	case kind < 12:
		return 0
	}
	return (kind - 12) / 2
}

// number returns the value of a column that is a whole number.
func number(column []byte) (n uint64) {
	for _, b := range column {
		n = n<<8 | uint64(b)
	}
	return n
}

// varint decodes a number of 1 to 9 bytes, and returns the number of bytes; 0 if it has no end.
func varint(b []byte) (value uint64, n int) {
	for n < len(b) && n < 8 {
		value = value<<7 | uint64(b[n]&0x7f)
		n++
		if b[n-1] < 0x80 {
			return value, n
		}
	}
	if n == 8 && len(b) > 8 {
		return value<<8 | uint64(b[8]), 9
	}
	return 0, 0
}

// readSQLite reads the packages of an rpm database in SQLite. Its table Packages has a number and a
// header in each row.
func readSQLite(file io.ReaderAt, bytes int64) ([]Package, error) {
	db, err := openSQLite(file, bytes)
	if err != nil {
		return nil, err
	}
	root, err := db.root("Packages")
	if err != nil {
		return nil, err
	}
	var all []Package
	err = db.rows(root, headerStart, func(payload []byte) error {
		columns, err := record(payload)
		if err != nil || len(columns) < 2 {
			return errors.Join(err, errHeader)
		}
		p, err := readHeader(columns[1])
		if err != nil {
			return err
		}
		all = append(all, p)
		return tooMany(all)
	})
	return all, err
}
