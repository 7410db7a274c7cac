package polling

import (
	"math/rand/v2"
	"time"
)

// The bounds of pauses.
const (
	// firstLook is the longest pause before the first look.
	firstLook = time.Second
	// shortest is the shortest pause that a forecast can cause.
	shortest = 50 * time.Millisecond
	// fineness is the part of the elapsed time that such a pause has at least.
	fineness = 400
	// coarseness is the part of the elapsed time that any pause may have, and longest is the
	// longest one, unless the wait's own longest pause is longer.
	coarseness = 20
	longest    = 30 * time.Second
)

// An Aim decides when one wait looks. It is used by one goroutine.
type Aim struct {
	first, longest time.Duration
	earlier        forecast
	progress       progress
}

// NewAim returns the aim of a wait. Without any other information, each pause is first plus half
// of the elapsed time, and at most longest until a twentieth of the elapsed time is more. earlier
// are the durations of earlier waits of the kind, with the latest wait first.
func NewAim(first, longest time.Duration, earlier []Span) *Aim {
	return &Aim{first: first, longest: longest, earlier: forecastOf(earlier)}
}

// First returns the pause before the first look: none, unless earlier waits took longer.
func (a *Aim) First() time.Duration {
	if len(a.earlier) == 0 {
		return 0
	}
	return min(a.earlier.quantile(-1, 0.5), max(firstLook, a.first))
}

// Next returns the pause after a look at the elapsed time, which has shown that the resource is
// not ready, and its progress in percent.
func (a *Aim) Next(elapsed time.Duration, percent int) time.Duration {
	a.progress.see(elapsed, percent)
	f := a.earlier
	if a.progress.believed() {
		f = f.with(a.progress.end)
	}
	pause, least := varied(a.usual(elapsed)), a.least(elapsed)
	ahead := f.beyond(elapsed)
	if ahead > 0 {
		pause = min(toLook(f, elapsed, least), a.most(elapsed))
	}
	if end, some := f.passed(elapsed); some && ahead < f.total()/3 { // it is overdue
		pause = min(pause, max(least, elapsed-end))
	}
	return pause
}

// toLook returns the pause until half of the forecast that is ahead has passed, or nearly all
// of it if that is not much later.
func toLook(f forecast, elapsed, least time.Duration) time.Duration {
	half := max(f.quantile(elapsed, 1.0/3)-elapsed, least)
	if most := f.quantile(elapsed, 0.9) - elapsed; most > half && most <= half+least {
		return most
	}
	return half
}

// usual returns the pause without any other information.
func (a *Aim) usual(elapsed time.Duration) time.Duration {
	return min(a.first+elapsed/2, a.atMost(elapsed))
}

// most returns the longest pause that a forecast can cause. Because of it, even a wait with a wrong
// forecast takes at most about three times as long as the cloud needs.
func (a *Aim) most(elapsed time.Duration) time.Duration {
	limit := a.atMost(elapsed)
	if a.progress.believed() {
		limit = max(a.longest, longest)
	}
	return min(a.first+2*elapsed, limit)
}

// atMost returns the longest pause, unless the cloud reports progress.
func (a *Aim) atMost(elapsed time.Duration) time.Duration {
	return max(a.longest, min(elapsed/coarseness, longest))
}

// least returns the shortest pause.
func (a *Aim) least(elapsed time.Duration) time.Duration {
	return max(min(shortest, a.first), elapsed/fineness)
}

// varied varies a pause by a quarter, so that builds which began together do not look together.
func varied(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }
