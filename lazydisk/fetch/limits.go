package fetch

import (
	"math/rand/v2"
	"time"
)

// Limits bound the attempts to fetch a block. The zero value of a field is its default.
type Limits struct {
	// Attempt is the time limit of a request. The default is 20 seconds.
	Attempt time.Duration
	// Total is the time limit of all attempts. The default is 90 seconds: the kernel reports
	// processes that wait longer than 120 seconds for a disk.
	Total time.Duration
	// Pause is the first pause between attempts; it doubles each time up to 50 times the first.
	// The default is 100 milliseconds.
	Pause time.Duration
}

// LimitedTo returns the limits with this limit of all attempts.
func LimitedTo(total time.Duration) Limits {
	return Limits{Total: total, Attempt: min(Limits{}.withDefaults().Attempt, total/4)}
}

func (l Limits) withDefaults() Limits {
	if l.Attempt <= 0 {
		l.Attempt = 20 * time.Second
	}
	if l.Total <= 0 {
		l.Total = 90 * time.Second
	}
	if l.Pause <= 0 {
		l.Pause = 100 * time.Millisecond
	}
	return l
}

// pause returns the pause after a number of attempts, with jitter.
func (l Limits) pause(attempts int) time.Duration {
	pause := min(l.Pause<<min(attempts-1, 10), 50*l.Pause)
	return pause/2 + rand.N(pause/2+1)
}

const (
	// fetches is the number of requests at a time that reads wait for.
	fetches = 16
	// prefetches is the number of requests at a time for blocks ahead of reads.
	prefetches = 32
	// kept is the number of blocks that are kept open, so that a block that is read in several
	// parts is opened once.
	kept = 32
	// keptInMemory is how many of these may be in memory, because the cache cannot keep them.
	keptInMemory = 24
)
