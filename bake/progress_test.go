package bake

import (
	"slices"
	"testing"
	"time"
)

// TestProgressReports checks that progress is reported at each tenth, and more often if it is
// slow.
func TestProgressReports(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		takes time.Duration // for 100 percent, one by one
		want  []int
	}{
		"quick": {time.Minute, []int{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100}},
		"slow":  {5 * time.Hour, []int{0, 4, 8, 10, 14, 18, 20, 24, 28, 30, 34, 38, 40, 44, 48, 50, 54, 58, 60, 64, 68, 70, 74, 78, 80, 84, 88, 90, 94, 98, 100}},
	} {
		t.Run(name, func(t *testing.T) {
			var p pacer
			var told []int
			for percent := range 101 {
				now := start.Add(test.takes * time.Duration(percent) / 100)
				for range 3 {
					if p.due(percent, now) {
						told = append(told, percent)
					}
				}
			}
			if !slices.Equal(told, test.want) {
				t.Errorf("told %v, want %v", told, test.want)
			}
		})
	}
	var p pacer
	if p.due(-1, start) || !p.due(35, start) || p.due(34, start.Add(time.Hour)) {
		t.Error("what is unknown, or less than before, is told of")
	}
}
