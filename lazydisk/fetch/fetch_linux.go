package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// fetch fetches a block from the source, unless another process does that at this moment.
func (f *Fetcher) fetch(fl *flight) (content, error) {
	if failure := f.Failure(); failure != nil {
		return nil, failure
	}
	slots, limit := f.slots, f.limits.Total
	if fl.ahead { // a read that waits for it has all of its own time left
		slots, limit = f.ahead, min(limit, f.limits.Attempt)
	}
	ctx, cancel := context.WithTimeoutCause(f.ctx, limit, errTotal)
	defer cancel()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, f.fail(fl, 0, context.Cause(ctx))
	}
	b, unlock := f.share(ctx, fl)
	defer unlock()
	if b != nil {
		return b, nil
	}
	return f.attempts(ctx, fl)
}

// share waits for another process that fetches the block, and returns the block if it is then in
// the cache. If that takes too long, this process fetches it too.
func (f *Fetcher) share(ctx context.Context, fl *flight) (b content, unlock func()) {
	none := func() {}
	if f.cache == nil {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(ctx, min(f.limits.Attempt, f.limits.Total/4))
	defer cancel()
	unlock, err := f.cache.Lock(ctx, fl.index)
	if err != nil {
		unlock = none
	}
	if opened, err := f.cache.Open(fl.index); err == nil {
		f.origins.opened(fl.index)
		return opened, unlock
	}
	return nil, unlock
}

var (
	errTotal   = errors.New("the time limit for all attempts is over")
	errAttempt = errors.New("no response within the time limit of a request")
)

// buffers holds buffers of blocks that the cache keeps.
var buffers = sync.Pool{New: func() any { return new([block.Size]byte) }}

// attempts requests a block until that succeeds, within the limits. A prefetch is requested once.
func (f *Fetcher) attempts(ctx context.Context, fl *flight) (content, error) {
	data := buffers.Get().(*[block.Size]byte)[:]
	var last error
	for n := 1; ; n++ {
		sum, err := f.request(ctx, fl.index, data)
		if err == nil {
			return f.keep(fl, sum, data), nil
		}
		if last == nil || ctx.Err() == nil { // the end of the time says less than the error before
			last = err
		}
		if fl.ahead || errors.Is(err, block.ErrPermanent) || f.ctx.Err() != nil {
			return nil, f.fail(fl, n, err)
		}
		select {
		case <-ctx.Done():
			return nil, f.fail(fl, n, fmt.Errorf("%w; the last error: %w", context.Cause(ctx), last))
		case <-f.failed:
			return nil, f.fail(fl, n, err)
		case <-time.After(f.limits.pause(n)):
		}
		f.retries.Add(1)
	}
}

// request requests a block once and verifies it.
func (f *Fetcher) request(ctx context.Context, index int64, data []byte) (block.Sum, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.limits.Attempt, errAttempt)
	defer cancel()
	sum, err := f.source.Fetch(ctx, index, data)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return sum, err
	}
	if sha256.Sum256(data) != sum {
		return sum, block.ErrChecksum
	}
	return sum, nil
}

// keep adds a fetched block to the cache. If the cache cannot keep it, it stays in memory for a
// while.
func (f *Fetcher) keep(fl *flight, sum block.Sum, data []byte) content {
	f.fetched.Add(1)
	f.origins.received(fl.index)
	if fl.ahead {
		f.prefetched.Add(1)
	}
	if f.cache != nil {
		b, err := f.cache.Put(fl.index, sum, data)
		if err == nil {
			buffers.Put((*[block.Size]byte)(data))
			return b
		}
		f.cacheErr.CompareAndSwap(nil, &err)
	}
	f.uncached.Add(1)
	return &inMemory{sum, data}
}
