package polling

import "time"

// Span limits the duration of a wait: the resource was not ready yet After the beginning of the
// wait, and was ready By the later time.
type Span struct{ After, By time.Duration }

// beyond returns the share of a span that is later than a time, from 1 to 0.
func (s Span) beyond(t time.Duration) float64 {
	switch {
	case t >= s.By:
		return 0
	case t <= s.After:
		return 1
	}
	return float64(s.By-t) / float64(s.By-s.After)
}

// overlaps reports whether two spans have a moment in common.
func (s Span) overlaps(o Span) bool { return s.After <= o.By && o.After <= s.By }

// evidence is a span in which a wait may end. The weight is relative to other evidence.
type evidence struct {
	Span
	weight float64
}

// A forecast is the probability distribution of the end of a wait.
type forecast []evidence

// decay is the weight of each earlier wait relative to the next one.
const decay = 0.7

// forecastOf returns the forecast by earlier waits, with the latest wait first.
func forecastOf(earlier []Span) forecast {
	f, weight := forecast{}, 1.0
	for _, s := range earlier {
		f = append(f, evidence{s, weight})
		weight *= decay
	}
	return f
}

// with adds a span that weighs as much as all other evidence.
func (f forecast) with(s Span) forecast {
	weight := f.total()
	if weight == 0 {
		weight = 1
	}
	return append(f[:len(f):len(f)], evidence{s, weight})
}

// beyond returns the weight of the forecast later than a time.
func (f forecast) beyond(t time.Duration) (weight float64) {
	for _, e := range f {
		weight += e.weight * e.beyond(t)
	}
	return weight
}

// total returns the weight of the whole forecast.
func (f forecast) total() (weight float64) {
	for _, e := range f {
		weight += e.weight
	}
	return weight
}

// quantile returns the moment by which a share of the weight later than t has passed. The
// forecast must have some.
func (f forecast) quantile(t time.Duration, share float64) time.Duration {
	left := f.beyond(t) * (1 - share)
	low, high := t, t
	for _, e := range f {
		high = max(high, e.By)
	}
	for high-low > time.Millisecond {
		mid := low + (high-low)/2
		if f.beyond(mid) > left {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// passed returns the end of the last span that is over at a time, and reports whether there is
// one.
func (f forecast) passed(t time.Duration) (end time.Duration, some bool) {
	for _, e := range f {
		if e.By <= t {
			end, some = max(end, e.By), true
		}
	}
	return end, some
}
