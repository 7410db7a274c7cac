package polling

import "time"

// leastPercent is the lowest percentage that says something about the end: a cloud may report
// the first percents at once.
const leastPercent = 3

// progress is the progress that a cloud reports in a wait. It is believed if two predictions in
// a row agree, and not after it has gone back.
type progress struct {
	percent int
	// end is the prediction: if progress is even, the wait ends in this span.
	end Span
	// steady means that the last two predictions agree.
	steady, back bool
}

// see records a percentage. It ignores 0 and numbers that are no percentage.
func (p *progress) see(elapsed time.Duration, percent int) {
	switch {
	case percent <= 0 || percent > 100:
		return
	case percent < p.percent:
		p.back = true
	case percent == p.percent:
		p.end.After = min(max(p.end.After, wholeAt(elapsed, percent+1)), p.end.By)
		return
	}
	end := Span{After: wholeAt(elapsed, percent+1), By: wholeAt(elapsed, percent)}
	p.steady = p.percent >= leastPercent && end.overlaps(p.end)
	p.percent, p.end = percent, end
}

// wholeAt returns when progress is complete that has reached a percentage at a time.
func wholeAt(elapsed time.Duration, percent int) time.Duration {
	return time.Duration(float64(elapsed) * 100 / float64(percent))
}

// believed reports whether the prediction counts.
func (p *progress) believed() bool { return p.steady && !p.back }
