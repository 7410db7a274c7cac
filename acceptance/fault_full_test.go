package acceptance

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"testing"

	difference "github.com/google/go-cmp/cmp"
)

// furtherPoints are the calls that full builds have, and basic ones have not: those of
// copying, replacing, sharing and protecting.
func (k *killing) furtherPoints() []point {
	k.t.Helper()
	basic := newBox(k.t).points(k.flavor)
	build := func() { k.build(k.full(k.flavor, k.source, "")) }
	all := k.pointsOf(build, func() {
		k.done = k.things(k.known)
		k.reset()
	})
	return slices.DeleteFunc(all, func(p point) bool { return slices.Contains(basic, p) })
}

// TestFaultOfOneCallOfFullBuilds has each call go wrong once, in each way, that only full
// builds have: then the new image is there with all that it is to have, or the old one.
func TestFaultOfOneCallOfFullBuilds(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		first := newKilling(t, f)
		spots := eachWithEach(first.furtherPoints(), callFaults)
		counts := newCount("One call of a build that copies, replaces, shares and protects goes wrong: "+f.name, namesOf(callFaults)...)
		open := func() *killing {
			k := newKilling(t, f)
			k.impatient()
			k.done = first.done
			return k
		}
		spread(t, open, share(spots, 43), faulted.String, func(t *testing.T, k *killing, s faulted) {
			own := *k
			own.box = &box{}
			*own.box = *k.box
			own.t = t
			outcome := missed
			for n := 0; n < tries && outcome == missed; n++ {
				out, ok, met := own.faulty(own.full(f, own.source, ""), s.with(s.here()))
				switch {
				case met && ok:
					outcome = succeeded
				case met:
					outcome = failedClearly
				}
				own.asDoneOrBefore(out, ok, s.action)
			}
			counts.add(s.name, outcome)
			*k = own
		})
		counts.print(t)
	})
}

// TestRestoredImageFails has the new image fail, and the old one too when it is registered
// again: it is registered once more, and is there in the end.
func TestRestoredImageFails(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		k := newKilling(t, f)
		out, ok, met := k.faulty(k.full(f, k.source, ""), map[string]any{"action": "RegisterImage", "outcome": "error", "times": 2})
		if ok || !met {
			t.Errorf("succeeded: %t, with both failures: %t", ok, met)
		}
		k.asDoneOrBefore(out, ok, "RegisterImage")
	})
}

// asDoneOrBefore fails the test unless the box is as after a full build that succeeded or
// as before one that failed, once what the build says is left has been reaped.
func (k *killing) asDoneOrBefore(out string, ok bool, action string) {
	k.t.Helper()
	k.reapedAll(k.flavor)
	k.clean()
	want := k.before
	if ok {
		want = k.done
	} else if says := cmp.Or(names[action], "no error is expected of this call"); !regexp.MustCompile(says).MatchString(out) {
		k.t.Errorf("the error is not about %q", says)
	}
	if diff := difference.Diff(want, k.things(k.known)); diff != "" {
		k.t.Errorf("success: %t; the cloud is not as it should be (-want +now):\n%s", ok, diff)
	}
	if k.t.Failed() {
		k.t.Logf("packer said:\n%s", out)
	}
	k.control(http.MethodDelete, "faults", nil, nil)
	k.reset()
}
