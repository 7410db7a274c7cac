package bake

import (
	"context"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

const (
	// firstReport is how long a wait lasts before it is reported that it goes on. The interval
	// doubles with each report, because lines in a log stay.
	firstReport = 10 * time.Second
	// longestReportInterval is the longest interval between two reports of a wait.
	longestReportInterval = 10 * time.Minute
	// reportPercent is the progress after which a wait is reported before the interval is over.
	reportPercent = 10
)

// longWait reports at intervals that a wait goes on.
type longWait struct {
	ctx   context.Context //nolint:containedctx // it is the wait's
	what  string
	begun time.Time

	mu      sync.Mutex
	state   string
	percent int
	// reported is true after the first report, and reportedPercent the percentage of the last one.
	reported        bool
	reportedPercent int
	// interval is the time before the next report.
	interval time.Duration
	timer    *time.Timer
	ended    bool
}

// reportWait begins to report a wait. The caller must call end.
func reportWait(ctx context.Context, what string) *longWait {
	w := &longWait{ctx: ctx, what: what, begun: time.Now(), interval: firstReport}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.interval, w.expire)
	return w
}

// observed notes the state of the resource, and reports it if there was progress.
func (w *longWait) observed(state string, percent int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state, w.percent = state, max(percent, w.percent)
	if w.reported && w.percent/reportPercent > w.reportedPercent/reportPercent {
		w.report()
	}
}

// expire is called when the interval is over.
func (w *longWait) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.interval = min(2*w.interval, longestReportInterval)
		w.report()
	}
}

// report emits an event, and begins the next interval. The caller holds mu.
func (w *longWait) report() {
	w.reported, w.reportedPercent = true, w.percent
	event.Emit(w.ctx, event.Waiting{What: w.what, State: w.state, Percent: w.percent, Took: time.Since(w.begun)})
	w.timer.Reset(w.interval)
}

// end ends the reports.
func (w *longWait) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.timer.Stop()
}
