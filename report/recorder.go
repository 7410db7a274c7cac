package report

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// mostEntries is the maximum length of a list in a report: a page with more could not be read, and a
// direct build makes a call for each block.
const mostEntries = 5000

// Recorder is a listener that records the events of a build.
type Recorder struct {
	begun time.Time

	mu      sync.Mutex
	report  Report
	actions map[string]*action
	// cloud is the time of calls and waits, users that of provisioners and commands of the user, and pauses
	// that of pauses.
	cloud, users, pauses intervals
	before, after        *event.Packages
}

// NewRecorder returns a recorder of a build that begins now.
func NewRecorder() *Recorder {
	return &Recorder{begun: time.Now(), actions: map[string]*action{}, report: Report{Omitted: map[string]int{}}}
}

// Hear implements event.Listener.
func (r *Recorder) Hear(e event.Event) { r.hear("", e) }

// In returns the listener for the events of a step.
func (r *Recorder) In(step string) event.Listener { return within{r, step} }

// within is the listener for the events of a step.
type within struct {
	recorder *Recorder
	step     string
}

// Hear implements event.Listener.
func (w within) Hear(e event.Event) { w.recorder.hear(w.step, e) }

// In returns the listener for the events of a step in the step.
func (w within) In(step string) event.Listener { return within{w.recorder, step} }

func (r *Recorder) hear(step string, e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Since(r.begun)
	switch e := e.(type) {
	case event.Step:
		add(r, "steps", &r.report.Steps, Step{e.Name, span(step, now, e.Took, e.Err), e.Users})
		if e.Users {
			r.users.add(now-e.Took, now)
		}
	case event.Pause:
		r.pauses.add(now-e.Took, now)
	case event.Call:
		r.call(step, now, e)
	case event.Wait:
		r.wait(step, now, e)
	case event.Command:
		add(r, "commands", &r.report.Commands, Command{e.Place, e.Shown(), span(step, now, e.Took, e.Err), e.Status})
	case event.Mount:
		add(r, "mounts", &r.report.Mounts, Mount{e.Source, e.Target, e.Type, span(step, now, e.Took, e.Err)})
	case event.Requests:
		r.action(e.Service, e.Action).count(e)
	case event.Transfer:
		if e.Direction == event.ToSnapshot {
			r.cloud.add(now-e.Took, now)
		}
		add(r, "transfers", &r.report.Transfers, Transfer{string(e.Direction), e.What, e.Bytes, span(step, now, e.Took, e.Err)})
	case event.Packages:
		r.packages(e)
	default:
		r.outcome(step, now, e)
	}
}

// outcome records an event that has no duration.
func (r *Recorder) outcome(step string, now time.Duration, e event.Event) {
	note := func(text string) Note { return Note{seconds(now), step, text} }
	switch e := e.(type) {
	case event.Resource:
		add(r, "resources", &r.report.Resources, r.resource(e))
	case event.Warning:
		add(r, "warnings", &r.report.Warnings, note(e.Text))
	case event.Held:
		add(r, "delays", &r.report.Delays, note(e.String()))
	case event.Holder:
		add(r, "holders", &r.report.Holders, note(e.Text))
	case event.Undone:
		add(r, "undone", &r.report.Undone, note(e.Name))
	}
}

// add adds an entry to a list of the report, unless the list is too long.
func add[E any](r *Recorder, name string, list *[]E, entry E) {
	if len(*list) >= mostEntries {
		r.report.Omitted[name]++
		return
	}
	*list = append(*list, entry)
}

// span returns the span of an event.
func span(step string, now, took time.Duration, err error) Span {
	s := Span{Begin: seconds(max(0, now-took)), End: seconds(now), Step: step}
	if err != nil {
		s.Error = err.Error()
	}
	return s
}

// seconds returns a duration in seconds, rounded to milliseconds.
func seconds(d time.Duration) float64 { return round3(d.Seconds()) }

func round3(f float64) float64 { return math.Round(f*1000) / 1000 }

// call records an attempt of a call. The pause before it was caused by the cloud, too.
func (r *Recorder) call(step string, now time.Duration, e event.Call) {
	add(r, "calls", &r.report.Calls, Call{
		Service: e.Service, Action: e.Action, Span: span(step, now, e.Took, e.Err),
		Attempt: e.Attempt, Pause: seconds(e.Pause), RequestID: e.RequestID,
	})
	r.action(e.Service, e.Action).add(step, e)
	if step != event.OtherBuilds {
		r.cloud.add(now-e.Took-e.Pause, now)
	}
}

// wait records a state of a wait. The states of one wait become one entry.
func (r *Recorder) wait(step string, now time.Duration, e event.Wait) {
	w := Wait{e.What, span(step, now, e.Took, e.Err), e.State, e.Percent, e.Looks}
	if step != event.OtherBuilds {
		r.cloud.add(now-e.Took, now)
	}
	const same = 0.25 // seconds
	for i, earlier := range slices.Backward(r.report.Waits) {
		if earlier.Name == w.Name && earlier.Step == w.Step && math.Abs(earlier.Begin-w.Begin) < same {
			w.Begin = earlier.Begin
			r.report.Waits[i] = w
			return
		}
	}
	add(r, "waits", &r.report.Waits, w)
}

// resource returns the entry of a resource.
func (r *Recorder) resource(e event.Resource) Resource {
	entry := Resource{Kind: e.Kind, Name: e.Name, Fate: string(e.Fate)}
	if !e.Since.IsZero() {
		at := max(0, seconds(e.Since.Sub(r.begun)))
		entry.At = &at
	}
	return entry
}

// Report returns the report of a build that has ended now, with err if it has failed.
func (r *Recorder) Report(info Info, images []Image, err error) Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	end := time.Since(r.begun)
	all := r.report
	all.Format, all.Info, all.Images = Format, info, images
	all.Started, all.Seconds = r.begun.UTC().Truncate(time.Millisecond), seconds(end)
	if all.Succeeded = err == nil; err != nil {
		all.Error = err.Error()
	}
	all.Division = divide(end, r.cloud, r.users, r.pauses)
	all.Actions = r.figures()
	all.Packages = compare(r.before, r.after)
	all.Omitted = maps.Clone(all.Omitted)
	all.fill()
	slices.SortStableFunc(all.Steps, inOrder)
	return all
}

// inOrder compares steps by their beginning. Steps that are parts of others come after those that begin at
// the same time and are not.
func inOrder(a, b Step) int {
	part := func(s Step) int { return min(len(s.Step), 1) }
	return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(part(a), part(b)))
}

// fill replaces nil lists by empty ones, so that readers of the JSON find lists everywhere.
func (r *Report) fill() {
	r.Images, r.Steps, r.Waits, r.Calls = list(r.Images), list(r.Steps), list(r.Waits), list(r.Calls)
	r.Commands, r.Mounts, r.Transfers = list(r.Commands), list(r.Mounts), list(r.Transfers)
	r.Resources, r.Warnings, r.Delays = list(r.Resources), list(r.Warnings), list(r.Delays)
	r.Holders, r.Undone = list(r.Holders), list(r.Undone)
	if p := r.Packages; p != nil {
		p.Databases, p.Problems = list(p.Databases), list(p.Problems)
		p.Added, p.Removed, p.Changed = list(p.Added), list(p.Removed), list(p.Changed)
	}
}

// list returns a copy of a list that is not nil.
func list[E any](l []E) []E { return append([]E{}, l...) }
