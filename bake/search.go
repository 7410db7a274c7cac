package bake

import (
	"context"
	"errors"
	"time"
)

// longestInterval is the longest interval between two lists of a search.
const longestInterval = 500 * time.Millisecond

// search lists the resources that a request may have created whose answer was an error, or
// was lost. Reading calls may lag behind, so that an empty list is repeated until the limit.
func search[ID ~string](ctx context.Context, limit time.Duration, find func(context.Context) ([]ID, error)) ([]ID, error) {
	for begun := (time.Time{}); ; {
		ids, err := find(ctx)
		if begun.IsZero() {
			begun = time.Now() // the first answer may have come late
		}
		if err != nil || len(ids) > 0 || time.Since(begun) >= limit {
			return ids, err
		}
		if err := sleep(ctx, min(limit/4, longestInterval)); err != nil {
			return nil, err
		}
	}
}

// readDescribed reads a resource until the cloud describes it, or until the limit.
func readDescribed[T any](ctx context.Context, limit time.Duration, read func() (T, error), described func(T) bool) (T, error) {
	for begun := time.Now(); ; {
		x, err := read()
		if err == nil && described(x) || err != nil && !errors.Is(err, ErrNotFound) || time.Since(begun) >= limit {
			return x, err
		}
		if err := sleep(ctx, min(limit/4, longestInterval)); err != nil {
			return x, err
		}
	}
}
