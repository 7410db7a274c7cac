package build

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// mostCalls is the number of calls that a build may make while it waits for a cloud.
const mostCalls = 40

// paced is a builder with the profile of its cloud.
type paced struct {
	harness.Flavor
	profile string
	timing  func(scale float64) state.Timing
}

// pacedClouds are the profiles with the durations of real clouds.
var pacedClouds = []paced{
	{harness.Flavors[0], "aws", state.AWS},
	{harness.Flavors[1], "outscale", state.Outscale},
}

// path returns the time that the profile's cloud takes for a build, without that for the data of the snapshot: the volume,
// its attachment, the snapshot and the image follow each other.
func (p paced) path() time.Duration {
	t := p.timing(1)
	return t.VolumeCreate + t.Attach + t.Snapshot + t.ImageCreate
}

// numbered builds a numbered image and returns the calls.
func (p paced) numbered(b *harness.Box, n int) tally {
	b.Helper()
	template := b.Template(p.Basic(harness.O{"PREFIX_name": fmt.Sprint("waited for ", n)}), harness.Shell("true"))
	b.Calls()
	b.Build(template)
	return tallied(b.Calls())
}

// TestCallsWhileWaiting counts the calls of builds on clouds with 0.4 of the real durations: of the first build on a host,
// and of the next one, which knows how long waits take. Intervals that only grow lead to more than forty calls.
func TestCallsWhileWaiting(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	for _, p := range pacedClouds {
		t.Run(p.profile, func(t *testing.T) {
			t.Parallel()
			b := harness.New(t, "--profile", p.profile+":0.4")
			for n := range 2 {
				calls := p.numbered(b, n)
				t.Logf("build %d: %d calls: %v", n, calls.total(), calls)
				if calls.total() > mostCalls {
					t.Errorf("build %d makes %d calls: %v", n, calls.total(), calls)
				}
			}
		})
	}
}

// BenchmarkWaits measures the part of a build's time that is not the cloud's own, and counts the calls, with the durations
// of real clouds. Each build is followed by one on a cloud that is ready at once, which shows the part that is not
// waiting. The figures are medians. The first build knows nothing about the durations.
func BenchmarkWaits(b *testing.B) {
	for _, p := range pacedClouds {
		b.Run(p.Name, func(b *testing.B) {
			box, instant := harness.New(b, "--profile", p.profile), harness.New(b)
			var above, calls, ready []int
			for b.Loop() {
				begun := time.Now()
				calls = append(calls, p.numbered(box, len(calls)).total())
				above = append(above, int((time.Since(begun) - p.path()).Milliseconds()))
				b.StopTimer()
				begun = time.Now()
				p.numbered(instant, len(calls))
				ready = append(ready, int(time.Since(begun).Milliseconds()))
				b.StartTimer()
			}
			b.Logf("%s: ms above %v: %v; ms if ready at once: %v; calls: %v", p.profile, p.path(), above, ready, calls)
			b.ReportMetric(median(above), "ms-above-path")
			b.ReportMetric(float64(p.path().Milliseconds()), "ms-path")
			b.ReportMetric(median(ready), "ms-if-ready-at-once")
			b.ReportMetric(median(calls), "calls/build")
		})
	}
}

// median returns the median of numbers, of which there is at least one.
func median(all []int) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return float64(sorted[len(sorted)/2])
}
