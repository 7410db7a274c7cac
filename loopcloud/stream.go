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

// A disk goes over the wire as the parts of it that hold data, in order, each
// after its place and length, and in the end the disk's size with the length 0.
// So a hole costs nothing, and a stream that was cut short is not taken for a
// whole disk.

const (
	diskType = "application/x-loopcloud-disk"
	// maxDisk is EC2's largest volume, 64 TiB.
	maxDisk = 64 << 40
)

// extent is the head of a part.
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

// nextData finds the data of a file from a place on; its length is 0 if there is
// none.
func nextData(f *os.File, from, size int64) (extent, error) {
	start, err := f.Seek(from, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // only a hole is left
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

// ReadDisk writes what WriteDisk wrote into an empty file, which gets the same
// holes.
func ReadDisk(r io.Reader, f *os.File) error {
	var end int64 // of the part before
	for {
		var e extent
		if err := binary.Read(r, binary.BigEndian, &e); err != nil {
			return fmt.Errorf("cannot read the disk: it ends too early: %w", err)
		}
		if e.Offset < end || e.Length < 0 || e.Offset > maxDisk || e.Length > maxDisk-e.Offset {
			return fmt.Errorf("cannot read the disk: it has no part of %d bytes at %d", e.Length, e.Offset)
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
