package report

import (
	"cmp"
	"fmt"
	"slices"
)

// mostBars is the maximum number of bars of a band. The longest are drawn.
const mostBars = 1500

// A band is a part of the timeline: the bars of one subject. Bars that overlap are in different lanes.
type band struct {
	name  string
	lanes int
	bars  []bar
	// omitted is the number of bars that are too many to be drawn.
	omitted int
}

// A bar is one span of the timeline.
type bar struct {
	Span
	name string
	// details are the lines of its description.
	details []string
	// users is that of a Step.
	users bool
	lane  int
}

// bands returns the timeline.
func (r Report) bands() []band {
	var all []band
	for _, b := range []band{r.stepBand(), r.waitBand(), r.callBand(), r.commandBand(), r.mountBand(), r.transferBand()} {
		if len(b.bars) > 0 {
			b.choose()
			b.arrange()
			all = append(all, b)
		}
	}
	return all
}

// choose leaves out the shortest bars if there are too many.
func (b *band) choose() {
	if b.omitted = max(0, len(b.bars)-mostBars); b.omitted == 0 {
		return
	}
	slices.SortStableFunc(b.bars, func(x, y bar) int { return cmp.Compare(y.End-y.Begin, x.End-x.Begin) })
	b.bars = b.bars[:mostBars]
}

// arrange puts each bar into the first lane that is free at its time.
func (b *band) arrange() {
	slices.SortStableFunc(b.bars, func(x, y bar) int { return cmp.Or(cmp.Compare(x.Begin, y.Begin), cmp.Compare(y.End, x.End)) })
	var ends []float64
	for i := range b.bars {
		lane := slices.IndexFunc(ends, func(end float64) bool { return end <= b.bars[i].Begin })
		if lane < 0 {
			lane, ends = len(ends), append(ends, 0)
		}
		b.bars[i].lane, ends[lane] = lane, b.bars[i].End
	}
	b.lanes = len(ends)
}

func (r Report) stepBand() band {
	b := band{name: "Steps"}
	for _, s := range r.Steps {
		b.bars = append(b.bars, bar{Span: s.Span, name: s.Name, users: s.Users})
	}
	return b
}

func (r Report) waitBand() band {
	b := band{name: "Waits"}
	for _, w := range r.Waits {
		details := []string{"state: " + w.State}
		if w.Percent > 0 {
			details = append(details, fmt.Sprintf("progress: %d%%", w.Percent))
		}
		if w.Looks > 0 {
			details = append(details, plural(w.Looks, "look"))
		}
		b.bars = append(b.bars, bar{Span: w.Span, name: w.Name, details: details})
	}
	return b
}

func (r Report) callBand() band {
	b := band{name: "API calls"}
	for _, c := range r.Calls {
		details := []string{fmt.Sprintf("attempt %d", c.Attempt)}
		if c.RequestID != "" {
			details = append(details, "request "+c.RequestID)
		}
		b.bars = append(b.bars, bar{Span: c.Span, name: c.Service + " " + c.Action, details: details})
	}
	return b
}

func (r Report) commandBand() band {
	b := band{name: "Commands"}
	for _, c := range r.Commands {
		details := []string{"in the " + c.Place, fmt.Sprintf("exit status %d", c.Status)}
		b.bars = append(b.bars, bar{Span: c.Span, name: c.Line, details: details, users: true})
	}
	return b
}

func (r Report) mountBand() band {
	b := band{name: "Mounts"}
	for _, m := range r.Mounts {
		name := "unmount " + m.Target
		if m.Source != "" {
			name = fmt.Sprintf("mount %s on %s", m.Source, m.Target)
		}
		b.bars = append(b.bars, bar{Span: m.Span, name: name})
	}
	return b
}

func (r Report) transferBand() band {
	b := band{name: "Transfers"}
	for _, t := range r.Transfers {
		name := size(t.Bytes) + " " + t.Direction
		if t.Name != "" {
			name += ": " + t.Name
		}
		b.bars = append(b.bars, bar{Span: t.Span, name: name})
	}
	return b
}
