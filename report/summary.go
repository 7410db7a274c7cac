package report

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// barWidth is the width of a summary's bar, in characters. With Packer's prefix, a line has 80.
const barWidth = 24

// Summary returns the lines of a summary for the terminal. They contain no control characters, and the
// bars only ASCII, because they may be written to a log. The first line is a heading.
func (r Report) Summary() []string {
	outcome := "the build has succeeded"
	if !r.Succeeded {
		outcome = "the build has failed"
	}
	lines := []string{fmt.Sprintf("Summary: %s after %s", outcome, clock(r.Seconds))}
	for _, s := range r.Steps {
		note := ""
		if s.Error != "" {
			note = " failed"
		}
		lines = append(lines, fmt.Sprintf("%-20s %8s |%s|%s", s.Name, clock(s.End-s.Begin), r.bar(s.Span), note))
	}
	lines = append(lines, r.Division.line(r.Seconds), r.callsLine())
	if moved := r.movedLine(); moved != "" {
		lines = append(lines, moved)
	}
	return lines
}

// bar draws the place of a span in the time of the build.
func (r Report) bar(s Span) string {
	if r.Seconds <= 0 {
		return strings.Repeat(" ", barWidth)
	}
	from := min(int(s.Begin/r.Seconds*barWidth), barWidth-1)
	to := min(max(int(math.Round(s.End/r.Seconds*barWidth)), from+1), barWidth)
	return strings.Repeat(" ", from) + strings.Repeat("#", to-from) + strings.Repeat(" ", barWidth-to)
}

// line describes the division of the whole.
func (d Division) line(whole float64) string {
	part := func(name string, s float64) string {
		return fmt.Sprintf("%s %s (%.0f%%)", name, clock(s), 100*s/max(whole, 0.001))
	}
	parts := []string{part("the cloud", d.Cloud), part("provisioners and commands", d.Provisioners), part("the builder", d.Builder)}
	if d.Pauses > 0 {
		parts = append(parts, part("pauses", d.Pauses))
	}
	return strings.Join(parts, ", ")
}

// callsLine describes the calls.
func (r Report) callsLine() string {
	all, failed := r.calls()
	line := plural(all, "call")
	if failed > 0 {
		line += fmt.Sprintf(", of which %d failed", failed)
	}
	return line
}

// moved returns the number of bytes in each direction.
func (r Report) moved() map[event.Direction]int64 {
	sums := map[event.Direction]int64{}
	for _, t := range r.Transfers {
		sums[event.Direction(t.Direction)] += t.Bytes
	}
	return sums
}

// movedLine describes the transferred data; empty if there was none.
func (r Report) movedLine() string {
	var parts []string
	sums := r.moved()
	for _, d := range []event.Direction{event.FromSource, event.ToSnapshot, event.ToImage, event.FromImage} {
		if sums[d] > 0 {
			parts = append(parts, size(sums[d])+" "+string(d))
		}
	}
	return strings.Join(parts, ", ")
}

// clock returns seconds for a reader: 1.2s, 3m20s, 1h5m0s.
func clock(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// size returns a number of bytes for a reader.
func size(bytes int64) string {
	switch {
	case bytes >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	case bytes >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	case bytes >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(bytes)/(1<<10))
	}
	return plural(int(bytes), "byte")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
