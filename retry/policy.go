package retry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// How long a call is made again after its first failure of a kind.
const (
	// ThrottledFor is long: busy accounts are throttled for minutes, and the work of a
	// build is worth more than the wait.
	ThrottledFor = 10 * time.Minute
	// FailingFor is shorter: a cloud fails at some requests every time.
	FailingFor = 2 * time.Minute
	// SkewedFor is short: the second signature is accepted, or none is.
	SkewedFor = 5 * time.Second
	// UnseenFor is longer than a cloud was seen to take to know a new resource.
	UnseenFor = 2 * time.Minute
	// UnreachedFor is for an endpoint that has never answered: it is probably wrong.
	UnreachedFor = 5 * time.Second
)

// The pauses between attempts, and how long a call fails before a user is told.
const (
	first     = 250 * time.Millisecond
	longest   = 15 * time.Second
	tellAfter = 5 * time.Second
)

// TellEvery is the interval at which a user is told again that something is held up.
const TellEvery = time.Minute

// Policy limits the number and the duration of a call's retries. The zero value is the default.
type Policy struct {
	// First is the pause after the first attempt; 0 means 250 ms. Pauses grow by a half
	// each up to 15 seconds, and are shortened by up to a half at random, so that builds
	// that were throttled together do not come back together.
	First time.Duration
	// WaitLimit, if not 0, replaces ThrottledFor and FailingFor, and is an upper bound of the
	// other limits.
	WaitLimit time.Duration
	// Attempts, if not 0, is how often a call is made in place of ThrottledFor and
	// FailingFor.
	Attempts int
	// Reached, if not nil, reports whether the endpoint has responded before.
	Reached func() bool
	// Clock, if not nil, takes the place of the real time.
	Clock Clock
}

// Clock returns the time and waits.
type Clock interface {
	Now() time.Time
	// Sleep waits, or returns why the context has ended.
	Sleep(context.Context, time.Duration) error
}

type realTime struct{}

func (realTime) Now() time.Time { return time.Now() }

func (realTime) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// Sleep waits on the policy's clock, or returns why the context has ended.
func (p Policy) Sleep(ctx context.Context, d time.Duration) error { return p.clock().Sleep(ctx, d) }

func (p Policy) clock() Clock {
	if p.Clock == nil {
		return realTime{}
	}
	return p.Clock
}

// Call names a call for messages, and classifies its errors.
type Call struct {
	// Service and Action are such as EC2 and CreateVolume.
	Service, Action string
	Kind            func(error) Kind
}

type attemptKey struct{}

// attempt is one attempt of a call.
type attempt struct {
	action string
	n      int
	pause  time.Duration
}

// AttemptOf returns which attempt of an action the context is for, from 1, and the pause
// before it.
func AttemptOf(ctx context.Context, action string) (n int, pause time.Duration) {
	if a, ok := ctx.Value(attemptKey{}).(attempt); ok && a.action == action {
		return a.n, a.pause
	}
	return 1, 0
}

type onceKey struct{}

// Once returns a context in which calls are not made again, for callers that ask at
// intervals anyway. Only a Skewed call still is: its limit is short, and a wait would take
// its refusal for one of the call's subject. An error that may pass is a *CallError.
func Once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

// Do makes a call until it succeeds, fails permanently, or is at the policy's limit. It
// ends with the context. A call that is made within try and is at its own limit ends the
// outer call, too.
func (p Policy) Do(ctx context.Context, call Call, try func(context.Context) error) error {
	run := run{Policy: p, call: call, clock: p.clock(), since: map[Kind]time.Time{}}
	for pause := time.Duration(0); ; {
		run.attempts++
		err := try(context.WithValue(ctx, attemptKey{}, attempt{call.Action, run.attempts, pause}))
		if err == nil {
			return nil
		}
		pause, err = run.failed(ctx, err)
		if err != nil {
			return err
		}
		if cause := run.clock.Sleep(ctx, pause); cause != nil {
			return fmt.Errorf("%w; %w", cause, run.last)
		}
	}
}

// run is a call under way.
type run struct {
	Policy
	call     Call
	clock    Clock
	attempts int
	// since holds when the first attempt failed of each kind.
	since map[Kind]time.Time
	last  *CallError
	told  time.Time
}

// failed takes note of a failed attempt. It returns the pause before the next one, or the
// error that ends the call.
func (r *run) failed(ctx context.Context, err error) (time.Duration, error) {
	var given *CallError
	kind := r.call.Kind(err)
	switch {
	case ctx.Err() != nil:
		return 0, cancelled(ctx, err)
	case errors.As(err, &given) || kind == Permanent:
		return 0, err
	}
	now := r.clock.Now()
	if r.since[kind].IsZero() {
		r.since[kind] = now
	}
	r.last = &CallError{Kind: kind, Since: r.since[kind], At: now, Attempts: r.attempts, Err: err}
	left, spent := r.left(kind, now.Sub(r.since[kind]))
	if spent || kind != Skewed && ctx.Value(onceKey{}) != nil {
		return 0, r.last
	}
	pause := min(r.pause(), left)
	r.tell(ctx, now, pause)
	return pause, nil
}

// cancelled returns why the context has ended, and the error of the attempt that it ended.
func cancelled(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}

// left returns how long attempts go on, of which the first of a kind failed so long ago,
// and whether the last was the last.
func (r *run) left(kind Kind, gone time.Duration) (left time.Duration, spent bool) {
	limit := r.limit(kind)
	if r.Attempts > 0 && kind.trouble() {
		if r.attempts >= r.Attempts {
			return 0, true
		}
		if r.WaitLimit == 0 {
			return longest, false
		}
	}
	return limit - gone, gone >= limit
}

// limit returns how long a call is made again after its first failure of a kind.
func (p Policy) limit(kind Kind) time.Duration {
	limit := FailingFor
	switch {
	case kind == Skewed:
		limit = SkewedFor
	case kind == Unseen:
		limit = UnseenFor
	case kind == Unreached && p.Reached != nil && !p.Reached():
		limit = UnreachedFor
	case p.WaitLimit > 0:
		return p.WaitLimit
	case kind == Throttled:
		return ThrottledFor
	}
	if p.WaitLimit > 0 {
		return min(limit, p.WaitLimit)
	}
	return limit
}

// pause returns the pause after the attempts so far.
func (r *run) pause() time.Duration {
	full := r.First
	if full == 0 {
		full = first
	}
	for n := 1; n < r.attempts && full < longest; n++ {
		full = min(full+full/2, longest)
	}
	return full - rand.N(full/2+1)
}

// tell makes an event of a call that is held up for long, and again each tellEvery.
func (r *run) tell(ctx context.Context, now time.Time, pause time.Duration) {
	f := r.last
	if !f.Kind.trouble() || now.Add(pause).Sub(f.Since) < tellAfter || !r.told.IsZero() && now.Sub(r.told) < TellEvery {
		return
	}
	r.told = now
	limit := r.limit(f.Kind)
	if r.Attempts > 0 {
		limit = r.WaitLimit
	}
	event.Emit(ctx, event.Held{What: r.call.Service + " " + r.call.Action, Why: f.Kind.String(), Since: f.Since, Limit: limit})
}
