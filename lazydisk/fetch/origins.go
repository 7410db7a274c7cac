package fetch

import "sync"

// origins records for each block whether this fetcher has fetched it, or else has opened it in the
// cache. It takes two bits for a block: 32 MiB for the largest volume of EBS, 64 TiB. The zero value is
// empty. Its methods may be called by several goroutines.
type origins struct {
	mu sync.Mutex
	// known has the blocks that were opened or fetched, and fetched those of them that were fetched.
	known, fetched bitmap
	fromCache      int64
}

// opened records that a block was opened in the cache.
func (o *origins) opened(index int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.known.has(index) {
		o.known.add(index)
		o.fromCache++
	}
}

// received records that a block was fetched. A block that was opened in the cache before, where it was
// damaged, then does not count as one from the cache.
func (o *origins) received(index int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known.has(index) && !o.fetched.has(index) {
		o.fromCache--
	}
	o.known.add(index)
	o.fetched.add(index)
}

// blocksFromCache returns the number of blocks that were opened in the cache and not fetched.
func (o *origins) blocksFromCache() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fromCache
}

// bitmap is a set of numbers that are not negative.
type bitmap []uint64

func (b bitmap) has(n int64) bool {
	return n/64 < int64(len(b)) && b[n/64]&(1<<(n%64)) != 0
}

func (b *bitmap) add(n int64) {
	if missing := n/64 + 1 - int64(len(*b)); missing > 0 {
		*b = append(*b, make(bitmap, missing)...)
	}
	(*b)[n/64] |= 1 << (n % 64)
}
