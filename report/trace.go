package report

import (
	"encoding/json"
	"fmt"
)

// traceEvent is an event of the Trace Event Format of Chrome, which Perfetto reads too.
type traceEvent struct {
	Name     string `json:"name"`
	Category string `json:"cat,omitempty"`
	// Phase is X for a span, i for a moment and M for metadata.
	Phase string `json:"ph"`
	// Time and Duration are in microseconds.
	Time     int64             `json:"ts"`
	Duration *int64            `json:"dur,omitempty"`
	Process  int               `json:"pid"`
	Thread   int               `json:"tid"`
	Scope    string            `json:"s,omitempty"`
	Args     map[string]string `json:"args,omitempty"`
}

// Trace returns the timeline as trace events. Each lane is a thread.
func (r Report) Trace() ([]byte, error) {
	var all []traceEvent
	metadata := func(kind string, thread int, name string) {
		all = append(all, traceEvent{Name: kind, Phase: "M", Process: 1, Thread: thread, Args: map[string]string{"name": name}})
	}
	metadata("process_name", 0, r.Program+" "+r.ImageName)
	thread := 1
	for _, b := range r.bands() {
		for lane := range b.lanes {
			name := b.name
			if lane > 0 {
				name += fmt.Sprintf(" %d", lane+1)
			}
			metadata("thread_name", thread+lane, name)
		}
		for _, one := range b.bars {
			all = append(all, one.trace(b.name, thread+one.lane))
		}
		thread += b.lanes
	}
	for _, w := range r.Warnings {
		all = append(all, traceEvent{Name: w.Text, Category: "Warnings", Phase: "i", Scope: "g", Time: micro(w.At), Process: 1})
	}
	return json.MarshalIndent(map[string]any{"traceEvents": all, "displayTimeUnit": "ms"}, "", " ")
}

// trace returns the event of a bar.
func (b bar) trace(category string, thread int) traceEvent {
	took := micro(b.End) - micro(b.Begin)
	e := traceEvent{Name: b.name, Category: category, Phase: "X", Time: micro(b.Begin), Duration: &took, Process: 1, Thread: thread, Args: map[string]string{}}
	if b.Step != "" {
		e.Args["step"] = b.Step
	}
	if b.Error != "" {
		e.Args["error"] = b.Error
	}
	for i, detail := range b.details {
		e.Args[fmt.Sprintf("detail %d", i+1)] = detail
	}
	return e
}

// micro returns seconds in microseconds.
func micro(seconds float64) int64 { return int64(seconds*1e6 + 0.5) }
