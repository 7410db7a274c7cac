package report

import (
	"cmp"
	"slices"
	"time"
)

// interval is a part of the time since the beginning of the build.
type interval struct{ from, to time.Duration }

// intervals is a set of parts of time.
type intervals []interval

// compactAt is the number of intervals at which those that overlap are joined.
const compactAt = 4096

// add adds an interval.
func (s *intervals) add(from, to time.Duration) {
	*s = append(*s, interval{max(from, 0), max(to, 0)})
	if len(*s) >= compactAt && len(*s)%compactAt == 0 {
		*s = s.joined()
	}
}

// joined returns the same set in order and without overlaps.
func (s intervals) joined() intervals {
	sorted := slices.SortedFunc(slices.Values(s), func(a, b interval) int { return cmp.Compare(a.from, b.from) })
	var joined intervals
	for _, i := range sorted {
		if last := len(joined) - 1; last >= 0 && i.from <= joined[last].to {
			joined[last].to = max(joined[last].to, i.to)
		} else {
			joined = append(joined, i)
		}
	}
	return joined
}

// without returns the parts of the set that are not in another one.
func (s intervals) without(other intervals) intervals {
	var rest intervals
	holes := other.joined()
	for _, i := range s.joined() {
		for _, hole := range holes {
			if hole.to <= i.from || hole.from >= i.to {
				continue
			}
			if hole.from > i.from {
				rest = append(rest, interval{i.from, hole.from})
			}
			i.from = min(hole.to, i.to)
		}
		if i.from < i.to {
			rest = append(rest, i)
		}
	}
	return rest
}

// within returns the parts of the set before an end.
func (s intervals) within(end time.Duration) intervals {
	var rest intervals
	for _, i := range s {
		if i.from < end {
			rest = append(rest, interval{i.from, min(i.to, end)})
		}
	}
	return rest
}

// length returns the time of the set.
func (s intervals) length() (total time.Duration) {
	for _, i := range s.joined() {
		total += i.to - i.from
	}
	return total
}

// divide divides the time of a build until end.
func divide(end time.Duration, cloud, users, pauses intervals) Division {
	users, pauses = users.within(end).without(pauses), pauses.within(end)
	d := Division{
		Pauses:       seconds(pauses.length()),
		Provisioners: seconds(users.length()),
		Cloud:        seconds(cloud.within(end).without(slices.Concat(users, pauses)).length()),
	}
	d.Builder = max(0, round3(seconds(end)-d.Pauses-d.Provisioners-d.Cloud))
	return d
}
