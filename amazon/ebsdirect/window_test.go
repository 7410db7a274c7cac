package ebsdirect

import (
	"context"
	"errors"
	"io"
	"testing"
)

// entered returns the rounds of a number of requests that enter at once.
func entered(t *testing.T, w *window, n int) (rounds []int) {
	t.Helper()
	for range n {
		round, err := w.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rounds = append(rounds, round)
	}
	return rounds
}

// TestWindow: congestion of many requests of one round halves the window once. It then grows more
// slowly than before.
func TestWindow(t *testing.T) {
	w := newWindow(20)
	check := func(what string, want int) {
		t.Helper()
		if int(w.size) != want {
			t.Errorf("%s: the size is %f, not %d", what, w.size, want)
		}
	}
	check("at first", 16)
	for _, round := range entered(t, w, 16) {
		w.leave(round, false)
	}
	check("after successes", 20)
	for _, round := range entered(t, w, 20) {
		w.leave(round, true)
	}
	check("after congestion", 10)
	for _, round := range entered(t, w, 10) {
		w.leave(round, false)
	}
	check("after one window of successes", 10)
	for _, round := range entered(t, w, 10) {
		w.leave(round, false)
	}
	check("after two", 11)
	for range 10 {
		w.leave(entered(t, w, 1)[0], true)
	}
	check("after continuous congestion", 1)
	if w.busy != 0 {
		t.Errorf("%d requests are under way", w.busy)
	}
}

// TestWindowIsFair: requests begin in the order in which they have entered. One that is cancelled
// does not hold up the others.
func TestWindowIsFair(t *testing.T) {
	w := newWindow(1)
	first := entered(t, w, 1)[0]
	ctx, cancel := context.WithCancel(t.Context())
	began := make(chan int, 3)
	enter := func(n int, ctx context.Context) {
		waiting := len(w.queue)
		go func() {
			round, err := w.enter(ctx)
			if err != nil {
				n = -n
			}
			began <- n
			if err == nil {
				w.leave(round, false)
			}
		}()
		for {
			w.mu.Lock()
			n := len(w.queue)
			w.mu.Unlock()
			if n > waiting {
				return
			}
		}
	}
	enter(1, t.Context())
	enter(2, ctx)
	enter(3, t.Context())
	cancel()
	if n := <-began; n != -2 {
		t.Errorf("%d was cancelled, not 2", n)
	}
	w.leave(first, false)
	if a, b := <-began, <-began; a != 1 || b != 3 {
		t.Errorf("%d began before %d", a, b)
	}
}

// TestAbandonedTurn: a request that is cancelled just after it was admitted leaves the window.
func TestAbandonedTurn(t *testing.T) {
	w := newWindow(1)
	turn := make(chan int, 1)
	w.queue = append(w.queue, turn)
	w.admit()
	w.abandon(turn)
	entered(t, w, 1)
}

// TestRetiredBody: a body gives out no data after its request has ended.
func TestRetiredBody(t *testing.T) {
	b := newBody([]byte("data"))
	p := make([]byte, 2)
	if n, err := b.Read(p); n != 2 || err != nil || string(p) != "da" {
		t.Errorf("read %q, %v", p[:n], err)
	}
	b.retire()
	_, read := b.Read(p)
	_, sought := b.Seek(0, io.SeekStart)
	if !errors.Is(read, errRetired) || !errors.Is(sought, errRetired) {
		t.Errorf("a retired body: %v, %v", read, sought)
	}
}

// TestTokensAreBounded: the number of tokens has a limit, and the last one is kept.
func TestTokensAreBounded(t *testing.T) {
	var all tokens
	for i := range int64(mostTokens + 1000) {
		all.put(i, "t")
		if _, ok := all.get(i); !ok {
			t.Fatalf("token %d is not kept", i)
		}
	}
	if len(all.all) != mostTokens {
		t.Errorf("%d tokens are kept", len(all.all))
	}
}
