package ebsdirect

import (
	"context"
	"slices"
	"sync"
)

// A window limits the number of requests under way. As in TCP, each success makes it larger, and
// congestion halves it: at first by one request for each success, and after the first congestion by
// one for each window of successes. Requests begin in the order in which they have entered.
type window struct {
	mu   sync.Mutex
	size float64
	most float64
	busy int
	// round is the number of times that the window was halved.
	round int
	queue []chan int
}

// firstSize is the size of a new window.
const firstSize = 16

func newWindow(most int) *window {
	return &window{size: min(firstSize, float64(most)), most: float64(most)}
}

// enter waits until the request may begin. It returns the round in which it begins.
func (w *window) enter(ctx context.Context) (round int, err error) {
	turn := make(chan int, 1)
	w.mu.Lock()
	w.queue = append(w.queue, turn)
	w.admit()
	w.mu.Unlock()
	select {
	case round := <-turn:
		return round, nil
	case <-ctx.Done():
		w.abandon(turn)
		return 0, context.Cause(ctx)
	}
}

// admit lets requests begin while there is room. The caller holds the lock.
func (w *window) admit() {
	for len(w.queue) > 0 && w.busy < int(w.size) {
		w.busy++
		w.queue[0] <- w.round
		w.queue = w.queue[1:]
	}
}

// abandon takes a request out of the queue, or ends it if it was admitted meanwhile.
func (w *window) abandon(turn chan int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.queue, turn); i >= 0 {
		w.queue = slices.Delete(w.queue, i, i+1)
		return
	}
	w.busy--
	w.admit()
}

// leave ends a request. Several congested requests of one round halve the window once, because
// those that began before it was halved say nothing about its new size.
func (w *window) leave(round int, congested bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy--
	switch {
	case congested && round == w.round:
		w.size = max(1, w.size/2)
		w.round++
	case !congested && w.round == 0:
		w.size = min(w.most, w.size+1)
	case !congested:
		w.size = min(w.most, w.size+1/w.size)
	}
	w.admit()
}
