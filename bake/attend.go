package bake

import (
	"context"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

const (
	// attendAfter is how long a wait lasts before it is reported that it goes on. The interval
	// doubles with each report, because lines in a log stay.
	attendAfter = 10 * time.Second
	// silence is the longest interval between two reports of a wait.
	silence = 10 * time.Minute
	// stride is the number of percent after which progress is reported before the interval is over.
	stride = 10
)

// attendance reports that a wait goes on.
type attendance struct {
	ctx   context.Context //nolint:containedctx // it is the wait's
	what  string
	begun time.Time

	mu      sync.Mutex
	state   string
	percent int
	// begunToTell means that the wait was reported, told is the percentage that was, and pause is the interval
	// before the next report.
	begunToTell bool
	told        int
	pause       time.Duration
	next        *time.Timer
	ended       bool
}

// attend begins to report a wait. The caller must call end.
func attend(ctx context.Context, what string) *attendance {
	a := &attendance{ctx: ctx, what: what, begun: time.Now(), pause: attendAfter}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next = time.AfterFunc(a.pause, a.due)
	return a
}

// seen notes the state of the resource, and reports it if there was progress.
func (a *attendance) seen(state string, percent int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state, a.percent = state, max(percent, a.percent)
	if a.begunToTell && a.percent/stride > a.told/stride {
		a.tell()
	}
}

// due is called when the interval is over.
func (a *attendance) due() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended {
		a.pause = min(2*a.pause, silence)
		a.tell()
	}
}

// tell emits an event, and begins the interval before the next one. The caller holds mu.
func (a *attendance) tell() {
	a.begunToTell, a.told = true, a.percent
	event.Emit(a.ctx, event.Waiting{What: a.what, State: a.state, Percent: a.percent, Took: time.Since(a.begun)})
	a.next.Reset(a.pause)
}

// end ends the reports.
func (a *attendance) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	a.next.Stop()
}
