package bake_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

const (
	directUntilMount = "start, open disk, settle, shell mkfs /dev/loop7, settle"
	directUntilLeave = directUntilMount + ", mount, shell ls /mnt/root, mount /proc, mount /dev, copy /etc/resolv.conf, provision"
	directUntilTake  = directUntilLeave + ", put back, ~mount, flush"
	undoDirect       = ", ~snapshot, ~mount, ~open disk"
)

// TestDirectInOrder checks which acts of a direct build happen, in their order, after a set-up.
func TestDirectInOrder(t *testing.T) {
	fail := func(act string) func(*fake, *bake.Plan) {
		return func(w *fake, _ *bake.Plan) { w.faults[act] = fault{act: act, err: errInjected} }
	}
	halfway := func(act string) func(*fake, *bake.Plan) {
		return func(w *fake, _ *bake.Plan) { w.faults[act] = fault{act: act, err: errInjected, effect: true} }
	}
	tests := []struct {
		name   string
		setUp  func(*fake, *bake.Plan)
		events string
		ok     bool
	}{
		{name: "all goes well", setUp: func(*fake, *bake.Plan) {}, ok: true, events: directUntilTake + ", upload, ~open disk, image, unmark"},
		{name: "place: fail", setUp: fail("place#1")},
		{name: "the host lacks something", setUp: fail("check direct#1")},
		{name: "basis: fail", setUp: fail("basis#1")},
		{name: "start: fail", setUp: fail("start#1")},
		{name: "start: answer lost", setUp: halfway("start#1"), events: "start, ~snapshot"},
		{name: "blocks: fail", setUp: fail("blocks#1"), events: "start, ~snapshot"},
		{name: "open disk: fail", setUp: fail("open disk#1"), events: "start, ~snapshot"},
		{name: "open disk: the keeper is lost", setUp: func(w *fake, _ *bake.Plan) {
			w.faults["open disk#1"] = fault{act: "open disk#1", err: chroot.ErrKeeperLost, effect: true}
		}, events: "start, open disk, ~snapshot, ~open disk"},
		{name: "provision: fail", setUp: fail("provision#1"), events: strings.TrimSuffix(directUntilLeave, ", provision") + undoDirect},
		{name: "not written, and undone", setUp: func(w *fake, p *bake.Plan) {
			fail("provision#1")(w, p)
			w.faults["~mount#1"] = fault{act: "~mount#1", err: chroot.ErrNotWritten, effect: true}
		}, events: strings.TrimSuffix(directUntilLeave, ", provision") + undoDirect},
		{name: "detach: fail", setUp: fail("detach disk#1"), events: directUntilTake + ", ~snapshot, ~open disk"},
		{name: "upload: fail", setUp: fail("upload#1"), events: directUntilTake + ", ~snapshot, ~open disk"},
		{name: "upload: answer lost", setUp: halfway("upload#1"), events: directUntilTake + ", upload, ~snapshot, ~open disk"},
		{name: "the disk is not closed at first", setUp: fail("~open disk#1"), ok: true, events: directUntilTake + ", upload, image, ~open disk, unmark"},
		{name: "unmark: fail", setUp: fail("unmark#1"), ok: true, events: directUntilTake + ", upload, ~open disk, image"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
				direct(w, &plan)
				test.setUp(w, &plan)
				result, err := w.build(t.Context(), plan)
				if (err == nil) != test.ok {
					t.Errorf("the build ended with %v", err)
				}
				if got := strings.Join(w.events, ", "); got != test.events {
					t.Errorf("happened:\n %s\nwant:\n %s", got, test.events)
				}
				w.checkResult(result, err)
			})
		})
	}
}

// TestDirectNeedsNoVirtualMachine checks that a direct build asks neither for its host nor for device names, and
// requests the snapshot with the parent that the cloud has chosen.
func TestDirectNeedsNoVirtualMachine(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		direct(w, &plan)
		if _, err := w.build(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		for _, act := range w.acts {
			if name, _, _ := strings.Cut(act, "#"); slices.Contains([]string{"host", "volume", "check lock dir", "reserve", "attach", "find"}, name) {
				t.Errorf("%s happened", act)
			}
		}
		want := bake.StartSpec{
			Build: "build-1", SizeGiB: 8, Parent: "snap-source", Description: "made from ami-source", Tags: map[string]string{"of": "snapshot"},
		}
		if diff := cmp.Diff(want, w.startSpec); diff != "" {
			t.Errorf("the snapshot (-want +got):\n%s", diff)
		}
		if w.snapshots["snap-1"].build != "" {
			t.Error("the snapshot of a successful build carries its tag")
		}
	})
}

// TestDirectTraffic checks the report of a direct build about fetched, cached and uploaded blocks.
func TestDirectTraffic(t *testing.T) {
	const noCache = "warn: blocks were not cached for later builds: no space"
	for cacheError, warned := range map[string]bool{"": false, "no space": true} {
		in(t, func(t *testing.T, w *fake) {
			plan := w.plan()
			direct(w, &plan)
			plan.Provision = func(context.Context, bake.Workplace) error {
				w.direct.cacheError = cacheError
				return nil
			}
			if _, err := w.build(t.Context(), plan); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{
				"detail: fetched 6.0 MiB (12 blocks; 7 others came from the block cache); the system read 5.0 MiB and wrote 1.5 MiB",
				"detail: uploaded 0.5 MiB (1 of 1 written blocks) in ",
			} {
				if !slices.ContainsFunc(w.reports, func(line string) bool { return strings.HasPrefix(line, want) }) {
					t.Errorf("%q is not in %q", want, w.reports)
				}
			}
			if slices.Contains(w.reports, noCache) != warned {
				t.Errorf("with the cache error %q: %q", cacheError, w.reports)
			}
		})
	}
}

// TestDirectDiskFails checks that a disk that fails during provisioning ends the build, and the error has the
// reason, even if the provisioner reports another.
func TestDirectDiskFails(t *testing.T) {
	broken := errors.New("cannot read block 7")
	for name, provision := range map[string]func(ctx context.Context) error{
		"the provisioner waits":         func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) },
		"the provisioner fails first":   func(context.Context) error { return errors.New("exit status 1") },
		"the provisioner does not care": func(context.Context) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
				direct(w, &plan)
				plan.Provision = func(ctx context.Context, _ bake.Workplace) error {
					w.direct.fail(broken)
					return provision(ctx)
				}
				result, err := w.build(t.Context(), plan)
				if !errors.Is(err, broken) || strings.Count(fmt.Sprint(err), broken.Error()) != 1 {
					t.Errorf("error %v", err)
				}
				w.checkResult(result, err)
			})
		})
	}
}

// TestDirectIsNotKeptOnError checks that nothing of a direct build stays after its process, and the build reports that.
func TestDirectIsNotKeptOnError(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		direct(w, &plan)
		plan.KeepOnError = func(error) bool { return true }
		w.faults["provision#1"] = fault{err: errInjected}
		result, err := w.build(t.Context(), plan)
		w.checkResult(result, err)
		if w.stays || !slices.ContainsFunc(w.reports, func(line string) bool { return strings.Contains(line, "everything is undone all the same") }) {
			t.Errorf("mounts stay: %v; told %q", w.stays, w.reports)
		}
	})
}

// TestDirectWithoutBlockStore checks that a cloud without a BlockStore refuses a direct build.
func TestDirectWithoutBlockStore(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		direct(w, &plan)
		_, err := bake.Build(t.Context(), struct{ bake.Cloud }{w}, machine{w}, plan, w)
		if err == nil || !strings.Contains(err.Error(), "block by block") || len(w.events) > 0 {
			t.Errorf("error %v after %q", err, w.events)
		}
	})
}

// copied is the variant for a direct build whose source must be copied first, and the copy kept.
func copied(w *fake, p *bake.Plan) {
	direct(w, p)
	w.basis = bake.Basis{Copy: &bake.SourceCopy{Keep: true, Tags: map[string]string{"copy-of": "ami-source"}}}
}

// TestDirectCopiesItsSource checks that a copy is made once, read and used as the parent, and stays, also if the
// build fails after it.
func TestDirectCopiesItsSource(t *testing.T) {
	for name, test := range map[string]struct {
		keep  bool
		fails string
		left  []string
	}{
		"kept":             {keep: true, left: []string{"ami-1", "ami-unlocked", "snap-1", "snap-data-unlocked", "snap-unlocked"}},
		"kept after all":   {keep: true, fails: "provision#1", left: []string{"ami-unlocked", "snap-data-unlocked", "snap-unlocked"}},
		"removed":          {left: []string{"ami-1", "snap-1"}},
		"the copy fails":   {keep: true, fails: "copy#1"},
		"not seen to come": {keep: true, fails: "look at image#1"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
				copied(w, &plan)
				w.basis.Copy.Keep = test.keep
				if test.fails != "" {
					w.faults[test.fails] = fault{err: errInjected}
				}
				_, err := w.build(t.Context(), plan)
				if (err != nil) != (test.fails != "") {
					t.Errorf("the build ended with %v", err)
				}
				if diff := cmp.Diff(test.left, w.left(), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("left (-want +got):\n%s", diff)
				}
				if parent := bake.SnapshotID("snap-unlocked"); test.fails == "" && w.startSpec.Parent != parent {
					t.Errorf("the parent is %s, want %s", w.startSpec.Parent, parent)
				}
			})
		})
	}
}

// TestDirectReadsTheCopyOfALockedSource checks that a locked source is not copied again if a copy of it that was
// kept is read.
func TestDirectReadsTheCopyOfALockedSource(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		direct(w, &plan)
		variants["locked"](w, &plan)
		w.basis = bake.Basis{Read: "snap-kept", Parent: "snap-kept"}
		w.faults["start#1"] = fault{err: errInjected, effect: true} // the rest is as in every build
		_, err := w.build(t.Context(), plan)
		if !errors.Is(err, errInjected) || len(w.copySpecs) > 0 || w.startSpec.Parent != "snap-kept" {
			t.Errorf("the parent is %s, the copies are %+v, error %v", w.startSpec.Parent, w.copySpecs, err)
		}
	})
}

// TestDirectOldSnapshotsAreDeletedLater: if a build cannot delete the snapshots of replaced images, reap can, because
// the tag still shows that the new image is the build's. Then the tag is removed.
func TestDirectOldSnapshotsAreDeletedLater(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		dir := stateDir(t)
		plan := w.journaledPlan(dir)
		variants["replaced"](w, &plan)
		direct(w, &plan)
		w.faults["~snapshot#1"] = fault{err: errInjected}
		if _, err := w.build(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		if all, err := bake.Reap(t.Context(), w, machine{w}, w, reaping(dir)); err != nil || len(all) != 1 || all[0].Fate != bake.Removed {
			t.Errorf("%+v, %v", all, err)
		}
		if s := w.snapshots["snap-1"]; s == nil || s.build != "" || w.snapshots["snap-old"] != nil {
			t.Errorf("the snapshots are %+v", w.snapshots)
		}
	})
}

// TestDirectSharesAPendingCopy: a build uses the copy that another one is making, or makes its own if
// that one fails.
func TestDirectSharesAPendingCopy(t *testing.T) {
	for name, gone := range map[string]bool{"it becomes available": false, "it is gone": true} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
				copied(w, &plan)
				w.basis.Copy.Pending = "ami-theirs"
				if !gone {
					w.addImage(home, "ami-theirs", "theirs", "snap-theirs")
					w.images["ami-theirs"].born, w.images["ami-theirs"].takes = time.Now().Add(-time.Second), time.Minute
				}
				if _, err := w.build(t.Context(), plan); err != nil {
					t.Fatal(err)
				}
				want := bake.SnapshotID("snap-theirs")
				if gone {
					want = "snap-unlocked"
				}
				if w.startSpec.Parent != want || len(w.copySpecs) != map[bool]int{true: 1}[gone] {
					t.Errorf("the parent is %s, want %s; copies: %+v", w.startSpec.Parent, want, w.copySpecs)
				}
			})
		})
	}
}

// TestKilledWhileCopyingTheSource kills a build before and after each call until the copy is complete,
// and cleans up.
func TestKilledWhileCopyingTheSource(t *testing.T) {
	all := calls(t, copied)
	all = all[:slices.Index(all, "start#1")]
	for _, d := range killPoints(all) {
		t.Run(d.String(), func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				dir := w.killed(copied, d)
				if dir == "" {
					w.notKilled(d)
					return
				}
				kept := journalsSay(t, dir, `"kept"`)
				if _, err := bake.Reap(t.Context(), w, machine{w}, w, reaping(dir)); err != nil {
					t.Error(err)
				}
				if left := w.left(); len(left) > 0 && !kept {
					t.Errorf("left %q", left)
				}
			})
		})
	}
}

// TestReapWithoutMetadata checks that the remains of direct builds are removed on a machine without a metadata
// service.
func TestReapWithoutMetadata(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		dir := w.killed(direct, killPoint{act: "provision#1", keeper: true})
		w.counts = map[string]int{}
		all, err := bake.Reap(t.Context(), w, machine{w}, w, reaping(dir))
		if err != nil || len(all) != 1 || all[0].Fate != bake.Removed || w.counts["host"] > 0 {
			t.Errorf("%+v, %v, asked for the host: %d", all, err, w.counts["host"])
		}
		if left := w.left(); len(left) > 0 {
			t.Errorf("left %q", left)
		}
	})
}

// TestDirectJournalOfAnotherMachine checks that a journal of another machine is left.
func TestDirectJournalOfAnotherMachine(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		dir := w.killed(direct, killPoint{act: "provision#1", keeper: true})
		edit(t, dir, func(line string) string {
			return strings.Replace(line, `"host":"machine:`, `"host":"machine:another`, 1)
		})
		all, err := bake.Reap(t.Context(), w, machine{w}, w, reaping(dir))
		if err != nil || len(all) != 1 || all[0].Fate != bake.Elsewhere || !strings.Contains(all[0].Problem, "its host is") {
			t.Errorf("%+v, %v", all, err)
		}
		if paths, err := undo.Journals(dir); err != nil || len(paths) != 1 {
			t.Errorf("journals %v, %v", paths, err)
		}
	})
}
