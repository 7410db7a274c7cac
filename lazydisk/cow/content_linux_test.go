package cow_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cow"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/fetch"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/overlay"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/sourcetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// newContent returns the content of a number of blocks, over a source with some of them.
func newContent(t testing.TB, blocks int64, present ...block.Range) (*cow.Content, *sourcetest.Source) {
	t.Helper()
	source := sourcetest.Pattern(present...)
	o, err := overlay.Create(testdir.New(t), blocks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	s := fetch.New(fetch.Options{Source: source})
	t.Cleanup(func() { s.Close(errors.New("the test has ended")) })
	if err := s.List(o.SetPresent); err != nil {
		t.Fatal(err)
	}
	return cow.New(o, s), source
}

// original returns the initial content of a disk.
func original(blocks int64, present ...block.Range) []byte {
	p := make([]byte, blocks*block.Size)
	for _, r := range present {
		for index := r.First; index < r.First+r.Count; index++ {
			sourcetest.Content(index, p[index*block.Size:][:block.Size])
		}
	}
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expectChanges compares the changes of a disk with its content and its original.
func expectChanges(t testing.TB, m *cow.Content, now, before []byte, present ...block.Range) {
	t.Helper()
	p := make([]byte, block.Size)
	listed := map[int64]bool{}
	for from := int64(0); ; from++ {
		index, err := m.NextChange(from)
		must(t, err)
		if from = index; index*block.Size == m.Size() {
			break
		}
		c, err := m.Change(index, p)
		must(t, err)
		want := now[index*block.Size:][:block.Size]
		has := slices.ContainsFunc(present, func(r block.Range) bool { return index >= r.First && index < r.First+r.Count })
		equal := has && bytes.Equal(want, before[index*block.Size:][:block.Size])
		expected := cow.Change{Index: index, Sum: sha256.Sum256(want), Zero: block.IsZero(want), InParent: has, Equal: equal}
		if c != expected || !bytes.Equal(p, want) {
			t.Errorf("the change is %+v, want %+v; the same content: %v", c, expected, bytes.Equal(p, want))
		}
		listed[index] = true
	}
	for index := range m.Size() / block.Size {
		part := func(p []byte) []byte { return p[index*block.Size:][:block.Size] }
		if !listed[index] && !bytes.Equal(part(now), part(before)) {
			t.Errorf("block %d has changed and is not listed", index)
		}
	}
}

// TestRandomOperations compares a disk with a copy in memory.
func TestRandomOperations(t *testing.T) {
	const blocks = 6
	present := []block.Range{{First: 0, Count: 2}, {First: 3, Count: 2}}
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 1))
		m, _ := newContent(t, blocks, present...)
		want := original(blocks, present...)
		before := bytes.Clone(want)
		for range 60 {
			off := random.Int64N(m.Size())
			n := random.Int64N(min(m.Size()-off, 3*block.Size>>random.IntN(10))) + 1
			if random.IntN(2) == 0 { // most operations of file systems are aligned
				off &^= block.PageSize - 1
				n = min((n+block.PageSize-1)&^(block.PageSize-1), m.Size()-off)
			}
			part := want[off : off+n]
			switch random.IntN(4) {
			case 0:
				p := bytes.Repeat([]byte{byte(random.IntN(256))}, int(n))
				copy(part, p)
				must(t, m.WriteAt(p, off))
			case 1:
				copy(part, before[off:])
				must(t, m.WriteAt(before[off:off+n], off))
			case 2:
				clear(part)
				must(t, m.Zero(off, n))
			default:
				p := make([]byte, n)
				must(t, m.ReadAt(p, off))
				if !bytes.Equal(p, part) {
					t.Fatalf("seed %d: %d bytes at %d have the wrong content", seed, n, off)
				}
			}
		}
		p := make([]byte, m.Size())
		must(t, m.ReadAt(p, 0))
		if !bytes.Equal(p, want) {
			t.Errorf("seed %d: the content is wrong", seed)
		}
		expectChanges(t, m, want, before, present...)
	}
}

// TestOutside: nothing outside of the disk can be used.
func TestOutside(t *testing.T) {
	m, _ := newContent(t, 2)
	for _, r := range []struct{ off, n int64 }{{-1, 1}, {m.Size(), 1}, {m.Size() - 1, 2}, {1 << 62, 1}} {
		p := make([]byte, r.n)
		if m.ReadAt(p, r.off) == nil || m.WriteAt(p, r.off) == nil || m.Zero(r.off, r.n) == nil {
			t.Errorf("%d bytes at %d are accepted", r.n, r.off)
		}
	}
}

// TestWritesFetchNothing: writes of whole pages fetch nothing until the changes are read, and a block
// that was written as a whole is fetched only for the comparison.
func TestWritesFetchNothing(t *testing.T) {
	m, source := newContent(t, 8, block.Range{Count: 8})
	must(t, m.WriteAt(make([]byte, 2*block.PageSize), 3*block.Size+block.PageSize))
	must(t, m.WriteAt(make([]byte, block.Size), 5*block.Size))
	must(t, m.Zero(6*block.Size, 2*block.Size))
	p := make([]byte, block.PageSize)
	must(t, m.ReadAt(p, 3*block.Size+block.PageSize))
	if n, _ := source.Requests(); n != 0 {
		t.Errorf("%d requests", n)
	}
	must(t, m.WriteAt([]byte("x"), 100))
	if n, _ := source.Requests(); n != 1 {
		t.Errorf("%d requests after a write within a page", n)
	}
}

// TestConcurrentUse: several goroutines write pages of the same blocks, and discard and read them.
func TestConcurrentUse(t *testing.T) {
	const blocks, workers = 4, 8
	m, _ := newContent(t, blocks, block.Range{Count: 2})
	want := original(blocks, block.Range{Count: 2})
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 2))
			for range 200 {
				// each has pages of its own in every block
				page := random.Int64N(blocks*block.Pages/workers)*workers + int64(worker)
				part := want[page*block.PageSize:][:block.PageSize]
				switch random.IntN(3) {
				case 0:
					p := bytes.Repeat([]byte{byte(random.IntN(256))}, block.PageSize)
					copy(part, p)
					if err := m.WriteAt(p, page*block.PageSize); err != nil {
						t.Error(err)
					}
				case 1:
					clear(part)
					if err := m.Zero(page*block.PageSize, block.PageSize); err != nil {
						t.Error(err)
					}
				default:
					p := make([]byte, block.PageSize)
					if err := m.ReadAt(p, page*block.PageSize); err != nil || !bytes.Equal(p, part) {
						t.Errorf("page %d: %v, or the wrong content", page, err)
					}
				}
			}
		})
	}
	group.Wait()
	p := make([]byte, m.Size())
	if err := m.ReadAt(p, 0); err != nil || !bytes.Equal(p, want) {
		t.Errorf("the content is wrong: %v", err)
	}
}
