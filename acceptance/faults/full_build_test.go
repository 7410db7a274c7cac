package faults

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"testing"

	difference "github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// furtherPoints returns the calls that only full builds make: those for copying, replacing, sharing and
// protecting.
func furtherPoints(k *harness.FullBox) []point {
	k.Helper()
	basic := points(harness.New(k.TB, k.Host()...), k.Flavor)
	build := func() { k.Build(k.Full(k.Flavor, k.Source, "")) }
	all := pointsOf(k.Box, build, func() {
		k.Done = k.Now()
		k.Reset()
	})
	return slices.DeleteFunc(all, func(p point) bool { return slices.Contains(basic, p) })
}

// TestFaultOfOneCallOfFullBuilds makes each call that only full builds make fail once, in each way. Then
// either the new image exists with all its attributes, or the old one does.
func TestFaultOfOneCallOfFullBuilds(t *testing.T) {
	harness.Each(t, harness.Covered(), func(t *testing.T, f harness.Flavor) {
		first := harness.NewFullBox(t, f)
		faults := faultsOf(f)
		spots := allPairs(furtherPoints(first), faults)
		counts := newCount("One call of a build that copies, replaces, shares and protects goes wrong: "+f.String(), namesOf(faults)...)
		open := func() *harness.FullBox {
			k := harness.NewFullBox(t, f)
			shortenWaits(k.Box)
			k.Done = first.Done
			return k
		}
		spread(t, open, share(spots, 71), faulted.String, func(t *testing.T, k *harness.FullBox, s faulted) {
			own := *k
			own.Box = k.In(t)
			outcome := missed
			for n := 0; n < tries && outcome == missed; n++ {
				out, ok, met := buildWithFaults(own.Box, own.Full(f, own.Source, ""), s.with(s.here()))
				switch {
				case met && ok:
					outcome = succeeded
				case met:
					outcome = failedClearly
				}
				asDoneOrBefore(&own, out, ok, s.action)
			}
			counts.add(s.name, outcome)
			own.Box = k.Box
			*k = own
		})
		counts.print(t)
	})
}

// TestRestoredImageFails checks that if the new image fails, and the old one fails when it is registered
// again, the old one is registered once more.
func TestRestoredImageFails(t *testing.T) {
	harness.Each(t, harness.Covered(), func(t *testing.T, f harness.Flavor) {
		k := harness.NewFullBox(t, f)
		out, ok, met := buildWithFaults(k.Box, k.Full(f, k.Source, ""), map[string]any{"action": "RegisterImage", "outcome": "error", "times": 2})
		if ok || !met {
			t.Errorf("succeeded: %t, with both failures: %t", ok, met)
		}
		asDoneOrBefore(k, out, ok, "RegisterImage")
	})
}

// asDoneOrBefore reaps, and fails the test unless the resources are those after a successful full build, or those
// before a failed one.
func asDoneOrBefore(k *harness.FullBox, out string, ok bool, action string) {
	k.Helper()
	reapedAll(k.Box, k.Flavor)
	k.Clean()
	want := k.Before
	if ok {
		want = k.Done
	} else if says := cmp.Or(names[action], "no error is expected of this call"); !regexp.MustCompile(says).MatchString(out) {
		k.Errorf("the error is not about %q", says)
	}
	if diff := difference.Diff(want, k.Now()); diff != "" {
		k.Errorf("success: %t; the cloud is not as it should be (-want +now):\n%s", ok, diff)
	}
	if k.Failed() {
		k.Logf("packer said:\n%s", out)
	}
	k.Control(http.MethodDelete, "faults", nil, nil)
	k.Reset()
}
