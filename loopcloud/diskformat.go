//go:build linux

package loopcloud

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// The format of a disk on the wire: for each part with data, in order, its offset, its length and
// the data; at the end the size of the disk and the length 0. Holes take no space, and a
// truncated stream is not mistaken for a complete disk.

const (
	diskType = "application/x-loopcloud-disk"
	// maxDisk is the size of EC2's largest volume, 64 TiB.
	maxDisk = 64 << 40
)

// extent is the header of a part.
type extent struct{ Offset, Length int64 }

// WriteDisk writes a sparse file as a stream that ReadDisk reads.
func WriteDisk(w io.Writer, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	for at := int64(0); at < info.Size(); {
		e, err := nextData(f, at, info.Size())
		if err != nil {
			return fmt.Errorf("cannot find the data of %s: %w", f.Name(), err)
		}
		if e.Length == 0 {
			break
		}
		if err := binary.Write(w, binary.BigEndian, e); err != nil {
			return err
		}
		if _, err := io.Copy(w, io.NewSectionReader(f, e.Offset, e.Length)); err != nil {
			return err
		}
		at = e.Offset + e.Length
	}
	return binary.Write(w, binary.BigEndian, extent{Offset: info.Size()})
}

// nextData returns the next part of a file with data; its length is 0 if there is none.
func nextData(f *os.File, from, size int64) (extent, error) {
	start, err := f.Seek(from, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // only a hole follows
		return extent{}, nil
	}
	if err != nil {
		return extent{}, err
	}
	end, err := f.Seek(start, unix.SEEK_HOLE)
	if err != nil {
		return extent{}, err
	}
	return extent{start, min(end, size) - start}, nil
}

// ReadDisk writes a stream of WriteDisk into an empty file, with the same holes.
func ReadDisk(r io.Reader, f *os.File) error {
	var end int64 // of the previous part
	for {
		var e extent
		if err := binary.Read(r, binary.BigEndian, &e); err != nil {
			return fmt.Errorf("cannot read the disk: it ends too early: %w", err)
		}
		if e.Offset < end || e.Length < 0 || e.Offset > maxDisk || e.Length > maxDisk-e.Offset {
			return fmt.Errorf("cannot read the disk: it has an invalid part of %d bytes at %d", e.Length, e.Offset)
		}
		if e.Length == 0 {
			return f.Truncate(e.Offset)
		}
		n, err := io.Copy(io.NewOffsetWriter(f, e.Offset), io.LimitReader(r, e.Length))
		if err != nil {
			return fmt.Errorf("cannot write the disk: %w", err)
		}
		if n < e.Length {
			return fmt.Errorf("cannot read the disk: %w", io.ErrUnexpectedEOF)
		}
		end = e.Offset + e.Length
	}
}
