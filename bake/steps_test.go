package bake_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// stepTimes records the steps of a build that have ended.
type stepTimes struct {
	mu  sync.Mutex
	all []event.Step
}

// Hear implements event.Listener.
func (s *stepTimes) Hear(e event.Event) {
	if step, ok := e.(event.Step); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all = append(s.all, step)
	}
}

// names returns the steps, without those that run in parallel with others.
func (s *stepTimes) names() (names []string) {
	for _, step := range s.all {
		if step.Name != "remove volume" {
			names = append(names, step.Name)
		}
	}
	return names
}

// requests is a listener that records events of requests.
type requests []event.Requests

func (r *requests) Hear(e event.Event) {
	if n, ok := e.(event.Requests); ok {
		*r = append(*r, n)
	}
}

// TestRequestsAreEmittedOnce: a direct build emits the numbers of requests for blocks at its end, also if it
// fails.
func TestRequestsAreEmittedOnce(t *testing.T) {
	for _, fails := range []string{"", "provision#1"} {
		t.Run(fails, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
				direct(w, &plan)
				if fails != "" {
					w.faults[fails] = fault{err: errInjected}
				}
				var heard requests
				_, _ = w.build(event.Listen(t.Context(), &heard), plan)
				if len(heard) != 1 || heard[0].Made != 1 {
					t.Errorf("heard %v", heard)
				}
			})
		})
	}
}

// TestStepsAreTimed checks that each step of a build emits an event at its end, with the time
// that it took, and that after a step that fails only the undoing follows.
func TestStepsAreTimed(t *testing.T) {
	const untilProvision = "preflight, create volume, attach volume, pre_mount_commands, prepare device, find root, mount root, post_mount_commands, prepare root, provision"
	for fails, want := range map[string]string{
		"":            untilProvision + ", finish root, unmount root, create snapshot, complete snapshot, replace images, register image, publish image",
		"provision#1": untilProvision + ", undo",
	} {
		t.Run(fails, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				if fails != "" {
					w.faults[fails] = fault{act: fails, err: errInjected}
				}
				var steps stepTimes
				begun := time.Now()
				_, err := w.build(event.Listen(t.Context(), &steps), w.plan())
				if got := strings.Join(steps.names(), ", "); got != want {
					t.Errorf("steps\n%s, want\n%s", got, want)
				}
				for _, step := range steps.all {
					if step.Took < 0 || step.Took > time.Since(begun) {
						t.Errorf("the step %q took %s", step.Name, step.Took)
					}
				}
				last := steps.all[len(steps.all)-1]
				if last.Name == "undo" {
					last = steps.all[len(steps.all)-2]
				}
				if errors.Is(last.Err, errInjected) != (fails != "") || (err == nil) != (fails == "") {
					t.Errorf("the step %q ended with %v, and the build with %v", last.Name, last.Err, err)
				}
				removed := slices.ContainsFunc(steps.all, func(s event.Step) bool { return s.Name == "remove volume" })
				if removed != (fails == "") {
					t.Errorf("the volume was removed: %v", removed)
				}
			})
		})
	}
}

// TestLabelsAreReported checks that missing SELinux labels are announced before provisioning,
// and that a warning lists them when the root is left.
func TestLabelsAreReported(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.contexts = chroot.SELinuxContexts{Mode: "enforcing", Policy: "targeted", Unlabelled: "/etc/motd"}
		if _, err := w.build(t.Context(), w.plan()); err != nil {
			t.Fatal(err)
		}
		told := strings.Join(w.reports, "\n")
		rest := told
		for _, want := range []string{"files that the build creates get no labels", "Provisioning in", "Unmounting", `"/etc/motd"`} {
			_, after, found := strings.Cut(rest, want)
			if !found {
				t.Errorf("%q is not reported in its place:\n%s", want, told)
			}
			rest = after
		}
	})
}
