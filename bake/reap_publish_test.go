package bake_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// killed runs a build with a variant until a kill point, and returns a copy of the journals at that point,
// empty if the build was not killed.
func (w *fake) killed(v variant, d killPoint) (journals string) {
	dir := stateDir(w.t)
	snapshot := w.kill(d, dir)
	plan := w.journaledPlan(dir)
	v(w, &plan)
	_, _ = w.build(w.t.Context(), plan)
	return snapshot()
}

// published are the calls of those listed that concern existing images, or images in other
// regions. Reading calls change nothing.
func published(all []string) []killPoint {
	var points []killPoint
	for _, act := range all {
		name := strings.TrimPrefix(act, "there: ")
		for _, prefix := range []string{"copy#", "find", "~image", "~snapshot", "image#", "publish", "record", "restore", "name", "unguard"} {
			if strings.HasPrefix(name, prefix) {
				points = append(points, killPoint{act: act}, killPoint{act: act, after: true})
			}
		}
	}
	return points
}

// cleaned reaps and expects everything to be as before the build or, of one that had
// succeeded, as after it.
func (w *fake) cleaned(dir string) {
	w.t.Helper()
	kept := journalsSay(w.t, dir, `"kept"`)
	all, err := bake.Reap(w.t.Context(), w, machine{w}, w, reaping(dir))
	if err != nil {
		w.t.Errorf("cannot reap: %v", err)
	}
	for _, r := range all {
		if r.Fate != bake.Removed {
			w.t.Errorf("%+v", r)
		}
	}
	want, left := w.before, w.left()
	if kept {
		want = w.after()
	}
	if !slices.Equal(left, want) {
		w.t.Errorf("after %q, left %q, want %q", w.events, left, want)
	}
}

// TestKilledWhilePublishing kills a build that replaces, copies and publishes before
// and after each of its calls to do with that.
func TestKilledWhilePublishing(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(variants)) {
		for _, d := range published(acts(t, variants[name])) {
			t.Run(fmt.Sprintf("%s, %v", name, d), func(t *testing.T) {
				in(t, func(_ *testing.T, w *fake) {
					if dir := w.killed(variants[name], d); dir != "" {
						w.cleaned(dir)
					} else {
						w.notKilled(d)
					}
				})
			})
		}
	}
}

// TestReaperKilledWhilePublishing kills the process that cleans up after such a build.
func TestReaperKilledWhilePublishing(t *testing.T) {
	for name, d := range map[string]killPoint{
		"everywhere":      {act: "there: publish#1"},
		"passing":         {act: "publish#1"},
		"guarded":         {act: "there: publish#1", after: true},
		"replaced":        {act: "image#1"},
		"failing restore": {act: "image#1"},
		"locked":          {act: "volume#1"},
	} {
		var all []string
		in(t, func(_ *testing.T, w *fake) {
			dir := w.killed(variants[name], d)
			w.acts, w.counts = nil, map[string]int{}
			w.cleaned(dir)
			all = w.acts
		})
		for _, again := range published(all) {
			t.Run(fmt.Sprintf("%s: %v, then %v", name, d, again), func(t *testing.T) {
				in(t, func(t *testing.T, w *fake) {
					dir := w.killed(variants[name], d)
					w.acts, w.counts = nil, map[string]int{}
					journals := w.kill(again, dir)
					_, _ = bake.Reap(t.Context(), w, machine{w}, w, reaping(dir))
					if snapshot := journals(); snapshot != "" {
						w.cleaned(snapshot)
					} else {
						w.notKilled(again)
					}
				})
			})
		}
	}
}
