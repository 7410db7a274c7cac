package fetch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cache"
)

// Fetcher provides the blocks of a source. Its methods may be called by several goroutines.
type Fetcher struct {
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
	origins origins
}

// counters count events since the start.
type counters struct {
	fetched, prefetched, retries, uncached atomic.Int64
	// cacheErr is the first error of adding a block to the cache.
	cacheErr atomic.Pointer[error]
}

// Options are the options of a fetcher.
type Options struct {
	Source block.Source
	// Cache may be nil.
	Cache  *cache.Source
	Limits Limits
	// Wanted reports whether a block is present and may be read, so that it is worth a
	// prefetch. nil disables prefetches.
	Wanted func(index int64) bool
}

// New returns a fetcher.
func New(o Options) *Fetcher {
	f := &Fetcher{
		source: o.Source, cache: o.Cache, limits: o.Limits.withDefaults(), wanted: o.Wanted,
		slots: make(chan struct{}, fetches), ahead: make(chan struct{}, prefetches),
		flights: map[int64]*flight{}, failed: make(chan struct{}),
	}
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	return f
}

// Close ends all requests, whose reads then fail with an error.
func (f *Fetcher) Close(reason error) {
	f.cancel(reason)
	f.running.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recent.clear()
}

// Stats returns the figures.
func (f *Fetcher) Stats() Stats {
	return Stats{
		Fetched: f.fetched.Load(), Prefetched: f.prefetched.Load(), FromCache: f.origins.blocksFromCache(),
		Retries: f.retries.Load(), Uncached: f.uncached.Load(),
	}
}

// CacheError returns the first error of adding a block to the cache, or nil.
func (f *Fetcher) CacheError() error {
	if err := f.cacheErr.Load(); err != nil {
		return *err
	}
	return nil
}

// Fail records the first failure. Blocks that have to be fetched fail from then on.
func (f *Fetcher) Fail(failure *block.DiskError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failure == nil {
		f.failure = failure
		close(f.failed)
	}
}

// Failed returns a channel that is closed at the first failure.
func (f *Fetcher) Failed() <-chan struct{} { return f.failed }

// Failure returns the first failure, or nil.
func (f *Fetcher) Failure() *block.DiskError {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failure
}

// damageLimit is how often a block is read again after the cache had a damaged copy.
const damageLimit = 3

// ReadAt reads a part of a present block.
func (f *Fetcher) ReadAt(p []byte, index int64, off int64) error {
	for range damageLimit {
		c, err := f.get(index)
		if err != nil {
			return err
		}
		_, err = c.ReadAt(p, off)
		c.release()
		if !errors.Is(err, cache.ErrDamaged) {
			return err
		}
		f.forget(index)
	}
	failure := &block.DiskError{Index: index, Reason: "the cache damages the block each time"}
	f.Fail(failure)
	return failure
}

// Sum returns the checksum of a present block. It fetches the block, if necessary, with a single
// attempt, and an error does not fail the fetcher.
func (f *Fetcher) Sum(index int64) (sum block.Sum, err error) {
	c, fl, first := f.join(index, true)
	if c != nil {
		defer c.release()
		return c.Sum(), nil
	}
	if first {
		f.run(fl)
	}
	<-fl.done
	defer f.leave(fl)
	if fl.content == nil {
		return sum, fmt.Errorf("cannot get the checksum of block %d", index)
	}
	return fl.content.Sum(), nil
}

// forget drops a damaged block.
func (f *Fetcher) forget(index int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recent.drop(index)
}

// Holds reports whether a block can be read without a request to the source.
func (f *Fetcher) Holds(index int64) bool {
	f.mu.Lock()
	_, held := f.recent.entries[index]
	f.mu.Unlock()
	return held || f.cache != nil && f.cache.Has(index)
}

// get returns the content of a block for one user.
func (f *Fetcher) get(index int64) (*shared, error) {
	for {
		c, fl, first := f.join(index, false)
		if c != nil {
			return c, nil
		}
		if first {
			f.run(fl)
		}
		<-fl.done
		if fl.content != nil {
			fl.content.users.Add(1)
			f.leave(fl)
			return fl.content, nil
		}
		f.leave(fl)
		if fl.err != nil {
			return nil, fl.err
		}
		// a prefetch that failed: fetch it with retries
	}
}

// join returns the content of a block or, if it is not open, the flight that opens it. The caller
// must run it if first is true.
func (f *Fetcher) join(index int64, ahead bool) (c *shared, fl *flight, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.recent.get(index); c != nil {
		return c, nil, false
	}
	if fl := f.flights[index]; fl != nil {
		fl.waiting.Add(1)
		return nil, fl, false
	}
	fl = &flight{index: index, ahead: ahead, done: make(chan struct{})}
	fl.waiting.Add(1)
	f.flights[index] = fl
	return nil, fl, true
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
func (f *Fetcher) leave(fl *flight) {
	if fl.waiting.Add(-1) == 0 && fl.content != nil {
		fl.content.release()
	}
}

// run runs a flight.
func (f *Fetcher) run(fl *flight) {
	c, err := f.open(fl)
	f.mu.Lock()
	defer f.mu.Unlock()
	if c != nil {
		fl.content = f.recent.add(fl.index, c)
	} else if !fl.ahead {
		fl.err = err
	}
	delete(f.flights, fl.index)
	close(fl.done)
}

// open opens a block in the cache, or fetches it. A block that the cache cannot open is fetched too.
func (f *Fetcher) open(fl *flight) (content, error) {
	if f.cache != nil {
		if b, err := f.cache.Open(fl.index); err == nil {
			f.origins.opened(fl.index)
			return b, nil
		}
	}
	return f.fetch(fl)
}

// fail records a failure of a read.
func (f *Fetcher) fail(fl *flight, attempts int, err error) error {
	failure := &block.DiskError{Index: fl.index, Attempts: attempts, Reason: err.Error()}
	if !fl.ahead {
		f.Fail(failure)
	}
	return failure
}
