package bake

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// goesOn is a listener for reports of waits that go on.
type goesOn []string

// Hear implements event.Listener.
func (g *goesOn) Hear(e event.Event) {
	if _, ok := e.(event.Waiting); ok {
		*g = append(*g, e.String())
	}
}

// TestLongWaitsAreReported checks that a wait of more than ten seconds is reported, at growing
// intervals and at each tenth of the progress.
func TestLongWaitsAreReported(t *testing.T) {
	for name, test := range map[string]struct {
		takes   time.Duration
		percent bool
		want    []string
	}{
		"short": {9 * time.Second, true, nil},
		"without progress": {4 * time.Minute, false, []string{
			"waiting for it, 10s: pending", "waiting for it, 30s: pending", "waiting for it, 1m10s: pending", "waiting for it, 2m30s: pending",
		}},
		"with progress": {40 * time.Second, true, []string{
			"waiting for it, 10s: pending, 24 percent", "waiting for it, 13s: pending, 31 percent", "waiting for it, 16s: pending, 40 percent",
			"waiting for it, 20s: pending, 50 percent", "waiting for it, 25s: pending, 61 percent", "waiting for it, 28s: pending, 70 percent",
			"waiting for it, 32s: pending, 80 percent", "waiting for it, 36s: pending, 91 percent",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var heard goesOn
				begun := time.Now()
				pace := Pace{First: 700 * time.Millisecond, Longest: 700 * time.Millisecond, Limit: time.Hour}
				err := pace.until(event.Listen(t.Context(), &heard), schedule{}, "it", func(context.Context) (observation, error) {
					age := time.Since(begun)
					seen := observation{state: "pending", done: age >= test.takes}
					if test.percent {
						seen.percent = int(100 * age / test.takes)
					}
					return seen, nil
				})
				time.Sleep(time.Hour) // nothing is reported after the end
				if err != nil || !slices.Equal(heard, test.want) {
					t.Errorf("%v, reported\n%q, want\n%q", err, heard, test.want)
				}
			})
		})
	}
}

// TestWaitsOfMachineAreReported checks that the wait for a device is reported too, and is an event when
// it ends.
func TestWaitsOfMachineAreReported(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var heard goesOn
		ctx := event.Listen(t.Context(), &heard)
		a := reportWait(ctx, "the device of vol-1")
		time.Sleep(15 * time.Second)
		a.end()
		time.Sleep(time.Hour)
		if got := fmt.Sprint(heard); got != "[waiting for the device of vol-1, 10s]" {
			t.Error(got)
		}
	})
}
