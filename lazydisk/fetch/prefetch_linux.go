package fetch

import (
	"sync"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

const (
	// streamCount is the number of sequential reads that are recognized at a time.
	streamCount = 8
	// maxWindow is the number of blocks that are prefetched ahead of a sequential read.
	maxWindow = 48
)

// stream is a sequential read.
type stream struct {
	// start and end are the offsets of its bytes, and read is the number of those that were read.
	start, end, read int64
	// ahead is the first block that was not requested.
	ahead int64
	used  int64
}

// begin returns a stream with one read.
func begin(off, length int64) stream {
	return stream{start: off, end: off + length, read: length, ahead: blocksBefore(off + length)}
}

// continues reports whether a read continues the stream. Two requests of the kernel may arrive in the wrong order.
func (t *stream) continues(off, length int64) bool {
	return t.read > 0 && off >= t.end-2*length && off <= t.end+length
}

// advance adds a read to a stream, and returns the blocks from first, and before end, that should be requested: at most as
// many as were read, because a program may read only a part of a file.
func (t *stream) advance(off, length int64) (first, end int64) {
	if off >= t.end && t.read < t.end-t.start { // the bytes between two earlier reads were not read
		*t = begin(off, length)
		return 0, 0
	}
	t.end = max(t.end, off+length)
	t.read = min(t.read+length, t.end-t.start)
	if t.read < t.end-t.start {
		return 0, 0
	}
	next := blocksBefore(t.end)
	first, end = max(t.ahead, next), next+min(t.read/block.Size, maxWindow)
	t.ahead = max(first, end)
	return first, end
}

// blocksBefore returns the number of the blocks that begin before an offset.
func blocksBefore(off int64) int64 { return (off + block.Size - 1) / block.Size }

// streams recognizes sequential reads.
type streams struct {
	mu    sync.Mutex
	list  [streamCount]stream
	clock int64
}

// next records a read, and returns the blocks from first, and before end, that should be requested.
func (s *streams) next(off, length int64) (first, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	oldest := &s.list[0]
	for i := range s.list {
		t := &s.list[i]
		if t.continues(off, length) {
			first, end = t.advance(off, length)
			t.used = s.clock
			return first, end
		}
		if t.used < oldest.used {
			oldest = t
		}
	}
	*oldest = begin(off, length)
	oldest.used = s.clock
	return 0, 0
}

// Prefetch records a read. If it continues a sequential read, the next blocks are fetched in the background.
func (f *Fetcher) Prefetch(off, length int64) {
	if f.wanted == nil {
		return
	}
	for first, end := f.streams.next(off, length); first < end; first++ {
		if f.ctx.Err() != nil || f.Failure() != nil {
			return
		}
		if f.wanted(first) && !f.Holds(first) {
			f.running.Add(1)
			go f.prefetch(first)
		}
	}
}

// prefetch opens a block for later reads.
func (f *Fetcher) prefetch(index int64) {
	defer f.running.Done()
	c, fl, first := f.join(index, true)
	switch {
	case c != nil:
		c.release()
	case first:
		f.run(fl)
		fallthrough
	default:
		f.leave(fl)
	}
}
