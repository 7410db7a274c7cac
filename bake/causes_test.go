package bake_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// TestOnlyEffectsAreReportedUndone lets one call of a build fail. What the call did not
// create is not reported as undone; a resource that a failed call created is.
func TestOnlyEffectsAreReportedUndone(t *testing.T) {
	for act, of := range map[string]string{
		"volume#1": "volume", "attach#1": "attachment", "reserve#1": "reservation", "mount#1": "mount", "snapshot#1": "snapshot", "image#1": "image",
	} {
		for _, effect := range []bool{false, true} {
			if effect && (act == "reserve#1" || act == "mount#1") {
				continue // local acts that fail have no effect
			}
			t.Run(act, func(t *testing.T) {
				in(t, func(t *testing.T, w *fake) {
					w.faults[act] = fault{err: errInjected, effect: effect}
					_, err := w.build(t.Context(), w.plan())
					if !errors.Is(err, errInjected) {
						t.Fatal(err)
					}
					_, undone, _ := strings.Cut(err.Error(), "undone: ")
					told := slices.ContainsFunc(strings.Split(undone, ", "), func(what string) bool { return strings.HasPrefix(what, of+" ") })
					if told != effect {
						t.Errorf("effect %v, and the error is %q", effect, err)
					}
					for _, line := range w.reports {
						if !effect && strings.HasPrefix(line, "detail: undone: "+of+" ") {
							t.Errorf("told %q", line)
						}
					}
				})
			})
		}
	}
}

// failedToCleanUp returns a fake in which the cloud refused a volume and then the search for
// it, so that the build could not clean up.
func (w *fake) failedToCleanUp() (dir string) {
	dir = stateDir(w.t)
	w.faults["volume#1"] = fault{err: errInjected}
	w.faults["find volumes#1"] = fault{err: errInjected}
	if _, err := w.build(w.t.Context(), w.journaledPlan(dir)); !errors.Is(err, errInjected) {
		w.t.Fatal(err)
	}
	w.reports = nil
	return dir
}

// TestReapAfterAFailedCleanUp checks that Reap does not wait for pending requests of a build
// that ended by itself, and does not report the build as killed.
func TestReapAfterAFailedCleanUp(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		dir := w.failedToCleanUp()
		begun := time.Now()
		w.reaped(dir)
		if took, inFlight := time.Since(begun), bake.DefaultWaits().InFlight; took >= inFlight/2 {
			t.Errorf("it took %s", took)
		}
		told := strings.Join(w.reports, "\n")
		if strings.Contains(told, "killed") || !strings.Contains(told, "build build-1, which failed to clean up") {
			t.Errorf("told:\n%s", told)
		}
	})
}

// TestWaitForReaperIsReported checks that a build that ends while it cleans up after another
// one prints a message.
func TestWaitForReaperIsReported(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		dir := stateDir(t)
		journals := w.kill(killPoint{act: "volume#1"}, dir)
		_, _ = w.build(t.Context(), w.journaledPlan(dir))
		plan := w.journaledPlan(journals())
		plan.Build, w.reports = "build-2", nil
		w.faults["volume#2"] = fault{err: errInjected}
		if _, err := w.build(t.Context(), plan); !errors.Is(err, errInjected) {
			t.Fatal(err)
		}
		told := strings.Join(w.reports, "\n")
		if !strings.Contains(told, "waiting up to 1m30s for the clean-up after other builds") || !strings.Contains(told, "up to 15s") {
			t.Errorf("told:\n%s", told)
		}
	})
}

// TestReapKnowsTheCloud checks that a cloud is recognized by its identity: the same cloud at
// another endpoint, and another cloud at the same endpoint.
func TestReapKnowsTheCloud(t *testing.T) {
	for name, test := range map[string]struct {
		endpoint, cloud string
		fate            bake.Fate
	}{
		"at another port":                 {"http://there", "cloud-1", bake.Removed},
		"another cloud at the same port":  {"http://here", "cloud-2", bake.Elsewhere},
		"one that does not say, the same": {"http://here", "", bake.Removed},
		"one that does not say, another":  {"http://there", "", bake.Elsewhere},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				w.host.Cloud = "cloud-1"
				r := reaping(w.killedBuild())
				r.Endpoint, w.host.Cloud = test.endpoint, test.cloud
				all, err := bake.Reap(t.Context(), w, machine{w}, w, r)
				if err != nil || len(all) != 1 || all[0].Fate != test.fate {
					t.Errorf("%+v, %v", all, err)
				}
			})
		})
	}
}

// TestReapReportsRunningBuildOfAnotherRegion checks that a running build is reported as
// running, whatever its region.
func TestReapReportsRunningBuildOfAnotherRegion(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		dir := stateDir(t)
		plan := w.journaledPlan(dir)
		plan.Provision = func(ctx context.Context, _ bake.Workplace) error {
			for _, dry := range []bool{true, false} {
				r := reaping(dir)
				r.Endpoint, r.Program, r.DryRun = "http://there", "other-chroot", dry
				all, err := bake.Reap(ctx, w, machine{w}, w, r)
				if err != nil || len(all) != 1 || all[0].Fate != bake.Living || all[0].Problem != "" {
					t.Errorf("dry run %v: %+v, %v", dry, all, err)
				}
			}
			return nil
		}
		if _, err := w.build(t.Context(), plan); err != nil {
			t.Error(err)
		}
	})
}

// TestUnknownVolumeStates checks that the error of a wait contains the cloud's own name of the
// state, even if bake does not know it, and says so if the cloud names none.
func TestUnknownVolumeStates(t *testing.T) {
	for state, want := range map[bake.VolumeState]string{"hibernating": "it is still hibernating", "nameless": "in a state that the cloud does not name"} {
		in(t, func(t *testing.T, w *fake) {
			w.volumeState = state
			w.hidesState = state == "nameless"
			_, err := w.build(t.Context(), w.plan())
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", state, err)
			}
		})
	}
}
