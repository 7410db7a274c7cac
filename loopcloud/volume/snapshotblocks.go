//go:build linux

package volume

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

var _ state.BlockDisks = (*Store)(nil)

// A snapshot that is written block by block has a second file beside its data until it is sealed:
// the checksum of block n is at n times sha256.Size. Both files are sparse. A block without a
// checksum was not written.
//
// A block is present in a snapshot if any part of its 512 KiB is not a hole. A written block of
// zeros is 4 KiB of zeros and a hole, so that it differs from a block that was never written.

// sumsPath returns the file with the checksums of a snapshot.
func (s *Store) sumsPath(id string) (string, error) {
	file, err := s.path("snapshots", id)
	return file + ".sums", err
}

// BeginSnapshot creates a snapshot of this size that is written block by block: an empty one, or
// one that begins with the blocks of its parent.
func (s *Store) BeginSnapshot(id string, size int64, parent string) error {
	if err := s.beginSnapshot(id, size, parent); err != nil {
		return fmt.Errorf("cannot begin snapshot %s: %w", id, err)
	}
	return nil
}

func (s *Store) beginSnapshot(id string, size int64, parent string) error {
	data, err := s.path("snapshots", id)
	if err != nil {
		return err
	}
	sums := data + ".sums"
	if err := create(sums, func(*os.File) error { return nil }); err != nil {
		return err
	}
	if err := s.beginData(data, size, parent); err != nil {
		return errors.Join(err, removeFile(sums))
	}
	return nil
}

// beginData creates the file of a snapshot's data.
func (s *Store) beginData(data string, size int64, parent string) error {
	if parent == "" {
		return create(data, func(f *os.File) error { return f.Truncate(size) })
	}
	src, err := s.path("snapshots", parent)
	if err != nil {
		return err
	}
	return clone(data, src, size)
}

// WriteBlock writes a block of a snapshot that is not sealed, and its checksum. Zeros take no
// space. If it is interrupted, the block counts as not written.
func (s *Store) WriteBlock(id string, index int64, data []byte, sum [sha256.Size]byte) error {
	if err := s.writeBlock(id, index, data, sum); err != nil {
		return fmt.Errorf("cannot write block %d of snapshot %s: %w", index, id, err)
	}
	return nil
}

func (s *Store) writeBlock(id string, index int64, data []byte, sum [sha256.Size]byte) error {
	file, err := s.path("snapshots", id)
	if err != nil {
		return err
	}
	sums, err := os.OpenFile(file+".sums", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer sums.Close()
	if err := clearSum(sums, index); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := writeSparse(f, data, index*state.BlockSize); err != nil {
		return err
	}
	_, err = sums.WriteAt(sum[:], index*sha256.Size)
	return err
}

// clearSum removes the checksum of a block that is overwritten.
func clearSum(sums *os.File, index int64) error {
	info, err := sums.Stat()
	if err != nil || info.Size() <= index*sha256.Size {
		return err
	}
	_, err = sums.WriteAt(make([]byte, sha256.Size), index*sha256.Size)
	return err
}

// writeSparse overwrites a block. Its zeros become holes, except that a block of zeros begins
// with 4 KiB of them.
func writeSparse(f *os.File, data []byte, at int64) error {
	err := clearRange(f, at, int64(len(data)))
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		_, err = f.WriteAt(data, at)
		return err
	case err != nil:
		return err
	}
	return writeBlock(f, data, at)
}

// clearRange makes a part of a file a hole. It is quick if it is one already.
func clearRange(f *os.File, at, length int64) error {
	next, err := f.Seek(at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) || err == nil && next >= at+length {
		return nil
	}
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, length)
}

func isZero(data []byte) bool {
	for len(data) >= block {
		if !bytes.Equal(data[:block], zeros[:]) {
			return false
		}
		data = data[block:]
	}
	return bytes.Equal(data, zeros[:len(data)])
}

// WrittenBlocks returns the number of the blocks that WriteBlock has written, and the SHA-256 of
// their checksums in the order of the blocks.
func (s *Store) WrittenBlocks(id string) (count int64, sum [sha256.Size]byte, err error) {
	count, sum, err = s.writtenBlocks(id)
	if err != nil {
		err = fmt.Errorf("cannot count the written blocks of snapshot %s: %w", id, err)
	}
	return count, sum, err
}

func (s *Store) writtenBlocks(id string) (count int64, sum [sha256.Size]byte, err error) {
	file, err := s.sumsPath(id)
	if err != nil {
		return 0, sum, err
	}
	f, err := os.Open(file)
	if err != nil {
		return 0, sum, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, sum, err
	}
	hash := sha256.New()
	err = eachData(f, size, func(at, end int64) error {
		at -= at % sha256.Size
		part := make([]byte, end-at)
		if _, err := f.ReadAt(part, at); err != nil {
			return err
		}
		for one := range chunks(part, sha256.Size) {
			if !bytes.Equal(one, zeros[:sha256.Size]) {
				count++
				hash.Write(one)
			}
		}
		return nil
	})
	return count, [sha256.Size]byte(hash.Sum(nil)), err
}

// chunks yields the parts of this size. A shorter part at the end is left out.
func chunks(data []byte, size int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for ; len(data) >= size; data = data[size:] {
			if !yield(data[:size]) {
				return
			}
		}
	}
}

// SealSnapshot removes the checksums of a snapshot that is complete.
func (s *Store) SealSnapshot(id string) error {
	file, err := s.sumsPath(id)
	if err == nil {
		err = removeFile(file)
	}
	if err != nil {
		return fmt.Errorf("cannot seal snapshot %s: %w", id, err)
	}
	return nil
}

// ReadBlock reads a block of a snapshot. A block that the snapshot does not have is zero.
func (s *Store) ReadBlock(id string, index int64, data []byte) error {
	if err := s.readBlock(id, index, data); err != nil {
		return fmt.Errorf("cannot read block %d of snapshot %s: %w", index, id, err)
	}
	return nil
}

func (s *Store) readBlock(id string, index int64, data []byte) error {
	file, err := s.path("snapshots", id)
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := f.ReadAt(data, index*state.BlockSize)
	clear(data[n:])
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// PresentBlocks returns the first blocks from an index on that a snapshot has, at most limit.
func (s *Store) PresentBlocks(id string, from int64, limit int) ([]int64, error) {
	found, err := s.presentBlocks(id, from, limit)
	if err != nil {
		return nil, fmt.Errorf("cannot list the blocks of snapshot %s: %w", id, err)
	}
	return found, nil
}

func (s *Store) presentBlocks(id string, from int64, limit int) ([]int64, error) {
	file, err := s.path("snapshots", id)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []int64
	for len(found) < limit {
		at, err := f.Seek(from*state.BlockSize, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if err != nil {
			return nil, err
		}
		from = at/state.BlockSize + 1
		found = append(found, from-1)
	}
	return found, nil
}

// DistortVolume writes noise into the blocks of a volume that its snapshot does not have. See
// distort.
func (s *Store) DistortVolume(id, snapshot string) error {
	file, err := s.path("volumes", id)
	if err == nil {
		err = s.DistortFile(file, snapshot)
	}
	return err
}

// DistortFile does the same with an exported snapshot.
func (s *Store) DistortFile(file, snapshot string) error {
	if err := s.distort(file, snapshot); err != nil {
		return fmt.Errorf("cannot write noise into %s: %w", filepath.Base(file), err)
	}
	return nil
}

// distort writes noise into the first 4 KiB of each block that a snapshot does not have. The whole
// block would be noise in the cloud; this much is enough to be noticed.
func (s *Store) distort(file, snapshot string) error {
	src, err := s.path("snapshots", snapshot)
	if err != nil {
		return err
	}
	info, err := os.Stat(src)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	last := info.Size() / state.BlockSize
	present, err := s.presentBlocks(snapshot, 0, int(last)+1)
	if err != nil {
		return err
	}
	noise := newNoise(snapshot)
	for index := range last {
		if len(present) > 0 && present[0] == index {
			present = present[1:]
			continue
		}
		if _, err := f.WriteAt(noise.page(), index*state.BlockSize); err != nil {
			return err
		}
	}
	return nil
}

// noise is a source of bytes that look random and are the same for each volume of a snapshot.
type noise struct{ source *rand.ChaCha8 }

func newNoise(seed string) noise {
	return noise{rand.NewChaCha8(sha256.Sum256([]byte(seed)))}
}

// page returns the next 4 KiB.
func (n noise) page() []byte {
	page := make([]byte, 0, block)
	for len(page) < block {
		page = binary.LittleEndian.AppendUint64(page, n.source.Uint64())
	}
	return page
}

// removeSnapshot removes the files of a snapshot that exist.
func removeSnapshot(file string) error {
	err := removeFile(file + ".sums")
	return errors.Join(err, removeFile(file))
}
