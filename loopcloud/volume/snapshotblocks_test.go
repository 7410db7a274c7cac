//go:build linux

package volume_test

import (
	"bytes"
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/volume"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// filled returns a block of one byte, with the byte 1 at its end.
func filled(b byte) []byte {
	data := bytes.Repeat([]byte{b}, state.BlockSize)
	data[len(data)-1] = 1
	return data
}

// digestOf returns the SHA-256 of the checksums of blocks.
func digestOf(blocks ...[]byte) [sha256.Size]byte {
	hash := sha256.New()
	for _, data := range blocks {
		sum := sha256.Sum256(data)
		hash.Write(sum[:])
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

func TestBlocksOfSnapshot(t *testing.T) {
	dir := testdir.New(t)
	s := open(t, dir, volume.Xen)
	must(t, s.BeginSnapshot("snap-1", gib, ""))
	if count, sum, err := s.WrittenBlocks("snap-1"); err != nil || count != 0 || sum != digestOf() {
		t.Errorf("of an empty snapshot, %d blocks are written (%v)", count, err)
	}
	zero := make([]byte, state.BlockSize)
	for _, w := range []struct {
		index int64
		data  []byte
	}{{2000, filled(2)}, {1, filled(0)}, {300, filled(3)}, {300, zero}, {1, filled(4)}} {
		must(t, s.WriteBlock("snap-1", w.index, w.data, sha256.Sum256(w.data)))
	}
	count, sum, err := s.WrittenBlocks("snap-1")
	if err != nil || count != 3 || sum != digestOf(filled(4), zero, filled(2)) {
		t.Errorf("%d blocks are written, with the digest %x (%v)", count, sum, err)
	}
	for from, want := range map[int64][]int64{0: {1, 300}, 2: {300, 2000}, 301: {2000}, 2001: nil, 5000: nil} {
		if got, err := s.PresentBlocks("snap-1", from, 2); err != nil || !slices.Equal(got, want) {
			t.Errorf("from %d on there are %v, not %v (%v)", from, got, want, err)
		}
	}
	got := filled(9)
	for index, want := range map[int64][]byte{1: filled(4), 2: zero, 300: zero, 2000: filled(2), 4000: zero} {
		must(t, s.ReadBlock("snap-1", index, got))
		if !bytes.Equal(got, want) {
			t.Errorf("block %d differs", index)
		}
	}
	must(t, s.SealSnapshot("snap-1"))
	must(t, s.SealSnapshot("snap-1"))
	expectFiles(t, dir, "snapshots/snap-1.raw")
	if err := s.WriteBlock("snap-1", 0, zero, sha256.Sum256(zero)); err == nil {
		t.Error("a sealed snapshot is written")
	}
}

// TestInterruptedBlock: a block whose data was overwritten without its checksum is not written.
func TestInterruptedBlock(t *testing.T) {
	dir := testdir.New(t)
	s := open(t, dir, volume.Xen)
	must(t, s.BeginSnapshot("snap-1", gib, ""))
	must(t, s.WriteBlock("snap-1", 5, filled(1), sha256.Sum256(filled(1))))
	data := filepath.Join(dir, "snapshots/snap-1.raw")
	must(t, os.Rename(data, data+".away")) // writing fails after the checksum was removed
	wantError(t, s.WriteBlock("snap-1", 5, filled(2), sha256.Sum256(filled(2))), fs.ErrNotExist, "snap-1")
	if count, _, err := s.WrittenBlocks("snap-1"); err != nil || count != 0 {
		t.Errorf("%d blocks are written (%v)", count, err)
	}
	must(t, os.Remove(data+".away"))
	must(t, s.DeleteSnapshot("snap-1"))
	expectFiles(t, dir)
}

// TestFailedBegin: a snapshot that cannot begin with the blocks of its parent leaves no file.
func TestFailedBegin(t *testing.T) {
	dir := testdir.New(t)
	s := open(t, dir, volume.Xen)
	wantError(t, s.BeginSnapshot("snap-2", gib, "snap-1"), fs.ErrNotExist, "snap-2")
	expectFiles(t, dir)
}

// TestChildOfImport: a snapshot can begin with the blocks of an imported disk that is smaller than
// its size.
func TestChildOfImport(t *testing.T) {
	dir := testdir.New(t)
	s := open(t, dir, volume.Xen)
	file := filepath.Join(testdir.New(t), "disk")
	must(t, os.WriteFile(file, append([]byte("a short disk"), make([]byte, 500)...), 0o600))
	must(t, s.ImportSnapshot("snap-1", file))
	must(t, s.BeginSnapshot("snap-2", 2*gib, "snap-1"))
	must(t, s.WriteBlock("snap-2", 4095, filled(1), sha256.Sum256(filled(1))))
	if got, err := s.PresentBlocks("snap-2", 0, 9); err != nil || !slices.Equal(got, []int64{0, 4095}) {
		t.Errorf("the blocks are %v (%v)", got, err)
	}
	got := make([]byte, state.BlockSize)
	must(t, s.ReadBlock("snap-1", 0, got))
	if !bytes.HasPrefix(got, []byte("a short disk\x00")) || !bytes.Equal(got[16:], make([]byte, state.BlockSize-16)) {
		t.Error("the block of the parent differs")
	}
}
