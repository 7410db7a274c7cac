package fetch

import "sync"

// origins records for each block whether this fetcher has fetched it, or else has opened it in the
// cache. The zero value is empty. Its methods may be called by several goroutines.
type origins struct {
	mu sync.Mutex
	// fetched has an entry for each block, which is false for a block from the cache.
	fetched   map[int64]bool
	fromCache int64
}

// opened records that a block was opened in the cache.
func (o *origins) opened(index int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := o.fetched[index]; !known {
		o.set(index, false)
		o.fromCache++
	}
}

// received records that a block was fetched. A block that was opened in the cache before, where it was
// damaged, then does not count as one from the cache.
func (o *origins) received(index int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if fetched, known := o.fetched[index]; known && !fetched {
		o.fromCache--
	}
	o.set(index, true)
}

func (o *origins) set(index int64, fetched bool) {
	if o.fetched == nil {
		o.fetched = map[int64]bool{}
	}
	o.fetched[index] = fetched
}

// blocksFromCache returns the number of blocks that were opened in the cache and not fetched.
func (o *origins) blocksFromCache() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fromCache
}
