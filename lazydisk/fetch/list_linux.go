package fetch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// List calls a function with all present blocks of the source, in ascending order.
func (f *Fetcher) List(each func(block.Range) error) error {
	ctx, cancel := context.WithTimeoutCause(f.ctx, listTimeout, errTotal)
	defer cancel()
	for from := int64(0); from >= 0; {
		present, next, err := f.listOnce(ctx, from)
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
func (f *Fetcher) listOnce(ctx context.Context, from int64) (present []block.Range, next int64, err error) {
	deadline := time.Now().Add(f.limits.Total)
	for n := 1; ; n++ {
		attempt, cancel := context.WithTimeoutCause(ctx, f.limits.Attempt, errAttempt)
		present, next, err = f.source.List(attempt, from)
		cancel()
		if err == nil || errors.Is(err, block.ErrPermanent) || ctx.Err() != nil {
			return present, next, err
		}
		if time.Now().After(deadline) {
			return nil, 0, fmt.Errorf("%d attempts in %s: %w", n, f.limits.Total, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(f.limits.pause(n)):
		}
		f.retries.Add(1)
	}
}
