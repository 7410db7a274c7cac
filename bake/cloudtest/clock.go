package cloudtest

import (
	"context"
	"sync"
	"time"
)

// Clock is a clock on which time passes only by sleeping, which takes none. It implements
// retry.Clock. The zero value is ready.
type Clock struct {
	mu     sync.Mutex
	passed time.Duration
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	return time.Date(2026, 11, 29, 7, 0, 0, 0, time.UTC).Add(c.Passed())
}

// Passed returns how much time has passed.
func (c *Clock) Passed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed
}

// Pass lets time pass.
func (c *Clock) Pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passed += d
}

// Sleep lets time pass, and lets others run. It returns why the context has ended, if it
// has.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
	c.Pass(d)
	timer := time.NewTimer(time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return context.Cause(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
