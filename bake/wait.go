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

// Pace is how a thing that changes by itself is waited for: it is looked at
// again and again, at growing intervals.
type Pace struct {
	// First is the interval after the first look; intervals grow from it by half
	// each, give or take a quarter.
	First time.Duration
	// Longest is what intervals grow to. Where it is First, every interval is
	// exactly that.
	Longest time.Duration
	// Patience is how long the wait goes on without progress. If the cloud tells a
	// percentage, of a snapshot or of the snapshots of a copy, each new height of it
	// is progress: a terabyte may take hours and be well.
	Patience time.Duration
	// Attempts, if not 0, is how many looks there are, and Patience is not
	// considered.
	Attempts int
}

// Waits is how a build waits. Zero fields mean the defaults of DefaultWaits.
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
	// Settling is for changing calls to know what reading calls have shown. It has no
	// Attempts: those are numbers of looks.
	Settling Pace
	// Unseen is how long a thing that was just created may be unknown to the
	// cloud's reading calls, which can lag behind its creating ones.
	Unseen time.Duration
	// Lost is how long something is looked for that a creating call may have made
	// although it answered an error.
	Lost time.Duration
	// InFlight is how long after it was asked for a thing is looked for whose build
	// was killed before the cloud had answered: the request may still be under way.
	InFlight time.Duration
	// Device is how long the kernel may take to show an attached volume.
	Device time.Duration
	// Release is how long undoing may take, for each of the two stacks.
	Release time.Duration
}

// DefaultWaits are patient with the cloud and quick to notice.
func DefaultWaits() Waits {
	return Waits{
		Volume:     Pace{First: 100 * time.Millisecond, Longest: 2 * time.Second, Patience: 10 * time.Minute},
		Attachment: Pace{First: 100 * time.Millisecond, Longest: 2 * time.Second, Patience: 10 * time.Minute},
		Snapshot:   Pace{First: 250 * time.Millisecond, Longest: 5 * time.Second, Patience: 2 * time.Hour},
		Image:      Pace{First: 100 * time.Millisecond, Longest: 5 * time.Second, Patience: 30 * time.Minute},
		Copy:       Pace{First: 250 * time.Millisecond, Longest: 5 * time.Second, Patience: 2 * time.Hour},
		Settling:   Pace{First: 250 * time.Millisecond, Longest: 5 * time.Second, Patience: 2 * time.Minute},
		Unseen:     30 * time.Second,
		Lost:       2 * time.Second,
		InFlight:   15 * time.Second,
		Device:     2 * time.Minute,
		Release:    30 * time.Minute,
	}
}

// Polled answers the same waits with a fixed interval between the looks at the
// cloud, and with that many looks; 0 leaves the one or the other.
func (w Waits) Polled(interval time.Duration, attempts int) Waits {
	for _, p := range w.paces() {
		if interval > 0 {
			p.First, p.Longest = interval, interval
		}
		p.Attempts = cmp.Or(attempts, p.Attempts)
	}
	return w
}

// Patient answers the same waits with one limit for each that has none yet: for what
// does not get on, be it in the cloud or in the kernel. 0 changes nothing.
func (w Waits) Patient(limit time.Duration) Waits {
	for _, p := range w.paces() {
		p.Patience = cmp.Or(p.Patience, limit)
	}
	w.Settling.Patience = cmp.Or(w.Settling.Patience, min(limit, DefaultWaits().Settling.Patience))
	w.Device = cmp.Or(w.Device, limit)
	w.Unseen = cmp.Or(w.Unseen, min(limit, DefaultWaits().Unseen))
	return w
}

// paces are those of all that the cloud is asked about again and again.
func (w *Waits) paces() []*Pace {
	return []*Pace{&w.Volume, &w.Attachment, &w.Snapshot, &w.Image, &w.Copy}
}

// orDefault fills what is zero.
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
		Release:    cmp.Or(w.Release, d.Release),
	}
}

// or fills what is zero.
func (p Pace) or(d Pace) Pace {
	return Pace{
		First:    cmp.Or(p.First, d.First),
		Longest:  cmp.Or(p.Longest, d.Longest),
		Patience: cmp.Or(p.Patience, d.Patience),
		Attempts: p.Attempts,
	}
}

// observation is what one look at a thing saw.
type observation struct {
	// state is in the cloud's words.
	state string
	// percent is the progress; 0 where there is none to tell.
	percent int
	// finer, if not 0, is a measure of progress that grows with each percent of a part.
	finer int
	// done says that the wait is over.
	done bool
}

// named is the state as an error has it.
func (s observation) named() string {
	return cmp.Or(s.state, "in a state that the cloud does not name")
}

// look reads a resource's state. An error ends the wait, unless it is trouble of the cloud:
// see retry.Trouble.
type look func(context.Context) (observation, error)

// until looks until it is done. what names the resource in errors. The wait ends with ctx,
// with an error of look, and when patience or attempts are used up. A look that the cloud
// throttles, fails at or does not answer shows nothing: the next one may.
func (p Pace) until(ctx context.Context, what string, look look) error {
	interval := p.First
	w := waiting{what: what, begun: time.Now(), progress: time.Now(), told: observation{percent: -1}}
	for attempt := 1; ; attempt++ {
		seen, err := p.once(ctx, look)
		if err = w.took(ctx, seen, err, attempt); err != nil {
			return fmt.Errorf("cannot wait for %s: %w", what, err)
		}
		if w.seen.done {
			return nil
		}
		if p.spent(attempt, time.Since(w.progress)) {
			return w.gaveUp(attempt)
		}
		pause := p.jitter(interval)
		w.tell(ctx, pause, p)
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("stopped waiting for %s, which was %s: %w", what, w.seen.named(), err)
		}
		interval = min(interval+interval/2, p.Longest)
	}
}

// waiting is a wait under way.
type waiting struct {
	what string
	// begun is when the wait began, and progress when there was progress last.
	begun, progress time.Time
	highest         int
	// seen is what the last look saw that the cloud answered, and told what was emitted.
	seen, told observation
	// trouble is the failure in err, which the last look had, since since; nil if that was
	// answered.
	trouble  *retry.CallError
	err      error
	since    time.Time
	troubled time.Time // told of last
}

// took takes note of a look. It returns an error that ends the wait.
func (w *waiting) took(ctx context.Context, seen observation, err error, attempt int) error {
	if w.trouble, w.err = troubleOf(ctx, err), err; w.trouble != nil {
		if w.since.IsZero() {
			w.since = time.Now()
		}
		return nil
	}
	w.since = time.Time{}
	if err != nil || seen != w.told {
		event.Emit(ctx, event.Wait{
			What: w.what, State: seen.named(), Percent: seen.percent, Looks: attempt, Took: time.Since(w.begun), Done: seen.done, Err: err,
		})
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

// troubleOf returns why a look was not answered although the wait goes on; nil if it was.
func troubleOf(ctx context.Context, err error) *retry.CallError {
	trouble := retry.Trouble(err)
	if trouble == nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return &retry.CallError{Kind: retry.Lost, Err: err} // it has taken all the patience
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it is the wait that has ended
	}
	return trouble
}

// heldAfter is how long looks are not answered before that is told.
const heldAfter = 5 * time.Second

// tell makes an event of looks that are not answered for long, and again at intervals.
func (w *waiting) tell(ctx context.Context, pause time.Duration, p Pace) {
	if w.trouble == nil || time.Since(w.since)+pause < heldAfter || !w.troubled.IsZero() && time.Since(w.troubled) < retry.TellEvery {
		return
	}
	w.troubled = time.Now()
	held := event.Held{What: "looking at " + w.what, Why: w.trouble.Kind.String(), Since: w.since, Limit: p.Patience}
	if p.Attempts > 0 {
		held.Limit = 0
	}
	event.Emit(ctx, held)
}

// gaveUp is the error of a wait that has taken too long.
func (w *waiting) gaveUp(attempts int) error {
	lasted := time.Since(w.begun).Round(time.Second)
	if w.trouble != nil {
		return fmt.Errorf("gave up on %s after %s and %d looks, which were %s since %s: %w",
			w.what, lasted, attempts, w.trouble.Kind, event.Clocktime(w.since), w.err)
	}
	return fmt.Errorf("gave up on %s after %s and %d looks: it is still %s", w.what, lasted, attempts, w.seen.named())
}

// once looks once, for no longer than the whole wait may go without progress. Calls are
// not made again within it.
func (p Pace) once(ctx context.Context, look look) (observation, error) {
	ctx = retry.Once(ctx)
	if p.Attempts == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.Patience)
		defer cancel()
	}
	return look(ctx)
}

// spent says whether the wait is at its end.
func (p Pace) spent(attempts int, idle time.Duration) bool {
	if p.Attempts > 0 {
		return attempts >= p.Attempts
	}
	return idle >= p.Patience
}

// jitter keeps builds that began together from asking together.
func (p Pace) jitter(d time.Duration) time.Duration {
	if p.First >= p.Longest {
		return d
	}
	return d*3/4 + rand.N(d/2+1)
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
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
func tolerateUnseen(unseen time.Duration, look look) look {
	born, seen := time.Now(), false
	return func(ctx context.Context) (observation, error) {
		s, err := look(ctx)
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
func goneIsDone(look look) look {
	return func(ctx context.Context) (observation, error) {
		s, err := look(ctx)
		if errors.Is(err, ErrNotFound) {
			return observation{state: "gone", done: true}, nil
		}
		return s, err
	}
}
