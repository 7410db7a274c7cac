package bake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// Pace holds the polling intervals and the limit of a wait.
type Pace struct {
	// First is the interval after the first look, and Longest the longest interval, as for
	// polling.NewAim. If they are equal, every interval is exactly that.
	First, Longest time.Duration
	// Limit is the time limit without progress. If the cloud reports a percentage, of a
	// snapshot or of the snapshots of a copy, the limit restarts whenever it grows, because
	// a terabyte may take hours.
	Limit time.Duration
	// Attempts, if not 0, is the number of polls. Limit is then ignored.
	Attempts int
}

// Waits holds the paces and limits of a build's waits. Zero fields mean the defaults of
// DefaultWaits.
type Waits struct {
	// Volume is for a volume to become available.
	Volume Pace
	// Attachment is for a volume to become attached, or detached.
	Attachment Pace
	// Snapshot is for a snapshot to be complete.
	Snapshot Pace
	// Image is for an image to become available, or to be gone.
	Image Pace
	// Copy is for a copy of an image to become available; between regions it takes
	// long.
	Copy Pace
	// Settling is for changing calls that lag behind reading calls. It has no Attempts,
	// which are numbers of looks.
	Settling Pace
	// Unseen is how long reading calls may not know a resource that was just created,
	// because they can lag behind creating calls.
	Unseen time.Duration
	// Lost is how long a resource is searched for that a creating call may have created
	// although it returned an error.
	Lost time.Duration
	// InFlight is how long after the request a resource is searched for if the build was
	// killed before the cloud had answered: the request may still be under way.
	InFlight time.Duration
	// Device is how long the kernel may take to show an attached volume, and how long an unmounted
	// direct disk may be in use.
	Device time.Duration
	// Read is how long all attempts to read a block of a direct disk may take, and Server how long
	// its block server may not respond.
	Read, Server time.Duration
	// Release is how long undoing may take, for each group of acts.
	Release time.Duration
}

// DefaultWaits returns the default waits, with short intervals and long limits.
func DefaultWaits() Waits {
	return Waits{
		Volume:     Pace{First: 400 * time.Millisecond, Longest: 2 * time.Second, Limit: 10 * time.Minute},
		Attachment: Pace{First: 400 * time.Millisecond, Longest: 2 * time.Second, Limit: 10 * time.Minute},
		Snapshot:   Pace{First: 400 * time.Millisecond, Longest: 5 * time.Second, Limit: 2 * time.Hour},
		Image:      Pace{First: 400 * time.Millisecond, Longest: 5 * time.Second, Limit: 30 * time.Minute},
		Copy:       Pace{First: 400 * time.Millisecond, Longest: 5 * time.Second, Limit: 2 * time.Hour},
		Settling:   Pace{First: 250 * time.Millisecond, Longest: 5 * time.Second, Limit: 2 * time.Minute},
		Unseen:     30 * time.Second,
		Lost:       2 * time.Second,
		InFlight:   15 * time.Second,
		Device:     2 * time.Minute,
		Read:       90 * time.Second, // the kernel reports processes that wait for a disk for two minutes
		Server:     30 * time.Second,
		Release:    30 * time.Minute,
	}
}

// Polled returns the same waits with a fixed polling interval and number of looks at the
// cloud; 0 leaves the one or the other.
func (w Waits) Polled(interval time.Duration, attempts int) Waits {
	for _, p := range w.paces() {
		if interval > 0 {
			p.First, p.Longest = interval, interval
		}
		p.Attempts = cmp.Or(attempts, p.Attempts)
	}
	return w
}

// LimitedTo returns the waits with this limit for each wait without a limit of its own, whether for
// the cloud or for the kernel. 0 changes nothing.
func (w Waits) LimitedTo(limit time.Duration) Waits {
	for _, p := range w.paces() {
		p.Limit = cmp.Or(p.Limit, limit)
	}
	w.Settling.Limit = cmp.Or(w.Settling.Limit, min(limit, DefaultWaits().Settling.Limit))
	w.Device = cmp.Or(w.Device, limit)
	w.Unseen = cmp.Or(w.Unseen, min(limit, DefaultWaits().Unseen))
	w.Read = cmp.Or(w.Read, min(limit, DefaultWaits().Read))
	w.Server = cmp.Or(w.Server, min(limit, DefaultWaits().Server))
	return w
}

// paces returns the paces of polling the cloud.
func (w *Waits) paces() []*Pace {
	return []*Pace{&w.Volume, &w.Attachment, &w.Snapshot, &w.Image, &w.Copy}
}

// orDefault replaces zero fields by the defaults.
func (w Waits) orDefault() Waits {
	d := DefaultWaits()
	return Waits{
		Volume:     w.Volume.or(d.Volume),
		Attachment: w.Attachment.or(d.Attachment),
		Snapshot:   w.Snapshot.or(d.Snapshot),
		Image:      w.Image.or(d.Image),
		Copy:       w.Copy.or(d.Copy),
		Settling:   w.Settling.or(d.Settling),
		Unseen:     cmp.Or(w.Unseen, d.Unseen),
		Lost:       cmp.Or(w.Lost, d.Lost),
		InFlight:   cmp.Or(w.InFlight, d.InFlight),
		Device:     cmp.Or(w.Device, d.Device),
		Read:       cmp.Or(w.Read, d.Read),
		Server:     cmp.Or(w.Server, d.Server),
		Release:    cmp.Or(w.Release, d.Release),
	}
}

// or replaces zero fields by those of d.
func (p Pace) or(d Pace) Pace {
	return Pace{
		First:    cmp.Or(p.First, d.First),
		Longest:  cmp.Or(p.Longest, d.Longest),
		Limit:    cmp.Or(p.Limit, d.Limit),
		Attempts: p.Attempts,
	}
}

// observation is the result of one look at a resource.
type observation struct {
	// state is in the cloud's words.
	state string
	// percent is the progress; 0 if there is none to report.
	percent int
	// finer, if not 0, is a measure of progress that grows with each percent of a part.
	finer int
	// done means that the wait is over.
	done bool
}

// named returns the state for an error.
func (s observation) named() string {
	return cmp.Or(s.state, "in a state that the cloud does not name")
}

// An observer reads the state of a resource. An error ends the wait, unless it is trouble of the cloud:
// see retry.Trouble.
type observer func(context.Context) (observation, error)

// watch observes a resource until it is done. The wait ends with ctx, with an error of the
// observer, and after Limit or Attempts. A poll that is throttled, fails in the cloud or gets no response
// is not counted as an error. The resource is named in errors by what. Earlier waits of the
// same kind on this host show when to look.
func (u *undoer) watch(ctx context.Context, pace Pace, kind, what string, observe observer) error {
	return pace.until(ctx, schedule{store: u.polling, kind: kind}, what, observe)
}

// until is undoer.watch with a given schedule.
func (p Pace) until(ctx context.Context, s schedule, what string, observe observer) error {
	s.begin(p)
	w := waiting{what: what, begun: time.Now(), progress: time.Now(), told: observation{percent: -1}, seen: observation{state: "not seen yet"}}
	long := reportWait(ctx, what)
	defer long.end()
	pause := s.first()
	for attempt := 1; ; attempt++ {
		if err := sleep(ctx, pause); err != nil {
			return w.ended(ctx, attempt-1, fmt.Errorf("stopped waiting for %s, which was %s: %w", what, w.seen.named(), err))
		}
		s.at = time.Since(w.begun)
		seen, err := p.once(ctx, observe)
		if err = w.took(ctx, seen, err, attempt); err != nil {
			return fmt.Errorf("cannot wait for %s: %w", what, err)
		}
		if w.seen.done {
			s.end()
			return nil
		}
		long.observed(w.seen.named(), w.seen.percent)
		if p.spent(attempt, time.Since(w.progress)) {
			return w.ended(ctx, attempt, w.gaveUp(attempt))
		}
		pause = p.within(s.next(&w), time.Since(w.progress))
		w.tell(ctx, pause, p)
	}
}

// waiting is a wait under way.
type waiting struct {
	what string
	// begun is when the wait began, and progress when there was progress last.
	begun, progress time.Time
	highest         int
	// seen is the last observation that the cloud answered, and told the one that was
	// emitted.
	seen, told observation
	// trouble is the failure in err, which the last look had, since since; nil if that look
	// was answered.
	trouble  *retry.CallError
	err      error
	since    time.Time
	troubled time.Time // when that was last emitted
}

// took records an observation. It returns an error that ends the wait.
func (w *waiting) took(ctx context.Context, seen observation, err error, attempt int) error {
	if w.trouble, w.err = troubleOf(ctx, err), err; w.trouble != nil {
		if w.since.IsZero() {
			w.since = time.Now()
		}
		return nil
	}
	w.since = time.Time{}
	if err != nil || seen != w.told {
		w.emit(ctx, seen, attempt, err)
		w.told = seen
	}
	if err != nil {
		return err
	}
	w.seen = seen
	if far := max(seen.percent, seen.finer); far > w.highest {
		w.highest, w.progress = far, time.Now()
	}
	return nil
}

// emit emits the event of an observation.
func (w *waiting) emit(ctx context.Context, seen observation, attempt int, err error) {
	event.Emit(ctx, event.Wait{
		What: w.what, State: seen.named(), Percent: seen.percent, Looks: attempt, Took: time.Since(w.begun), Done: seen.done, Err: err,
	})
}

// ended emits the event of a wait that ends with an error, and returns the error.
func (w *waiting) ended(ctx context.Context, attempt int, err error) error {
	w.emit(ctx, w.seen, attempt, err)
	return err
}

// troubleOf returns why a look was not answered although the wait goes on; nil if it was.
func troubleOf(ctx context.Context, err error) *retry.CallError {
	trouble := retry.Trouble(err)
	if trouble == nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return &retry.CallError{Kind: retry.Lost, Err: err} // it has used up the time limit
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it is the wait that has ended
	}
	return trouble
}

// heldAfter is how long looks are not answered before that is reported.
const heldAfter = 5 * time.Second

// report emits an event if looks are not answered for long, and again at intervals.
func (w *waiting) tell(ctx context.Context, pause time.Duration, p Pace) {
	if w.trouble == nil || time.Since(w.since)+pause < heldAfter || !w.troubled.IsZero() && time.Since(w.troubled) < retry.TellEvery {
		return
	}
	w.troubled = time.Now()
	held := event.Held{What: "looking at " + w.what, Why: w.trouble.Kind.String(), Since: w.since, Limit: p.Limit}
	if p.Attempts > 0 {
		held.Limit = 0
	}
	event.Emit(ctx, held)
}

// gaveUp returns the error of a wait that has taken too long.
func (w *waiting) gaveUp(attempts int) error {
	lasted := time.Since(w.begun).Round(time.Second)
	if w.trouble != nil {
		return fmt.Errorf("gave up on %s after %s and %d looks, which were %s since %s: %w",
			w.what, lasted, attempts, w.trouble.Kind, event.Clocktime(w.since), w.err)
	}
	return fmt.Errorf("gave up on %s after %s and %d looks: it is still %s", w.what, lasted, attempts, w.seen.named())
}

// once looks once, for no longer than the whole wait may go without progress. It does not
// repeat calls.
func (p Pace) once(ctx context.Context, observe observer) (observation, error) {
	ctx = retry.Once(ctx)
	if p.Attempts == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.Limit)
		defer cancel()
	}
	return observe(ctx)
}

// spent reports whether the limit of the wait is reached.
func (p Pace) spent(attempts int, idle time.Duration) bool {
	if p.Attempts > 0 {
		return attempts >= p.Attempts
	}
	return idle >= p.Limit
}

// within shortens a pause so that there is a look at the limit of the wait.
func (p Pace) within(pause, idle time.Duration) time.Duration {
	if p.fixed() || p.Attempts > 0 {
		return pause
	}
	return min(pause, max(p.Limit-idle, p.First))
}

// fixed reports whether all intervals are the same.
func (p Pace) fixed() bool { return p.First >= p.Longest }

// jitter varies an interval, so that builds which began together do not poll together.
func (p Pace) jitter(d time.Duration) time.Duration {
	if p.fixed() {
		return d
	}
	return d*3/4 + rand.N(d/2+1)
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tolerateUnseen ignores for a while that a resource which was just created is not found.
// The time does not pass while requests are not answered. A resource that has been found
// and is gone is an error.
func tolerateUnseen(unseen time.Duration, observe observer) observer {
	born, seen := time.Now(), false
	return func(ctx context.Context) (observation, error) {
		s, err := observe(ctx)
		if !seen && errors.Is(err, ErrNotFound) && time.Since(born) < unseen {
			return observation{state: "not to be seen yet"}, nil
		}
		if troubleOf(ctx, err) != nil {
			born = time.Now()
			return s, err
		}
		seen = seen || err == nil
		return s, err
	}
}

// goneIsDone ends a wait if the resource is not found.
func goneIsDone(observe observer) observer {
	return func(ctx context.Context) (observation, error) {
		s, err := observe(ctx)
		if errors.Is(err, ErrNotFound) {
			return observation{state: "gone", done: true}, nil
		}
		return s, err
	}
}
