//go:build unix

package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// flood calls the API without pause, like a busy account.
type flood struct {
	cancel           context.CancelFunc
	work             sync.WaitGroup
	mu               sync.Mutex
	asked, throttled int
}

// atOnce is the number of concurrent calls of a flood.
const atOnce = 20

// flooded starts a flood if wanted is true.
func (r *runner) flooded(ctx context.Context, wanted bool) *flood {
	ctx, cancel := context.WithCancel(ctx)
	f := &flood{cancel: cancel}
	if !wanted {
		return f
	}
	for range atOnce {
		f.work.Go(func() {
			for ctx.Err() == nil {
				throttled, err := r.cloud.probe(ctx)
				f.count(throttled, err)
				if err != nil && !throttled {
					_ = pause(ctx, time.Second) // the API cannot be reached
				}
			}
		})
	}
	return f
}

func (f *flood) count(throttled bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil || throttled {
		f.asked++
	}
	if throttled {
		f.throttled++
	}
}

// stop ends the flood.
func (f *flood) stop() {
	f.cancel()
	f.work.Wait()
}

func (f *flood) String() string {
	return fmt.Sprintf("%d of %d calls beside the build were throttled", f.throttled, f.asked)
}
