package bake_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// A variant is a set of publishing options of an image.
type variant func(*fake, *bake.Plan)

var variants = map[string]variant{
	"plain":    func(*fake, *bake.Plan) {},
	"replaced": replaced,
	// The restored image fails the first time that it is registered again.
	"failing restore": func(w *fake, p *bake.Plan) {
		replaced(w, p)
		w.failingRestores = 1
	},
	// everywhere is a build for two regions, with images to replace in both.
	"everywhere": inTwoRegions,
	// passing is a build with only an encrypted copy in the build's own region.
	"passing": func(w *fake, p *bake.Plan) {
		replaced(w, p)
		w.publication = bake.Publication{Passing: true, Copies: []bake.Copy{{Region: home, Encrypted: true}}}
		w.users = true
	},
	// guarded images can be removed only by the builds that created them.
	"guarded": func(w *fake, p *bake.Plan) {
		replaced(w, p)
		w.publication = bake.Publication{Guarded: true, Copies: []bake.Copy{{Region: "there"}}}
		w.users = true
	},
	"locked": func(w *fake, _ *bake.Plan) { w.source.Locked = true },
	"direct": direct,
	// direct everywhere is a direct build for two regions, with images to replace in both.
	"direct everywhere": func(w *fake, p *bake.Plan) {
		direct(w, p)
		inTwoRegions(w, p)
	},
}

// inTwoRegions is the variant with an image to replace in each of two regions.
func inTwoRegions(w *fake, p *bake.Plan) {
	replaced(w, p)
	w.addImage("there", "ami-older", "golden", "snap-older")
	w.removed["ami-older"], w.removed["snap-older"] = true, true
	w.publication.Copies = []bake.Copy{{Region: "there", KMSKeyID: "key"}}
	w.users = true
}

// replaced is the variant with an image to replace, one of whose snapshots is in use elsewhere.
func replaced(w *fake, p *bake.Plan) {
	p.Replace, p.DeleteReplaced = true, true
	w.addImage(home, "ami-old", "golden", "snap-old", "snap-shared")
	w.addImage(home, "ami-other", "silver", "snap-shared")
	w.removed["ami-old"], w.removed["snap-old"] = true, true
}

// owner returns the image that a snapshot was copied for, or else the resource itself. Advice
// names a copy, and its snapshots with it.
func (w *fake) owner(thing string) string {
	for id, img := range w.images {
		if img.of != "" && slices.Contains(img.snapshots, bake.SnapshotID(thing)) {
			return string(id)
		}
	}
	return thing
}

// neverWithout checks that the old or the new image exists. If restoring failed, the snapshots
// of the old image must exist, and the error must name its deregistration.
func (w *fake) neverWithout(act string, err error) {
	w.t.Helper()
	has := w.names("golden")
	for region, old := range map[string]string{home: "old", "there": "older"} {
		if !w.existed("ami-"+old) || has[region] != "" {
			continue
		}
		if w.snapshots[bake.SnapshotID("snap-"+old)] == nil {
			w.t.Errorf("after %s failed, nothing is left of %s", act, old)
		}
		if !strings.Contains(err.Error(), "deregistration of image ami-"+old+" in "+region) {
			w.t.Errorf("after %s failed, nobody has an image in %s, and the error does not say so: %v", act, region, err)
		}
		if !strings.Contains(act, "restore") && !strings.Contains(act, "name") && !strings.Contains(act, "look at image") {
			w.t.Errorf("after %s failed, there is neither the old image nor the new one in %s: %q", act, region, w.events)
		}
	}
}

const (
	untilSnapshot = untilFlush + ", snapshot, ~attach, ~volume, "
	released      = ", ~reserve /dev/sdf"
)

// TestPublishingInOrder checks the acts in the build's own region, from the snapshot on, and in the
// other region.
func TestPublishingInOrder(t *testing.T) {
	fails := func(act string) func(*fake, *bake.Plan) {
		return func(w *fake, _ *bake.Plan) { w.faults[act] = fault{err: errInjected} }
	}
	lost := func(act string) func(*fake, *bake.Plan) {
		return func(w *fake, _ *bake.Plan) { w.faults[act] = fault{err: errInjected, effect: true} }
	}
	tests := []struct {
		name, variant string
		setUp         func(*fake, *bake.Plan)
		home, there   string
		ok            bool
	}{
		{name: "replaced", variant: "replaced", ok: true, home: "~image ami-old, image, ~reserve /dev/sdf, ~snapshot snap-old"},
		{name: "replaced, its snapshots kept", variant: "replaced", ok: true, setUp: func(w *fake, p *bake.Plan) { p.DeleteReplaced, w.removed["snap-old"] = false, false },
			home: "~image ami-old, image, ~reserve /dev/sdf"},
		{name: "replaced, deregister: fail", variant: "replaced", setUp: fails("~image#1"), home: "~snapshot, ~reserve /dev/sdf"},
		{name: "replaced, deregister: answer lost", variant: "replaced", setUp: lost("~image#1"),
			home: "~image ami-old, restore ami-old, ~snapshot, ~reserve /dev/sdf"},
		{name: "replaced, register: fail", variant: "replaced", setUp: fails("image#1"),
			home: "~image ami-old, restore ami-old, ~snapshot, ~reserve /dev/sdf"},
		{name: "replaced, register: answer lost", variant: "replaced", setUp: lost("image#1"),
			home: "~image ami-old, image, ~image, restore ami-old, ~snapshot, ~reserve /dev/sdf"},
		{name: "replaced, publish: fail", variant: "replaced", setUp: fails("publish#1"),
			home: "~image ami-old, image, ~image, restore ami-old, ~snapshot, ~reserve /dev/sdf"},
		{name: "replaced, an old snapshot is not deleted", variant: "replaced", ok: true, setUp: fails("~snapshot#1"),
			home: "~image ami-old, image, ~reserve /dev/sdf"},
		{name: "everywhere", variant: "everywhere", ok: true,
			home: "~image ami-old, image, publish, ~reserve /dev/sdf, ~snapshot snap-old", there: "~image ami-older, copy, publish, ~snapshot snap-older"},
		{name: "everywhere, copy: fail", variant: "everywhere", setUp: fails("there: copy#1"),
			home: "~image ami-old, image, ~image, restore ami-old, ~snapshot, ~reserve /dev/sdf", there: "~image ami-older, restore ami-older"},
		{name: "everywhere, copy: answer lost", variant: "everywhere", setUp: lost("there: copy#1"),
			home:  "~image ami-old, image, ~image, restore ami-old, ~snapshot, ~reserve /dev/sdf",
			there: "~image ami-older, copy, ~image, ~snapshot, ~snapshot, restore ami-older"},
		{name: "everywhere, publish there: fail", variant: "everywhere", setUp: fails("there: publish#1"),
			home:  "~image ami-old, image, publish, ~image, restore ami-old, ~snapshot, ~reserve /dev/sdf",
			there: "~image ami-older, copy, ~image, ~snapshot, ~snapshot, restore ami-older"},
		{name: "everywhere, publish here: fail", variant: "everywhere", setUp: fails("publish#1"),
			home:  "~image ami-old, image, ~image, restore ami-old, ~snapshot, ~reserve /dev/sdf",
			there: "~image ami-older, copy, publish, ~image, ~snapshot, ~snapshot, restore ami-older"},
		{name: "everywhere, the copy cannot be removed", variant: "everywhere",
			setUp: func(w *fake, p *bake.Plan) { fails("there: publish#1")(w, p); fails("there: ~image#2")(w, p) },
			home:  "~image ami-old, image, publish, ~image, restore ami-old, ~snapshot, ~reserve /dev/sdf",
			there: "~image ami-older, copy"},
		{name: "passing", variant: "passing", ok: true,
			home: "image, ~image ami-old, copy, publish, ~image, ~snapshot, ~reserve /dev/sdf, ~snapshot snap-old"},
		{name: "passing, publish: fail", variant: "passing", setUp: fails("publish#1"),
			home: "image, ~image ami-old, copy, ~image, ~snapshot, ~snapshot, restore ami-old, ~image, ~snapshot, ~reserve /dev/sdf"},
		{name: "passing, the image cannot be removed", variant: "passing", ok: true, setUp: fails("~image#2"),
			home: "image, ~image ami-old, copy, publish, ~snapshot snap-old"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
				variants[test.variant](w, &plan)
				if test.setUp != nil {
					test.setUp(w, &plan)
				}
				result, err := w.build(t.Context(), plan)
				if (err == nil) != test.ok {
					t.Errorf("the build ended with %v", err)
				}
				w.happenedBy(test.home, test.there)
				if len(w.faults) < 2 {
					w.checkResult(result, err)
				}
			})
		})
	}
}

// TestRestoredImageLacksSharing checks that an incomplete restored image is reported, and that
// the other acts are undone.
func TestRestoredImageLacksSharing(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		replaced(w, &plan)
		w.faults["image#1"] = fault{act: "image#1", err: errInjected}
		w.regainErr = errors.New("it cannot be shared")
		if _, err := w.build(t.Context(), plan); !errors.Is(err, errInjected) || strings.Contains(err.Error(), "cannot undo") {
			t.Errorf("the build ended with %v", err)
		}
		w.happenedBy("~image ami-old, restore ami-old, ~snapshot, ~reserve /dev/sdf", "")
		if !slices.ContainsFunc(w.reports, func(line string) bool {
			return strings.HasPrefix(line, "warn: ") && strings.Contains(line, "ami-old-again") && strings.Contains(line, "it cannot be shared")
		}) {
			t.Errorf("no warning among %q", w.reports)
		}
	})
}

// TestFailedRestoreIsRetried checks that if the cloud fails to create a restored image, it is
// removed and registered again, up to three times at once and three times at the end.
func TestFailedRestoreIsRetried(t *testing.T) {
	failures := func(first, last int) string {
		var events []string
		for n := first; n <= last; n++ {
			events = append(events, "restore ami-old", "~image ami-old"+strings.Repeat(again, n))
		}
		return strings.Join(events, ", ")
	}
	for _, test := range []struct {
		unfit int
		back  bool
		want  string
	}{
		{1, true, failures(1, 1) + ", restore ami-old, ~snapshot, ~reserve /dev/sdf"},
		{6, false, failures(1, 3) + ", ~reserve /dev/sdf, " + failures(4, 6)},
	} {
		t.Run(strconv.Itoa(test.unfit), func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
				replaced(w, &plan)
				w.faults["image#1"] = fault{act: "image#1", err: errInjected}
				w.failingRestores = test.unfit
				_, err := w.build(t.Context(), plan)
				if err == nil || strings.Contains(err.Error(), "no capacity for a restore") == test.back || strings.Contains(err.Error(), "snap-old") == test.back {
					t.Errorf("the build ended with %v", err)
				}
				w.happenedBy("~image ami-old, "+test.want, "")
			})
		})
	}
}

// TestImageRemovedBeforeReplacement checks that an image that another build has replaced in
// the meantime is not replaced.
func TestImageRemovedBeforeReplacement(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		replaced(w, &plan)
		w.removed["snap-old"] = false // the build that has replaced it removes it
		w.faults["record#1"] = fault{err: fmt.Errorf("image ami-old: %w", bake.ErrNotFound), cancel: func() { delete(w.images, "ami-old") }}
		result, err := w.build(t.Context(), plan)
		if err != nil {
			t.Errorf("the build ended with %v", err)
		}
		w.happenedBy("image, ~reserve /dev/sdf", "")
		w.checkResult(result, err)
	})
}

// happenedBy compares the events since the snapshot, by region: the regions are side
// by side.
func (w *fake) happenedBy(atHome, there string) {
	w.t.Helper()
	var events, abroad []string
	for _, event := range w.events {
		if e, ok := strings.CutPrefix(event, "there: "); ok {
			abroad = append(abroad, e)
		} else {
			events = append(events, event)
		}
	}
	if got := strings.TrimPrefix(strings.Join(events, ", "), untilSnapshot); got != atHome {
		w.t.Errorf("happened in the own region:\n %s\nwant:\n %s", got, atHome)
	}
	if got := strings.Join(abroad, ", "); got != there {
		w.t.Errorf("happened in the other region:\n %s\nwant:\n %s", got, there)
	}
}

// TestLockedSourceIsCopied checks that the volume is created from the copy, that templates
// still refer to the user's source, and that the copy is deleted except for the snapshots that
// the image uses.
func TestLockedSourceIsCopied(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		variants["locked"](w, &plan)
		w.source.Root.Snapshot = ""
		tags := map[string]string{"of": "snapshot"}
		plan.Labels = func(facts bake.Facts) (bake.Labels, error) {
			return bake.Labels{ImageDescription: "of " + string(facts.Source.ID), SnapshotTags: tags}, nil
		}
		result, err := w.build(t.Context(), plan)
		if err != nil {
			t.Fatal(err)
		}
		w.checkResult(result, err)
		want := []bake.CopySpec{{Build: "build-1", Source: "ami-source", SourceRegion: home, Name: "packer-chroot-source-build-1", SnapshotTags: tags}}
		if diff := cmp.Diff(want, w.copySpecs); diff != "" {
			t.Errorf("copied (-want +got):\n%s", diff)
		}
		if w.volSpec.Snapshot != "snap-unlocked" || result.Source.ID != "ami-source" || w.imageSpec.Description != "of ami-source" {
			t.Errorf("volume of %s, source %s, image %q", w.volSpec.Snapshot, result.Source.ID, w.imageSpec.Description)
		}
		if got, want := strings.Join(w.events, ", "), "copy, "+whole[:len(whole)-len(released)]+", ~reserve /dev/sdf, ~image, ~snapshot"; got != want {
			t.Errorf("happened:\n %s\nwant:\n %s", got, want)
		}
	})
}

func TestRequestsOfPublishing(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		variants["everywhere"](w, &plan)
		result, err := w.build(t.Context(), plan)
		if err != nil {
			t.Fatal(err)
		}
		copies := []bake.CopySpec{{
			Build: "build-1", Source: "ami-1", SourceRegion: home, Name: "golden", Description: "image made from ami-source",
			ImageTags: map[string]string{"of": "image"}, SnapshotTags: map[string]string{"of": "snapshot"}, KMSKeyID: "key",
		}}
		published := []bake.PublishSpec{
			{Image: "ami-1", Snapshots: []bake.SnapshotID{"snap-1"}},
			{Image: "ami-there", Snapshots: []bake.SnapshotID{"snap-there", "snap-data-there"}},
		}
		slices.SortFunc(w.published, func(a, b bake.PublishSpec) int { return strings.Compare(string(a.Image), string(b.Image)) })
		for what, d := range map[string]string{
			"copies":    cmp.Diff(copies, w.copySpecs),
			"published": cmp.Diff(published, w.published),
			"products":  cmp.Diff(w.products(), result.Products),
		} {
			if d != "" {
				t.Errorf("%s (-want +got):\n%s", what, d)
			}
		}
	})
}

// TestCopiesAreSideBySide checks that copies run in parallel: two copies of a minute each take
// a minute.
func TestCopiesAreSideBySide(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.publication.Copies = []bake.Copy{{Region: "there"}, {Region: "third"}}
		begun := time.Now()
		result, err := w.build(t.Context(), w.plan())
		w.checkResult(result, err)
		if took := time.Since(begun); took > 2*time.Minute-w.snapshotTakes/2 {
			t.Errorf("the build took %s", took)
		}
	})
}

// TestTemporaryImageHasItsOwnName checks that the temporary image has a name of its own, so
// that it and its copy can be in one region.
func TestTemporaryImageHasItsOwnName(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		variants["passing"](w, &plan)
		if _, err := w.build(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		if got := w.imageSpec.Name; got != "packer-chroot-build-1" {
			t.Errorf("the image to be copied was named %q", got)
		}
		if got := w.names("golden"); got[home] != "ami-here" {
			t.Errorf("images named golden: %v", got)
		}
	})
}

// TestImageNameInUse checks that a name that is in use is reported before anything is created,
// in every region.
func TestImageNameInUse(t *testing.T) {
	tests := []struct {
		name  string
		setUp func(*fake, *bake.Plan)
		says  []string // empty if the build succeeds
	}{
		{"here", func(w *fake, _ *bake.Plan) { w.addImage(home, "ami-old", "golden", "snap-old") },
			[]string{`"golden"`, "ami-old", "region here", "force_deregister"}},
		{"there", func(w *fake, _ *bake.Plan) {
			w.addImage("there", "ami-old", "golden", "snap-old")
			w.publication.Copies = []bake.Copy{{Region: "there"}}
		}, []string{`"golden"`, "ami-old", "region there", "force_deregister"}},
		{"here, where the image does not stay", func(w *fake, _ *bake.Plan) {
			w.addImage(home, "ami-old", "golden", "snap-old")
			w.publication = bake.Publication{Passing: true, Copies: []bake.Copy{{Region: "there"}}}
		}, nil},
		{"another name", func(w *fake, _ *bake.Plan) { w.addImage(home, "ami-old", "gold", "snap-old") }, nil},
		{"here, by what cannot be replaced", func(w *fake, p *bake.Plan) {
			replaced(w, p)
			w.faults["record#1"] = fault{err: errors.New("it is protected")}
		}, []string{"force_deregister", "ami-old", "region here", "it is protected"}},
		{"nothing: no such publication", func(w *fake, _ *bake.Plan) {
			w.faults["publication#1"] = fault{err: errors.New("no region of that name")}
		}, []string{"no region of that name"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
				test.setUp(w, &plan)
				result, err := w.build(t.Context(), plan)
				w.checkResult(result, err)
				if (err == nil) != (test.says == nil) {
					t.Fatalf("the build ended with %v", err)
				}
				if err != nil && len(w.events) > 0 {
					t.Errorf("before it was told, happened %q", w.events)
				}
				for _, part := range test.says {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("error %q does not say %q", err, part)
					}
				}
			})
		})
	}
}

// TestKeepOnErrorPrintsRemovalAdviceForProducts has copies, regions and replaced images.
func TestKeepOnErrorPrintsRemovalAdviceForProducts(t *testing.T) {
	old := `register "golden" in here again, as ami-old was, of snapshot snap-old and snapshot snap-shared; `
	older := `register "golden" in there again, as ami-older was, of snapshot snap-older; `
	for act, want := range map[string]string{
		"there: copy#1":          older + removeImage + old + removeSnapshot,
		"there: look at image#6": "deregister image ami-there in there and delete the snapshots made for it; " + older + removeImage + old + removeSnapshot,
		"there: publish#1":       "deregister image ami-there in there; delete snapshot snap-there and snapshot snap-data-there in there; " + older + removeImage + old + removeSnapshot,
		"image#1":                old + removeSnapshot,
	} {
		t.Run(act, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
				variants["everywhere"](w, &plan)
				plan.KeepOnError = func(error) bool { return true }
				w.faults[act] = fault{err: errInjected}
				if _, err := w.build(t.Context(), plan); !errors.Is(err, errInjected) {
					t.Fatal(err)
				}
				if line := remove + want; !slices.Contains(w.reports, line) {
					t.Errorf("told %q, want %q", w.reports, line)
				}
			})
		})
	}
}

// TestDestroy deletes products in every region, repeatedly, and nothing else.
func TestDestroy(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.addImage(home, "ami-other", "silver", "snap-other")
		w.publication.Copies = []bake.Copy{{Region: "there"}}
		result, err := w.build(t.Context(), w.plan())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for _, p := range result.Products {
				if err := bake.Destroy(t.Context(), w, p); err != nil {
					t.Error(err)
				}
			}
		}
		if left := w.left(); !slices.Equal(left, w.before) {
			t.Errorf("left %q, want %q", left, w.before)
		}
	})
}

// TestDestroyAdditionalSnapshots checks that the snapshots of additional devices that were
// copied for the image are deleted with it, unless another image uses them.
func TestDestroyAdditionalSnapshots(t *testing.T) {
	for name, shared := range map[string]bool{"alone": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				w.source.Locked = true
				result, err := w.build(t.Context(), w.plan())
				if err != nil {
					t.Fatal(err)
				}
				want := w.before
				if shared {
					w.images["ami-later"] = &fakeImage{region: home, name: "later", snapshots: []bake.SnapshotID{furtherDevice}, takes: time.Second}
					want = []string{"ami-later", furtherDevice}
				}
				for _, p := range result.Products {
					if err := bake.Destroy(t.Context(), w, p); err != nil {
						t.Error(err)
					}
				}
				if left := w.left(); !slices.Equal(left, want) {
					t.Errorf("left %q, want %q", left, want)
				}
			})
		})
	}
}

// TestSharedSnapshotsOfACopyStay checks that snapshots that a copy shares with its source are
// not treated as the build's own.
func TestSharedSnapshotsOfACopyStay(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.source.Locked, w.shares = true, true
		result, err := w.build(t.Context(), w.plan())
		if err != nil {
			t.Fatal(err)
		}
		if got := result.Products[0].Snapshots; !slices.Equal(got, []bake.SnapshotID{"snap-1"}) {
			t.Errorf("made were %v", got)
		}
		if w.snapshots[furtherDevice] == nil {
			t.Error("the source's snapshot is gone")
		}
	})
}

// TestDestroyTriesEverySnapshot checks that a snapshot that cannot be deleted does not prevent
// the deletion of the others.
func TestDestroyTriesEverySnapshot(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.addImage(home, "ami-9", "golden", "snap-8", "snap-9")
		w.snapshots["snap-1"] = &fakeSnapshot{born: time.Now().Add(-time.Hour)}
		w.faults["~snapshot#1"] = fault{err: errInjected}
		err := bake.Destroy(context.Background(), w, bake.Product{Region: home, Image: "ami-9", Snapshots: []bake.SnapshotID{"snap-8", "snap-9"}})
		if !errors.Is(err, errInjected) || w.snapshots["snap-9"] != nil || w.snapshots["snap-8"] == nil {
			t.Errorf("error %v, left %q", err, w.left())
		}
	})
}

// TestCopiesThatTakeLong checks that a copy may take many times as long as its wait may go
// without progress, and that its progress is reported in steps.
func TestCopiesThatTakeLong(t *testing.T) {
	for name, test := range map[string]struct {
		setUp func(*fake)
		ok    bool
	}{
		"getting on":                             {func(*fake) {}, true},
		"snapshots that the image does not list": {func(w *fake) { w.hidesSnapshots = true }, true},
		"snapshots that cannot be found once": {func(w *fake) {
			w.hidesSnapshots, w.faults["there: find copied#2"] = true, fault{err: errInjected}
		}, true},
		"progress that cannot be read once": {func(w *fake) {
			w.faults["there: look at progress#3"] = fault{err: errInjected}
		}, true},
		"not getting on": {func(w *fake) { w.stalled = true }, false},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
				w.publication.Copies = []bake.Copy{{Region: "there"}}
				w.copyTakes = 10 * time.Hour
				plan.Waits.Copy.Limit = time.Hour
				test.setUp(w)
				heard := progress{of: "image ami-there"}
				_, err := w.build(event.Listen(t.Context(), &heard), plan)
				if (err == nil) != test.ok {
					t.Fatalf("the build ended with %v", err)
				}
				if err != nil && !strings.Contains(err.Error(), "gave up on image ami-there, a copy of ami-1 after 1h") {
					t.Errorf("error %v", err)
				}
				told := heard.percents
				if test.ok && (len(told) < 10 || len(told) > 100 || !slices.Contains(told, 50)) {
					t.Errorf("reported %v", told)
				}
			})
		})
	}
}

// TestPendingCopyIsUndone checks that a pending copy that does not list its snapshots is
// removed with them, without waiting for the copy.
func TestPendingCopyIsUndone(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		ctx, cancel := context.WithCancel(t.Context())
		plan := w.plan()
		w.publication.Copies = []bake.Copy{{Region: "there"}}
		w.hidesSnapshots, w.copyTakes = true, 10*time.Hour
		time.AfterFunc(time.Hour, cancel)
		begun := time.Now()
		result, err := w.build(ctx, plan)
		w.checkResult(result, err)
		if err == nil || time.Since(begun) > 2*time.Hour {
			t.Errorf("the build ended after %s with %v", time.Since(begun), err)
		}
	})
}
