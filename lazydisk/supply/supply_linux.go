package supply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cache"
)

// Supply provides the blocks of a source. Its methods may be called by several goroutines.
type Supply struct {
	source block.Source
	// cache is nil if there is none.
	cache  *cache.Source
	limits Limits

	ctx    context.Context
	cancel context.CancelCauseFunc

	slots, ahead chan struct{}
	streams      streams
	// wanted reports whether a block may be prefetched.
	wanted func(index int64) bool

	mu      sync.Mutex
	recent  recent
	flights map[int64]*flight
	failure *block.DiskError
	failed  chan struct{}
	// running counts the goroutines of prefetches.
	running sync.WaitGroup

	counters
}

// counters count events since the start.
type counters struct {
	fetched, prefetched, hits, retries, uncached atomic.Int64
}

// Options are the options of a supply.
type Options struct {
	Source block.Source
	// Cache may be nil.
	Cache  *cache.Source
	Limits Limits
	// Wanted reports whether a block is present and may be read, so that it is worth a
	// prefetch. nil disables prefetches.
	Wanted func(index int64) bool
}

// New returns a supply.
func New(o Options) *Supply {
	s := &Supply{
		source: o.Source, cache: o.Cache, limits: o.Limits.withDefaults(), wanted: o.Wanted,
		slots: make(chan struct{}, fetches), ahead: make(chan struct{}, prefetches),
		flights: map[int64]*flight{}, failed: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// Close ends all requests, whose reads then fail with an error.
func (s *Supply) Close(reason error) {
	s.cancel(reason)
	s.running.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent.clear()
}

// Stats returns the figures.
func (s *Supply) Stats() Stats {
	return Stats{s.fetched.Load(), s.prefetched.Load(), s.hits.Load(), s.retries.Load(), s.uncached.Load()}
}

// Fail records the first failure. Blocks that have to be fetched fail from then on.
func (s *Supply) Fail(f *block.DiskError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = f
		close(s.failed)
	}
}

// Failed returns a channel that is closed at the first failure.
func (s *Supply) Failed() <-chan struct{} { return s.failed }

// Failure returns the first failure, or nil.
func (s *Supply) Failure() *block.DiskError {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// damageLimit is how often a block is read again after the cache had a damaged copy.
const damageLimit = 3

// ReadAt reads a part of a present block.
func (s *Supply) ReadAt(p []byte, index int64, off int64) error {
	for range damageLimit {
		c, err := s.get(index)
		if err != nil {
			return err
		}
		_, err = c.ReadAt(p, off)
		c.release()
		if !errors.Is(err, cache.ErrDamaged) {
			return err
		}
		s.forget(index)
	}
	f := &block.DiskError{Index: index, Reason: "the cache damages the block each time"}
	s.Fail(f)
	return f
}

// forget drops a damaged block.
func (s *Supply) forget(index int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent.drop(index)
}

// Holds reports whether a block can be read without a request to the source.
func (s *Supply) Holds(index int64) bool {
	s.mu.Lock()
	_, held := s.recent.entries[index]
	s.mu.Unlock()
	return held || s.cache != nil && s.cache.Has(index)
}

// get returns the content of a block for one user.
func (s *Supply) get(index int64) (*shared, error) {
	for {
		c, f, first := s.join(index, false)
		if c != nil {
			return c, nil
		}
		if first {
			s.fly(f)
		}
		<-f.done
		if f.content != nil {
			f.content.users.Add(1)
			s.leave(f)
			return f.content, nil
		}
		s.leave(f)
		if f.err != nil {
			return nil, f.err
		}
		// a prefetch that failed: fetch it with retries
	}
}

// join returns the content of a block or, if it is not open, the flight that opens it. The caller
// must fly it if it is the first.
func (s *Supply) join(index int64, ahead bool) (c *shared, f *flight, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.recent.get(index); c != nil {
		return c, nil, false
	}
	if f := s.flights[index]; f != nil {
		f.waiting.Add(1)
		return nil, f, false
	}
	f = &flight{index: index, ahead: ahead, done: make(chan struct{})}
	f.waiting.Add(1)
	s.flights[index] = f
	return nil, f, true
}

// flight opens a block for all reads that wait for it.
type flight struct {
	index int64
	// ahead is true for a prefetch.
	ahead   bool
	waiting atomic.Int32
	done    chan struct{}
	// content and err are the result. Both are nil if a prefetch failed.
	content *shared
	err     error
}

// leave ends the use of a flight's result.
func (s *Supply) leave(f *flight) {
	if f.waiting.Add(-1) == 0 && f.content != nil {
		f.content.release()
	}
}

// fly runs a flight.
func (s *Supply) fly(f *flight) {
	c, err := s.open(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c != nil {
		f.content = s.recent.add(f.index, c)
	} else if !f.ahead {
		f.err = err
	}
	delete(s.flights, f.index)
	close(f.done)
}

// open opens a block in the cache, or fetches it.
func (s *Supply) open(f *flight) (content, error) {
	if s.cache != nil {
		b, err := s.cache.Open(f.index)
		if err == nil {
			s.hits.Add(1)
			return b, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, s.fail(f, 0, fmt.Errorf("cannot read the cache: %w", err))
		}
	}
	return s.fetch(f)
}

// fail records a failure of a read.
func (s *Supply) fail(f *flight, attempts int, err error) error {
	failure := &block.DiskError{Index: f.index, Attempts: attempts, Reason: err.Error()}
	if !f.ahead {
		s.Fail(failure)
	}
	return failure
}
