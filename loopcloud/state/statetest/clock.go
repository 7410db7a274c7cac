package statetest

import (
	"fmt"
	"sync"
	"time"
)

// Clock is a clock that only Pass advances.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock with this time.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Pass advances the clock.
func (c *Clock) Pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// CountingIDs returns a state.Config.NewID that numbers IDs: vol-1, snap-2, …, with leading
// zeros.
func CountingIDs() func(prefix string, digits int) string {
	var mu sync.Mutex
	n := 0
	return func(prefix string, digits int) string {
		mu.Lock()
		defer mu.Unlock()
		n++
		return fmt.Sprintf("%s-%0*x", prefix, digits, n)
	}
}
