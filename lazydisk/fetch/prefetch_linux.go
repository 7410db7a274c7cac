package fetch

import "sync"

const (
	// streamCount is the number of sequential reads that are recognized at a time.
	streamCount = 8
	// maxWindow is the number of blocks that are prefetched ahead of a sequential read.
	maxWindow = 48
)

// stream is a sequential read.
type stream struct {
	// last is the block that was read last, and ahead the first one that was not requested.
	last, ahead int64
	// window is the number of blocks to be requested ahead.
	window int64
	used   int64
}

// streams recognizes sequential reads.
type streams struct {
	mu    sync.Mutex
	list  [streamCount]stream
	clock int64
}

// next records a read of a block, and returns the blocks from first, and before end, that should
// be requested.
func (s *streams) next(index int64) (first, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	oldest := &s.list[0]
	for i := range s.list {
		t := &s.list[i]
		if t.window > 0 && (index == t.last || index == t.last+1) {
			t.used = s.clock
			if index == t.last {
				return 0, 0
			}
			return t.advance()
		}
		if t.used < oldest.used {
			oldest = t
		}
	}
	*oldest = stream{last: index, ahead: index + 1, window: 1, used: s.clock}
	return 0, 0
}

// advance moves a stream to its next block.
func (t *stream) advance() (first, end int64) {
	t.last++
	t.window = min(2*t.window, maxWindow)
	first, end = max(t.ahead, t.last+1), t.last+1+t.window
	t.ahead = max(first, end)
	return first, end
}

// Prefetch records a read of a block. If it continues a sequential read, the next blocks are
// fetched in the background.
func (f *Fetcher) Prefetch(index int64) {
	if f.wanted == nil {
		return
	}
	for first, end := f.streams.next(index); first < end; first++ {
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
