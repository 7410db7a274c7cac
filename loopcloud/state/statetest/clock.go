package statetest

import (
	"fmt"
	"sync"
	"time"
)

// Clock stands still until it is moved.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock is a clock that shows a time.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now is the time that the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Pass moves the clock on.
func (c *Clock) Pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// CountingIDs is a state.Config.NewID whose ids count: vol-1, snap-2, …, filled up
// with zeros to the digits that are asked for.
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
