package fault

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Held is a call that is stopped.
type Held struct {
	// N counts the holds since the start, from 1. It is what a hold is released by.
	N       int       `json:"n"`
	Dialect string    `json:"dialect"`
	Action  string    `json:"action"`
	When    When      `json:"when"`
	Since   time.Time `json:"since"`
}

// errGone ends a hold whose client went away, or whose cloud ended.
var errGone = errors.New("the call was given up while it was held")

// Holds are the calls that are stopped now. The zero value has none; it may be used
// from many goroutines.
type Holds struct {
	mu      sync.Mutex
	n       int
	now     map[int]*hold
	changed chan struct{} // closed when one is added; nil if nobody waits
}

type hold struct {
	Held
	free chan struct{}
}

// Wait stops a call until it is released. It fails when the context ends first.
func (h *Holds) Wait(ctx context.Context, call Held) error {
	mine := h.add(call)
	defer h.remove(mine.N)
	select {
	case <-mine.free:
		return nil
	case <-ctx.Done():
		return errGone
	}
}

func (h *Holds) add(call Held) *hold {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now == nil {
		h.now = map[int]*hold{}
	}
	h.n++
	call.N, call.Since = h.n, time.Now()
	mine := &hold{call, make(chan struct{})}
	h.now[call.N] = mine
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
	return mine
}

func (h *Holds) remove(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.now, n)
}

// List tells the calls that are held, the longest held first.
func (h *Holds) List() []Held {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.list()
}

func (h *Holds) list() []Held {
	out := []Held{}
	for _, held := range h.now {
		out = append(out, held.Held)
	}
	slices.SortFunc(out, func(a, b Held) int { return a.N - b.N })
	return out
}

// Await is List as soon as that has something, or when the context ends.
func (h *Holds) Await(ctx context.Context) []Held {
	for {
		h.mu.Lock()
		if len(h.now) > 0 || ctx.Err() != nil {
			defer h.mu.Unlock()
			return h.list()
		}
		if h.changed == nil {
			h.changed = make(chan struct{})
		}
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// Release lets a held call go on. It tells whether there was one of this number.
func (h *Holds) Release(n int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := h.now[n]
	if held == nil {
		return false
	}
	close(held.free)
	delete(h.now, n)
	return true
}

// ReleaseAll lets all held calls go on.
func (h *Holds) ReleaseAll() {
	for _, held := range h.List() {
		h.Release(held.N)
	}
}
