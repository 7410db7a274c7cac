package fault

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Held is a call that is held.
type Held struct {
	// N numbers the held calls since the start, from 1. Release takes it.
	N       int       `json:"n"`
	Dialect string    `json:"dialect"`
	Action  string    `json:"action"`
	When    When      `json:"when"`
	Since   time.Time `json:"since"`
}

// errGone is the error of a held call whose client is gone, or whose cloud was closed.
var errGone = errors.New("the call was abandoned while it was held")

// Holds contains the calls that are held. The zero value is empty. Its methods may be called
// concurrently.
type Holds struct {
	mu      sync.Mutex
	n       int
	now     map[int]*hold
	changed chan struct{} // closed when a call is added; nil if nothing waits for it
}

type hold struct {
	Held
	free chan struct{}
}

// Wait holds a call until it is released. It returns an error if the context ends first.
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

// List returns the held calls, the longest held first.
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

// Await is like List, but waits until there is a held call or the context ends.
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

// Release releases a held call, and reports whether there was one with this number.
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

// ReleaseAll releases all held calls.
func (h *Holds) ReleaseAll() {
	for _, held := range h.List() {
		h.Release(held.N)
	}
}
