package bake_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// changing are the acts of a build that change something in the cloud, and of its undoing.
var changing = []string{
	"volume", "attach", "~attach", "~volume", "snapshot", "~snapshot", "image", "~image", "there: copy", "there: ~image",
	"publish", "there: publish", "tag", "there: tag", "restore", "there: restore", "regain", "unguard",
}

// unsettled returns a number of refusals with ErrUnsettled.
func unsettled(n int) []error {
	return slices.Repeat([]error{bake.Unsettled(errors.New("it does not exist"))}, n)
}

// TestUnsettledCalls checks that each changing call is repeated until the cloud knows the
// resource, in a build that succeeds and in the rollback of one that fails.
func TestUnsettledCalls(t *testing.T) {
	for _, variant := range []string{"plain", "replaced", "everywhere", "passing", "guarded"} {
		for _, last := range []string{"", "publish#1"} {
			for _, act := range changing {
				t.Run(strings.Join([]string{variant, last, act}, ", "), func(t *testing.T) {
					in(t, func(t *testing.T, w *fake) {
						plan := w.plan()
						variants[variant](w, &plan)
						w.refusals = map[string][]error{act: unsettled(4)}
						if last != "" {
							w.faults[last] = fault{err: errInjected}
							if act == "publish" {
								w.faults = map[string]fault{"publish#5": {err: errInjected}}
							}
						}
						result, err := w.build(t.Context(), plan)
						if (err == nil) != (last == "") {
							t.Errorf("the build ended with %v", err)
						}
						w.checkResult(result, err)
					})
				})
			}
		}
	}
}

// TestUnsettledCallsOfDirectBuilds does the same for the calls of a BlockStore.
func TestUnsettledCallsOfDirectBuilds(t *testing.T) {
	for _, last := range []string{"", "publish#1"} {
		for _, act := range []string{"start", "unmark", "tag", "~snapshot", "image", "~image"} {
			t.Run(last+", "+act, func(t *testing.T) {
				in(t, func(t *testing.T, w *fake) {
					plan := w.plan()
					direct(w, &plan)
					w.refusals = map[string][]error{act: unsettled(4)}
					if last != "" {
						w.faults[last] = fault{err: errInjected}
					}
					result, err := w.build(t.Context(), plan)
					if (err == nil) != (last == "") {
						t.Errorf("the build ended with %v", err)
					}
					w.checkResult(result, err)
					if err == nil && w.snapshots["snap-1"].build != "" {
						t.Error("the snapshot carries the build's tag")
					}
				})
			})
		}
	}
}

// TestUnsettledCallIsReported checks that the user sees the refusal.
func TestUnsettledCallIsReported(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.refusals = map[string][]error{"attach": unsettled(4)}
		result, err := w.build(t.Context(), w.plan())
		w.checkResult(result, err)
		line := "detail: trying again for up to 2m0s (the attachment of vol-1): it does not exist"
		if n := strings.Count(strings.Join(w.reports, "\n"), line); n != 1 {
			t.Errorf("%d times %q in %q", n, line, w.reports)
		}
	})
}

// TestUnsettledCallReachesItsLimit checks that the refusal is the error at the limit, and that
// everything is undone.
func TestUnsettledCallReachesItsLimit(t *testing.T) {
	for _, act := range []string{"volume", "attach", "snapshot", "image", "publish"} {
		t.Run(act, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				w.refusals = map[string][]error{act: unsettled(1000)}
				begun := time.Now()
				result, err := w.build(t.Context(), w.plan())
				if err == nil || !strings.Contains(err.Error(), "it does not exist; gave up after ") {
					t.Errorf("the build ended with %v", err)
				}
				if took := time.Since(begun); took < 2*time.Minute || took > 4*time.Minute {
					t.Errorf("it took %s", took)
				}
				w.refusals = nil
				w.checkResult(result, err)
			})
		})
	}
}

// TestCancelUnsettledCall checks that a cancel ends the wait at once.
func TestCancelUnsettledCall(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.refusals = map[string][]error{"attach": unsettled(1000)}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		result, err := w.build(ctx, w.plan())
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 10*time.Second {
			t.Errorf("after %s it ended with %v", time.Since(begun), err)
		}
		w.checkResult(result, err)
	})
}

// comes adds an image of another owner, which is shown only after a time.
func (w *fake) comes(region string, after time.Duration) {
	w.addImage(region, "ami-late", "golden", "snap-late")
	w.images["ami-late"].born = time.Now().Add(after)
	w.images["ami-late"].takes = 10 * time.Second
	w.sharedName = true
}

// TestImageNameShownLate checks that an image of the same name that was not shown at the
// beginning is replaced when it is shown and available, or is reported.
func TestImageNameShownLate(t *testing.T) {
	replace := func(w *fake, p *bake.Plan) {
		p.Replace, p.DeleteReplaced = true, true
		w.removed["ami-late"], w.removed["snap-late"] = true, true
	}
	there := func(w *fake, p *bake.Plan) {
		replace(w, p)
		w.publication.Copies = []bake.Copy{{Region: "there"}}
		w.comes("there", 2*time.Minute)
	}
	hiddenName := func(region string) func(w *fake, p *bake.Plan) {
		act := map[string]string{home: "image", "there": "there: copy"}[region]
		return func(w *fake, p *bake.Plan) {
			variants["everywhere"](w, p)
			err := bake.NameTaken(fmt.Errorf("golden is in use"))
			w.refusals = map[string][]error{act: {err, err, err, err}}
		}
	}
	for name, test := range map[string]struct {
		setUp       func(*fake, *bake.Plan)
		home, there string
		says        []string
	}{
		"replaced": {func(w *fake, p *bake.Plan) { replace(w, p); w.comes(home, time.Minute) },
			"~image ami-late, image, ~reserve /dev/sdf, ~snapshot snap-late", "", nil},
		"replaced in another region": {there, "image, ~reserve /dev/sdf", "~image ami-late, copy, ~snapshot snap-late", nil},
		"replaced, and restored after a failure": {func(w *fake, p *bake.Plan) {
			replace(w, p)
			w.comes(home, time.Minute)
			w.faults["publish#1"] = fault{err: errInjected}
		}, "~image ami-late, image, ~image, restore ami-late, ~snapshot, ~reserve /dev/sdf", "", []string{"injected"}},
		"replaced in another region, and restored": {func(w *fake, p *bake.Plan) {
			there(w, p)
			w.faults["there: publish#1"] = fault{err: errInjected}
		}, "image, ~image, ~snapshot, ~reserve /dev/sdf",
			"~image ami-late, copy, ~image, ~snapshot, ~snapshot, restore ami-late", []string{"injected"}},
		"not to be replaced": {func(w *fake, _ *bake.Plan) { w.comes(home, time.Minute) },
			"~snapshot, ~reserve /dev/sdf", "", []string{`"golden" is in use by ami-late`, "force_deregister"}},
		"cannot be replaced": {func(w *fake, p *bake.Plan) {
			there(w, p)
			w.images["ami-late"].takes = 0
			w.faults["there: record#1"] = fault{err: errors.New("it is protected")}
		}, "image, ~image, ~snapshot, ~reserve /dev/sdf", "", []string{"ami-late", "it is protected"}},
		"never shown": {func(w *fake, p *bake.Plan) { replace(w, p); w.comes(home, time.Hour) },
			"~snapshot, ~reserve /dev/sdf", "", []string{"golden is in use; gave up after"}},
		"being created for ever": {func(w *fake, p *bake.Plan) {
			replace(w, p)
			w.comes(home, time.Minute)
			w.images["ami-late"].takes = time.Hour
		}, "~snapshot, ~reserve /dev/sdf", "", []string{"ami-late", "is pending; gave up after"}},
		"a name that is still counted": {hiddenName(home), "~image ami-old, image, publish, ~reserve /dev/sdf, ~snapshot snap-old",
			"~image ami-older, copy, publish, ~snapshot snap-older", nil},
		"a name that is still counted, there": {hiddenName("there"), "~image ami-old, image, publish, ~reserve /dev/sdf, ~snapshot snap-old",
			"~image ami-older, copy, publish, ~snapshot snap-older", nil},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
				test.setUp(w, &plan)
				result, err := w.build(t.Context(), plan)
				w.checkResult(result, err)
				if (err == nil) != (test.says == nil) {
					t.Fatalf("the build ended with %v", err)
				}
				for _, part := range test.says {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("error %q does not say %q", err, part)
					}
				}
				w.happenedBy(test.home, test.there)
				told := strings.Join(w.reports, "\n")
				if n := strings.Count(told, "detail: trying again"); n < 1 || n > 2 {
					t.Errorf("%d lines tell that the name is asked for again:\n%s", n, told)
				}
			})
		})
	}
}
