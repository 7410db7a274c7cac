package supply

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
func (s *Supply) fetch(f *flight) (content, error) {
	if failure := s.Failure(); failure != nil {
		return nil, failure
	}
	slots, limit := s.slots, s.limits.Total
	if f.ahead { // a read that waits for it has all of its own time left
		slots, limit = s.ahead, min(limit, s.limits.Attempt)
	}
	ctx, cancel := context.WithTimeoutCause(s.ctx, limit, errTotal)
	defer cancel()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, s.fail(f, 0, context.Cause(ctx))
	}
	b, unlock := s.share(ctx, f)
	defer unlock()
	if b != nil {
		return b, nil
	}
	return s.attempts(ctx, f)
}

// share waits for another process that fetches the block, and returns the block if it is then in
// the cache. If that takes too long, this process fetches it too.
func (s *Supply) share(ctx context.Context, f *flight) (b content, unlock func()) {
	none := func() {}
	if s.cache == nil {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(ctx, min(s.limits.Attempt, s.limits.Total/4))
	defer cancel()
	unlock, err := s.cache.Lock(ctx, f.index)
	if err != nil {
		unlock = none
	}
	if opened, err := s.cache.Open(f.index); err == nil {
		s.hits.Add(1)
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
func (s *Supply) attempts(ctx context.Context, f *flight) (content, error) {
	data := buffers.Get().(*[block.Size]byte)[:]
	var last error
	for n := 1; ; n++ {
		sum, err := s.request(ctx, f.index, data)
		if err == nil {
			return s.keep(f, sum, data), nil
		}
		if last == nil || ctx.Err() == nil { // the end of the time says less than the error before
			last = err
		}
		if f.ahead || errors.Is(err, block.ErrPermanent) || s.ctx.Err() != nil {
			return nil, s.fail(f, n, err)
		}
		select {
		case <-ctx.Done():
			return nil, s.fail(f, n, fmt.Errorf("%w; the last error: %w", context.Cause(ctx), last))
		case <-s.failed:
			return nil, s.fail(f, n, err)
		case <-time.After(s.limits.pause(n)):
		}
		s.retries.Add(1)
	}
}

// request requests a block once and verifies it.
func (s *Supply) request(ctx context.Context, index int64, data []byte) (block.Sum, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.limits.Attempt, errAttempt)
	defer cancel()
	sum, err := s.source.Fetch(ctx, index, data)
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
func (s *Supply) keep(f *flight, sum block.Sum, data []byte) content {
	s.fetched.Add(1)
	if f.ahead {
		s.prefetched.Add(1)
	}
	if s.cache != nil {
		b, err := s.cache.Put(f.index, sum, data)
		if err == nil {
			buffers.Put((*[block.Size]byte)(data))
			return b
		}
	}
	s.uncached.Add(1)
	return &inMemory{sum, data}
}

// List calls a function with all present blocks of the source, in ascending order.
func (s *Supply) List(each func(block.Range) error) error {
	ctx, cancel := context.WithTimeoutCause(s.ctx, listTimeout, errTotal)
	defer cancel()
	for from := int64(0); from >= 0; {
		present, next, err := s.listOnce(ctx, from)
		if err == nil && next >= 0 && next <= from {
			err = fmt.Errorf("the part from block %d continues at block %d", from, next)
		}
		if err != nil {
			return fmt.Errorf("cannot list the blocks of the source: %w", err)
		}
		for _, r := range present {
			if err := each(r); err != nil {
				return err
			}
		}
		from = next
	}
	return nil
}

// listTimeout is how long all requests for the list of present blocks may take.
const listTimeout = 10 * time.Minute

// listOnce requests a part of the list until that succeeds, within the limits.
func (s *Supply) listOnce(ctx context.Context, from int64) (present []block.Range, next int64, err error) {
	deadline := time.Now().Add(s.limits.Total)
	for n := 1; ; n++ {
		attempt, cancel := context.WithTimeoutCause(ctx, s.limits.Attempt, errAttempt)
		present, next, err = s.source.List(attempt, from)
		cancel()
		if err == nil || errors.Is(err, block.ErrPermanent) || ctx.Err() != nil || time.Now().After(deadline) {
			return present, next, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.limits.pause(n)):
		}
		s.retries.Add(1)
	}
}

// Sum returns the checksum of a present block. It fetches the block, if necessary, with a single
// attempt, and an error does not fail the supply.
func (s *Supply) Sum(index int64) (sum block.Sum, err error) {
	c, f, first := s.join(index, true)
	if c != nil {
		defer c.release()
		return c.Sum(), nil
	}
	if first {
		s.fly(f)
	}
	<-f.done
	defer s.leave(f)
	if f.content == nil {
		return sum, fmt.Errorf("cannot get the checksum of block %d", index)
	}
	return f.content.Sum(), nil
}
