package faults

import (
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// throttles are the ways in which the clouds throttle. EC2 has only one.
var throttles = []fault{
	{"throttled", map[string]any{"error": "throttled"}},
	{"throttled as an account", map[string]any{"error": "throttled-account"}},
	{"throttled for one call", map[string]any{"error": "throttled-call"}},
}

// TestFaultOfLongThrottling throttles one action at a time, from one of its calls on, for longer
// than a few attempts take. Every build must succeed and print which call is throttled.
func TestFaultOfLongThrottling(t *testing.T) {
	lasts := "6s"
	if harness.All {
		lasts = "30s"
	}
	harness.Each(t, harness.Covered(), func(t *testing.T, f harness.Flavor) {
		points := slices.DeleteFunc(points(harness.New(t, f.Host()...), f), func(p point) bool { return p.dialect == "imds" })
		var spots []faulted
		for i, p := range points {
			spots = append(spots, faulted{p, throttles[i%len(throttles)]})
		}
		counts := newCount("A call is throttled for "+lasts+": "+f.String(), namesOf(throttles)...)
		sideBySide(t, f, share(spots, 9), faulted.String, func(b *harness.Box, before []string, s faulted) {
			b.Env = append(b.Env, "PACKER_CHROOT_PATIENCE=2m")
			rule := s.with(s.here())
			delete(rule, "times")
			rule["lasts"] = lasts
			outcome := missed
			for n := 0; n < tries && outcome == missed; n++ {
				out, ok, met := buildWithFaults(b, b.Template(f.Basic(nil), harness.Shell("true")), rule)
				switch {
				case met && ok && (s.readsBlocks() || strings.Contains(out, "throttled since")):
					outcome = succeeded
				case met && ok:
					t.Errorf("%s: nothing is said of it:\n%s", s, out)
				case !ok:
					t.Errorf("%s: the build failed", s)
				}
				checkOutcome(b, before, out, ok, "the build must succeed")
			}
			counts.add(s.name, outcome)
		})
		counts.print(t)
	})
}
