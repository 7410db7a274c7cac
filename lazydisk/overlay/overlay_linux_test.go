package overlay

import (
	"bytes"
	"slices"
	"syscall"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, blocks int64) *Overlay {
	t.Helper()
	o, err := Create(testdir.New(t), blocks)
	must(t, err)
	t.Cleanup(o.Close)
	return o
}

// written returns the blocks that NextWritten finds.
func written(t testing.TB, o *Overlay) (found []int64) {
	t.Helper()
	for from := int64(0); ; from++ {
		index, err := o.NextWritten(from)
		must(t, err)
		if index == o.Blocks() {
			return found
		}
		found, from = append(found, index), index
	}
}

func TestWrittenBlocks(t *testing.T) {
	const blocks = 1 << 20 // 512 GiB
	o := create(t, blocks)
	must(t, o.SetPresent(block.Range{First: 10, Count: 5000}))
	want := []int64{0, 11, 4999, 6000, blocks - 1}
	for _, index := range want {
		must(t, o.WriteAt(make([]byte, block.PageSize), index*block.Size+5*block.PageSize))
	}
	if got := written(t, o); !slices.Equal(got, want) {
		t.Errorf("written are %v, want %v", got, want)
	}
	for index, present := range map[int64]bool{0: false, 9: false, 10: true, 11: true, 5009: true, 5010: false, 6000: false} {
		if r, err := o.Record(index); err != nil || r.Present != present {
			t.Errorf("block %d: %+v, %v", index, r, err)
		}
	}
	if next, err := o.Next(5010); err != nil || next != 6000 {
		t.Errorf("the next block with content is %d, %v", next, err)
	}
	var space int64
	for _, f := range []interface{ Fd() uintptr }{o.data, o.records} {
		var st syscall.Stat_t
		must(t, syscall.Fstat(int(f.Fd()), &st))
		space += st.Blocks * 512
	}
	if space > 1<<20 {
		t.Errorf("an almost empty overlay takes %d bytes", space)
	}
}

func TestPresentOutsideOfTheDisk(t *testing.T) {
	o := create(t, 4)
	for _, r := range []block.Range{{First: -1, Count: 1}, {First: 4, Count: 1}, {First: 3, Count: 2}, {First: 1 << 62, Count: 1 << 62}, {First: 0, Count: -1}} {
		if o.SetPresent(r) == nil {
			t.Errorf("%+v is accepted", r)
		}
	}
	must(t, o.SetPresent(block.Range{First: 3, Count: 1}))
}

// TestZero: discarded pages are zeros and take no space, and blocks without content stay as they are.
func TestZero(t *testing.T) {
	o := create(t, 4)
	must(t, o.SetPresent(block.Range{First: 1, Count: 1}))
	must(t, o.WriteAt(bytes.Repeat([]byte{7}, block.Size), 2*block.Size))
	must(t, o.Zero(0, block.Size))
	must(t, o.Zero(block.Size, block.PageSize))
	must(t, o.Zero(2*block.Size, block.Size))
	if got := written(t, o); !slices.Equal(got, []int64{1, 2}) {
		t.Errorf("written are %v", got)
	}
	p := make([]byte, block.Size)
	must(t, o.ReadAt(p, 2*block.Size))
	var st syscall.Stat_t
	must(t, syscall.Fstat(int(o.data.Fd()), &st))
	if !block.IsZero(p) || st.Blocks != 0 {
		t.Errorf("the block is not zero, or takes %d sectors", st.Blocks)
	}
}

func TestParts(t *testing.T) {
	const page = block.PageSize
	var r Record
	r.mark(1, 2)
	r.mark(127, 1)
	for _, test := range []struct {
		offset, length int
		want           []Part
	}{
		{0, block.Size, []Part{{0, page, false}, {page, 2 * page, true}, {3 * page, 124 * page, false}, {127 * page, page, true}}},
		{page + 5, 10, []Part{{page + 5, 10, true}}},
		{page - 1, 2, []Part{{page - 1, 1, false}, {page, 1, true}}},
		{block.Size - 1, 1, []Part{{block.Size - 1, 1, true}}},
		{4 * page, 0, nil},
	} {
		if got := r.Parts(test.offset, test.length); !slices.Equal(got, test.want) {
			t.Errorf("%d bytes at %d: %v, want %v", test.length, test.offset, got, test.want)
		}
	}
}

// FuzzRecord: a record is encoded as it was read, except for bytes without a meaning.
func FuzzRecord(f *testing.F) {
	f.Add(make([]byte, recordSize), 3, 7)
	f.Add(bytes.Repeat([]byte{0xff}, recordSize), 0, 128)
	f.Fuzz(func(t *testing.T, raw []byte, first, n int) {
		if len(raw) < recordSize || first < 0 || n < 0 || first > block.Pages || n > block.Pages-first {
			return
		}
		r := decodeRecord(raw)
		before := r.WrittenPages()
		changed := r.mark(first, n)
		var b [recordSize]byte
		r.encode(b[:])
		if again := decodeRecord(b[:]); again != r || changed != (again.WrittenPages() > before) {
			t.Errorf("%+v came back as %+v; changed: %v", r, again, changed)
		}
		length, at := 0, 0
		for _, p := range r.Parts(0, block.Size) {
			if p.Offset != at || p.Length <= 0 {
				t.Errorf("parts are not complete: %+v", p)
			}
			if at += p.Length; p.Written {
				length += p.Length
			}
		}
		if at != block.Size || length != r.WrittenPages()*block.PageSize {
			t.Errorf("%d bytes of %d are written", length, at)
		}
	})
}
