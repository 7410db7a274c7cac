package osc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// retry is the one policy by which calls are made again: after throttling, transport
// faults and faults of the API's own, with a wait that doubles from first to longest and
// is jittered over its whole length, at most tries times. Each try is signed anew. All
// calls can be: those that create carry a client token, or look first.
type retry struct {
	tries          int
	first, longest time.Duration
	// settling is how often a call is made again whose refusal says that a state
	// is against it, and that will change.
	settling int
	// failing is how often a call is made again at which the API itself failed: some
	// requests it fails at for good.
	failing int
	// try bounds one try, and patience, if it is not 0, all of them.
	try, patience time.Duration
	// sleep waits, or answers the context's error.
	sleep func(context.Context, time.Duration) error
	// reached is set by the first answer. Before it, an endpoint that cannot be
	// reached is taken for a wrong one.
	reached *atomic.Bool
}

func defaultRetry() retry {
	return retry{
		tries: 10, first: 250 * time.Millisecond, longest: 10 * time.Second,
		settling: 5, failing: 5, try: tryLimit, sleep: sleep, reached: new(atomic.Bool),
	}
}

// within is the same policy for somebody who waits no longer; 0 changes nothing.
func (r retry) within(patience time.Duration) retry {
	r.try, r.patience = builder.AnswerLimit(r.try, patience), patience
	return r
}

// spent tells whether the nth try was the last. The API itself failed at so many.
func (r retry) spent(n, failures int, begun time.Time) bool {
	return n >= r.tries || failures > r.failing || r.patience > 0 && time.Since(begun) >= r.patience
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// tryLimit bounds one try: the SDK has no time-out of its own.
const tryLimit = 2 * time.Minute

// do makes a call until it succeeds or is refused for good.
func (r retry) do(ctx context.Context, try func(context.Context) error) error {
	conflicts, failures, begun, ended := 0, 0, time.Now(), time.Now()
	for n := 1; ; n++ {
		err := r.once(context.WithValue(ctx, attemptKey{}, attempt{n, time.Since(ended)}), try)
		ended = time.Now()
		if is(err, (*refusal).failed) {
			failures++
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return errors.Join(context.Cause(ctx), err)
		case errors.Is(err, errUnsettled) && conflicts < r.settling:
			conflicts++
		case !r.passing(err):
			return err
		case r.spent(n, failures, begun):
			return fmt.Errorf("%w after %d tries: %w", errGivenUp, n, err)
		}
		if err := r.sleep(ctx, r.wait(n)); err != nil {
			return err
		}
	}
}

// attempt is which try of a call it is, and the time since the one before.
type attempt struct {
	n     int
	pause time.Duration
}

type attemptKey struct{}

func (r retry) once(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.try)
	defer cancel()
	err := try(ctx)
	var no *refusal
	if err == nil || errors.As(err, &no) {
		r.reached.Store(true)
	}
	return err
}

// wait is how long to wait after the nth try.
func (r retry) wait(n int) time.Duration {
	d := min(r.first<<min(n-1, 20), r.longest)
	return d/2 + rand.N(d/2+1)
}

// errUnsettled is wrapped by an error about a state that will change by itself.
var errUnsettled = errors.New("not yet")

// errGivenUp is wrapped by an error that was tried often enough, by a call made
// within another's try too.
var errGivenUp = errors.New("given up")

// passing tells whether an error may be gone at the next try.
func (r retry) passing(err error) bool {
	var (
		no    *refusal
		fault *transportError
		dial  *net.OpError
	)
	switch {
	case errors.Is(err, errGivenUp):
		return false
	case errors.As(err, &no):
		return no.throttled() || no.lost() || no.failed()
	case !errors.As(err, &fault), fault.wrongTLS():
		return false
	case errors.As(err, &dial) && dial.Op == "dial":
		return r.reached.Load()
	}
	return true
}
