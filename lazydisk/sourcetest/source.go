// Package sourcetest provides sources of blocks for tests, with latency and faults.
package sourcetest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// Source is a source of blocks for tests. Its exported fields must not change while it is used.
type Source struct {
	// Latency is the duration of a request.
	Latency time.Duration
	// Fault is called for each request of a block, with the number of earlier requests of that
	// block. An error fails the request. It may change p, which the checksum no longer matches then,
	// or wait for ctx.
	Fault func(ctx context.Context, index int64, earlier int, p []byte) error
	// ListPart is the number of blocks in a part of the list; 0 is all.
	ListPart int64

	present []block.Range
	read    func(index int64, p []byte) error

	mu       sync.Mutex
	requests map[int64]int
}

// Pattern returns a source whose blocks hold Content.
func Pattern(present ...block.Range) *Source {
	return newSource(present, func(index int64, p []byte) error {
		Content(index, p)
		return nil
	})
}

// Content fills p, which has the size of a block, with the content of a block of Pattern. Each 8
// bytes are different.
func Content(index int64, p []byte) {
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], uint64(index+1)<<32|uint64(i))
	}
}

// File returns a source with the content of a file. Blocks of zeros are not present.
func File(t testing.TB, path string) *Source {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	read := func(index int64, p []byte) error {
		n, err := f.ReadAt(p, index*block.Size)
		if err == io.EOF {
			clear(p[n:])
			err = nil
		}
		return err
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var present []block.Range
	p := make([]byte, block.Size)
	for index := int64(0); index*block.Size < info.Size(); index++ {
		if err := read(index, p); err != nil {
			t.Fatal(err)
		}
		if !block.IsZero(p) {
			present = append(present, block.Range{First: index, Count: 1})
		}
	}
	return newSource(present, read)
}

func newSource(present []block.Range, read func(int64, []byte) error) *Source {
	return &Source{present: present, read: read, requests: map[int64]int{}}
}

// List implements block.Source.
func (s *Source) List(ctx context.Context, from int64) (part []block.Range, next int64, err error) {
	end := int64(-1)
	if s.ListPart > 0 {
		end = from + s.ListPart
	}
	next = -1
	for _, r := range s.present {
		first, last := max(r.First, from), r.First+r.Count
		if end >= 0 && last > end {
			last, next = min(last, end), end
		}
		if first < last {
			part = append(part, block.Range{First: first, Count: last - first})
		}
	}
	return part, next, context.Cause(ctx)
}

// Fetch implements block.Source.
func (s *Source) Fetch(ctx context.Context, index int64, p []byte) (sum block.Sum, err error) {
	s.mu.Lock()
	earlier := s.requests[index]
	s.requests[index]++
	s.mu.Unlock()
	if s.Latency > 0 {
		select {
		case <-ctx.Done():
			return sum, context.Cause(ctx)
		case <-time.After(s.Latency):
		}
	}
	if !s.has(index) {
		return sum, fmt.Errorf("block %d is not present: %w", index, block.ErrPermanent)
	}
	if err := s.read(index, p); err != nil {
		return sum, err
	}
	sum = sha256.Sum256(p)
	if s.Fault != nil {
		err = s.Fault(ctx, index, earlier, p)
	}
	return sum, err
}

func (s *Source) has(index int64) bool {
	for _, r := range s.present {
		if index >= r.First && index < r.First+r.Count {
			return true
		}
	}
	return false
}

// Requests returns the number of requests of all blocks, and of the block that was requested most
// often.
func (s *Source) Requests() (all, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.requests {
		all += n
		most = max(most, n)
	}
	return all, most
}
