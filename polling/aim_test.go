package polling

import (
	"slices"
	"testing"
	"time"
)

const (
	first    = 400 * time.Millisecond
	patience = 5 * time.Second // the longest pause
)

// report is the percentage that a cloud reports at a time.
type report func(elapsed time.Duration) int

// silent clouds report no progress.
func silent(time.Duration) int { return 0 }

// even progress reaches 100 percent when the resource is ready. Clouds round it down.
func even(takes time.Duration) report {
	return func(elapsed time.Duration) int { return min(99, int(100*elapsed/takes)) }
}

// waited is the course of a wait on a clock that only its pauses move.
type waited struct {
	span  Span
	looks int
	late  time.Duration
}

// wait waits for a resource that is ready after some time.
func wait(t *testing.T, earlier []Span, takes time.Duration, percent report) (w waited) {
	t.Helper()
	a := NewAim(first, patience, earlier)
	for at := a.First(); ; {
		w.looks++
		if w.span.By = at; at >= takes {
			w.late = at - takes
			return w
		}
		pause := a.Next(at, percent(at))
		if pause <= 0 || pause > max(first+2*at, 5*first/4) || pause > max(longest, patience)*5/4 {
			t.Fatalf("a pause of %v after a look at %v", pause, at)
		}
		w.span.After, at = at, at+pause
	}
}

// usualLate is the most by which a wait is late without any information.
func usualLate(takes time.Duration) time.Duration {
	return min(first+takes/2, max(patience, min(takes/coarseness, longest))) * 5 / 4
}

// durations are those of the waits in the tests.
var durations = []time.Duration{
	0, 30 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 5 * time.Second, 30 * time.Second,
	4 * time.Minute, 10 * time.Minute, time.Hour, 10 * time.Hour,
}

// often repeats a test, because pauses vary at random.
func often(test func()) {
	for range 50 {
		test()
	}
}

// median returns the median of numbers.
func median[N int | time.Duration](all []N) N {
	slices.Sort(all)
	return all[len(all)/2]
}

// TestWithoutInformation checks that the delay is a part of the time that the wait takes, and
// that looks do not grow with it.
func TestWithoutInformation(t *testing.T) {
	for _, takes := range durations {
		often(func() {
			w := wait(t, nil, takes, silent)
			if w.late > usualLate(takes) {
				t.Errorf("what takes %v was noticed %v late", takes, w.late)
			}
			if most := 16 + int(min(takes, 100*time.Second)/(patience*3/4)) + 60 + int(takes/(longest*3/4)); w.looks > most {
				t.Errorf("%d looks within %v, not at most %d", w.looks, takes, most)
			}
		})
	}
	if a := NewAim(first, patience, nil); a.First() != 0 {
		t.Errorf("the first look is after %v", a.First())
	}
}

// TestEarlierWaits checks that waits which always take the same time are soon noticed with fewer
// looks, and nearly at once.
func TestEarlierWaits(t *testing.T) {
	for _, takes := range []time.Duration{300 * time.Millisecond, 3 * time.Second, 5 * time.Second, 20 * time.Second} {
		var late []time.Duration
		var looks []int
		often(func() {
			var earlier []Span
			for range maxSpans {
				earlier = append([]Span{wait(t, earlier, takes, silent).span}, earlier...)
			}
			w := wait(t, earlier, takes, silent)
			late, looks = append(late, w.late), append(looks, w.looks)
		})
		if l := median(late); l > max(shortest, takes/50) {
			t.Errorf("what always takes %v was noticed %v late", takes, l)
		}
		if n := median(looks); n > 9 {
			t.Errorf("%d looks within %v", n, takes)
		}
	}
}

// TestWaitsThatVary checks that waits of different durations, such as those of two templates, are
// noticed without a delay as long as the difference.
func TestWaitsThatVary(t *testing.T) {
	takes := []time.Duration{2 * time.Second, 8 * time.Second}
	var earlier []Span
	var late []time.Duration
	for i := range 200 {
		w := wait(t, earlier, takes[i%2], silent)
		earlier = append([]Span{w.span}, earlier[:min(len(earlier), maxSpans-1)]...)
		if w.looks > 24 {
			t.Errorf("%d looks within %v", w.looks, takes[i%2])
		}
		late = append(late, w.late)
	}
	if l := median(late[10:]); l > 300*time.Millisecond {
		t.Errorf("noticed %v late", l)
	}
}

// TestInstantWaits checks that a resource that was always ready at once is looked at at once.
func TestInstantWaits(t *testing.T) {
	for _, earlier := range [][]Span{{{}}, {{}, {}, {After: 3 * time.Second, By: 4 * time.Second}}} {
		if w := wait(t, earlier, 0, silent); w.looks != 1 || w.late > time.Millisecond {
			t.Errorf("after %v: %+v", earlier, w)
		}
	}
}

// TestWrongHistory checks that durations which are a hundred times too long or too short cost a
// limited time and a limited number of looks.
func TestWrongHistory(t *testing.T) {
	for _, takes := range durations {
		for name, wrong := range map[string]Span{
			"too long":            {99 * takes, 100 * takes},
			"too long, unlimited": {0, maxDuration},
			"too short":           {takes / 101, takes / 100},
			"at once":             {},
			"at most":             {maxDuration, maxDuration},
		} {
			often(func() {
				w := wait(t, slices.Repeat([]Span{wrong}, maxSpans), takes, silent)
				if most := max(firstLook, min(first+2*takes, max(patience, min(takes/coarseness, longest))*5/4)); w.late > most {
					t.Errorf("%s: what takes %v was noticed %v late", name, takes, w.late)
				}
				if usual := wait(t, nil, takes, silent); w.looks > usual.looks*5/4+20 {
					t.Errorf("%s: %d looks within %v, and %d without the history", name, w.looks, takes, usual.looks)
				}
			})
		}
	}
}

// TestWrongHistoryIsCorrected checks that the durations of a cloud that has become faster or
// slower are soon those of later waits.
func TestWrongHistoryIsCorrected(t *testing.T) {
	for _, was := range []time.Duration{300 * time.Millisecond, 300 * time.Second} {
		earlier := slices.Repeat([]Span{{was, was}}, maxSpans)
		var last waited
		for range maxSpans + 2 {
			last = wait(t, earlier, 3*time.Second, silent)
			earlier = append([]Span{last.span}, earlier[:maxSpans-1]...)
		}
		if last.late > 500*time.Millisecond || last.looks > 9 {
			t.Errorf("after waits of %v: %+v", was, last)
		}
	}
}

// TestProgress checks that even progress shows the end without earlier waits, in few looks.
func TestProgress(t *testing.T) {
	for _, takes := range []time.Duration{5 * time.Second, 30 * time.Second, 4 * time.Minute, time.Hour} {
		often(func() {
			w := wait(t, nil, takes, even(takes))
			if w.late > takes/50 || w.looks > 40+int(takes/longest) {
				t.Errorf("%v with progress: %+v", takes, w)
			}
		})
	}
}

// TestWrongProgress checks that progress which is wrong costs a limited time and a limited number
// of looks.
func TestWrongProgress(t *testing.T) {
	for name, wrong := range map[string]func(takes time.Duration) report{
		"stuck at 99 percent": func(takes time.Duration) report {
			return func(at time.Duration) int { return min(99, int(10000*at/takes)) }
		},
		"complete at once": func(time.Duration) report { return func(time.Duration) int { return 100 } },
		"backward": func(takes time.Duration) report {
			return func(at time.Duration) int { return max(1, 99-int(100*at/takes)) }
		},
		"a jump to the end": func(takes time.Duration) report {
			return func(at time.Duration) int { return 5 + 90*int(2*at/(takes+1)) }
		},
		"up and down": func(takes time.Duration) report {
			return func(at time.Duration) int { return 10 + 80*(int(7*at/(takes+1))%2) }
		},
		"slower and slower": func(takes time.Duration) report {
			return func(at time.Duration) int { return int(100 * at / (at + takes/20 + 1)) }
		},
		"ten times too slow": func(takes time.Duration) report { return even(10 * takes) },
		"no percentage":      func(time.Duration) report { return func(at time.Duration) int { return int(at) } },
	} {
		for _, takes := range durations {
			often(func() {
				w := wait(t, nil, takes, wrong(takes))
				if most := max(usualLate(takes), min(first+2*takes, longest)); w.late > most {
					t.Errorf("%s: what takes %v was noticed %v late", name, takes, w.late)
				}
				if usual := wait(t, nil, takes, silent); w.looks > usual.looks*5/4+40 {
					t.Errorf("%s: %d looks within %v, and %d without progress", name, w.looks, takes, usual.looks)
				}
			})
		}
	}
}

// FuzzProgress waits an hour with any progress and any earlier waits.
func FuzzProgress(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 99}, int64(3000), int64(3100))
	f.Add([]byte{50, 10, 255}, int64(0), int64(0))
	f.Add([]byte{}, int64(-1), int64(1<<60))
	f.Fuzz(func(t *testing.T, percents []byte, after, by int64) {
		n := 0
		span := Span{time.Duration(after), time.Duration(by)}
		if span.After < 0 || span.By < span.After || span.By > maxDuration {
			span = Span{}
		}
		w := wait(t, []Span{span}, time.Hour, func(time.Duration) int {
			if n++; len(percents) == 0 {
				return 0
			}
			return int(percents[n%len(percents)]) - 1
		})
		if w.looks > 800 {
			t.Errorf("%d looks within an hour", w.looks)
		}
	})
}
