package report

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

const (
	// mostLatencies is the number of latencies of an action that its median is computed from.
	mostLatencies = 10000
	// mostErrors is the maximum number of error texts of an action.
	mostErrors = 5
)

// action collects the attempts of the calls of an action.
type action struct {
	Action
	latencies []time.Duration
	total     time.Duration
	fastest   time.Duration
	slowest   time.Duration
	// counted means that requests were only counted, so that the latency is not known.
	counted bool
}

// action returns the attempts of an action.
func (r *Recorder) action(service, name string) *action {
	key := service + " " + name
	if r.actions[key] == nil {
		r.actions[key] = &action{Action: Action{Service: service, Action: name, Steps: map[string]int{}}}
	}
	return r.actions[key]
}

// count adds requests that were only counted. Those of them that have failed were also added as attempts, and
// their latency says nothing about the others.
func (a *action) count(e event.Requests) {
	a.Calls, a.Failed, a.counted = int(e.Made), int(e.Failed), true
}

// add adds an attempt.
func (a *action) add(step string, e event.Call) {
	if a.Calls == 0 || e.Took < a.fastest {
		a.fastest = e.Took
	}
	a.slowest = max(a.slowest, e.Took)
	a.total += e.Took
	if len(a.latencies) < mostLatencies {
		a.latencies = append(a.latencies, e.Took)
	}
	a.Calls++
	a.Steps[step]++
	if e.Attempt > 1 {
		a.Repeated++
	}
	if e.Err == nil {
		return
	}
	a.Failed++
	if text := e.Err.Error(); len(a.Errors) < mostErrors && !slices.Contains(a.Errors, text) {
		a.Errors = append(a.Errors, text)
	}
}

// figures returns the figures of all actions, those that took longest first.
func (r *Recorder) figures() []Action {
	all := make([]Action, 0, len(r.actions))
	for _, a := range r.actions {
		figures := a.Action
		sorted := slices.Sorted(slices.Values(a.latencies))
		figures.Steps = maps.Clone(a.Steps)
		if !a.counted && len(sorted) > 0 {
			figures.Total, figures.Fastest, figures.Slowest = seconds(a.total), seconds(a.fastest), seconds(a.slowest)
			figures.Median = seconds(sorted[len(sorted)/2])
		}
		all = append(all, figures)
	}
	slices.SortFunc(all, func(a, b Action) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Action, b.Action))
	})
	return all
}

// calls returns the number of attempts of all actions, and how many of them have failed.
func (r Report) calls() (all, failed int) {
	for _, a := range r.Actions {
		all, failed = all+a.Calls, failed+a.Failed
	}
	return all, failed
}
