package bake_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// in runs a test in a bubble with its own clock.
func in(t *testing.T, test func(t *testing.T, w *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newFake(t)) })
}

func (w *fake) build(ctx context.Context, plan bake.Plan) (bake.Result, error) {
	return bake.Build(ctx, w, machine{w}, plan, w)
}

const (
	whole = "volume, reserve /dev/sdf, attach /dev/sdf, find, settle, shell mkfs /dev/xvdf, settle, mount, shell ls /mnt/root, " +
		"mount /proc, mount /dev, copy /etc/resolv.conf, provision, put back, ~mount, flush, snapshot, ~attach, ~volume, image, ~reserve /dev/sdf"
	untilMount = "volume, reserve /dev/sdf, attach /dev/sdf, find, settle, shell mkfs /dev/xvdf, settle"
	untilLeave = untilMount + ", mount, shell ls /mnt/root, mount /proc, mount /dev, copy /etc/resolv.conf, provision"
	untilFlush = untilLeave + ", put back, ~mount, flush"
	undoAttach = ", ~attach, ~reserve /dev/sdf, ~volume"
)

// TestActsInOrder checks which acts happen, in their order, after a set-up.
func TestActsInOrder(t *testing.T) {
	fail := func(act string) func(*fake, *bake.Plan) {
		return func(w *fake, _ *bake.Plan) { w.faults[act] = fault{act: act, err: errInjected} }
	}
	halfway := func(act string) func(*fake, *bake.Plan) {
		return func(w *fake, _ *bake.Plan) { w.faults[act] = fault{act: act, err: errInjected, effect: true} }
	}
	housekeeping := func(_ *fake, p *bake.Plan) {
		p.BlockServices, p.CleanUploads = true, true
		p.PreUnmount = func(disk bake.Disk, mountPath string) ([]string, error) {
			return []string{"du " + mountPath, "lsblk " + string(disk.Name)}, nil
		}
	}
	const untilFinish = untilMount + ", mount, shell ls /mnt/root, mount /proc, mount /dev, copy /etc/resolv.conf, block services, provision, remove uploads"
	tests := []struct {
		name   string
		setUp  func(*fake, *bake.Plan)
		events string
		ok     bool
	}{
		{name: "housekeeping", setUp: housekeeping, ok: true,
			events: untilFinish + ", shell du /mnt/root, shell lsblk /dev/xvdf" + strings.TrimPrefix(whole, untilLeave)},
		{name: "pre-unmount command: fail", setUp: func(w *fake, p *bake.Plan) { housekeeping(w, p); fail("shell#3")(w, p) },
			events: untilFinish + ", ~mount" + undoAttach},
		{name: "remove uploads: fail", setUp: func(w *fake, p *bake.Plan) { housekeeping(w, p); fail("remove uploads#1")(w, p) },
			events: strings.TrimSuffix(untilFinish, ", remove uploads") + ", ~mount" + undoAttach},
		{name: "block services: fail", setUp: func(w *fake, p *bake.Plan) { housekeeping(w, p); fail("block services#1")(w, p) },
			events: strings.TrimSuffix(untilFinish, ", block services, provision, remove uploads") + ", ~mount" + undoAttach},
		{name: "all goes well", setUp: func(*fake, *bake.Plan) {}, events: whole, ok: true},
		{name: "host: fail", setUp: fail("host#1")},
		{name: "volume: fail", setUp: fail("volume#1")},
		{name: "volume: answer lost", setUp: halfway("volume#1"), events: "volume, ~volume"},
		{name: "reserve: the keeper is lost", setUp: func(w *fake, _ *bake.Plan) {
			w.faults["reserve#1"] = fault{act: "reserve#1", err: chroot.ErrKeeperLost, effect: true}
		}, events: "volume, reserve /dev/sdf, ~volume"},
		{name: "attach: fail", setUp: fail("attach#1"), events: "volume, reserve /dev/sdf, ~reserve /dev/sdf, ~volume"},
		{name: "attach: answer lost", setUp: halfway("attach#1"), events: "volume, reserve /dev/sdf, attach /dev/sdf" + undoAttach},
		{name: "mount: fail", setUp: fail("mount#1"), events: untilMount + undoAttach},
		{name: "mount: answer lost", setUp: halfway("mount#1"), events: untilMount + ", mount, ~mount" + undoAttach},
		{name: "provision: fail", setUp: fail("provision#1"), events: strings.TrimSuffix(untilLeave, ", provision") + ", ~mount" + undoAttach},
		{name: "unmount: not written", setUp: func(w *fake, _ *bake.Plan) {
			w.faults["~mount#1"] = fault{act: "~mount#1", err: chroot.ErrNotWritten, effect: true}
		}, events: untilLeave + ", put back, ~mount" + undoAttach},
		{name: "undoing of a mount: not written", setUp: func(w *fake, p *bake.Plan) {
			fail("provision#1")(w, p)
			w.faults["~mount#1"] = fault{act: "~mount#1", err: chroot.ErrNotWritten, effect: true}
		}, events: strings.TrimSuffix(untilLeave, ", provision") + ", ~mount" + undoAttach},
		{name: "unmount: fails once", setUp: fail("~mount#1"), events: untilLeave + ", put back, ~mount" + undoAttach},
		{name: "snapshot: fail", setUp: fail("snapshot#1"), events: untilFlush + undoAttach},
		{name: "snapshot: answer lost", setUp: halfway("snapshot#1"), events: untilFlush + ", snapshot, ~snapshot" + undoAttach},
		{name: "image: fail", setUp: fail("image#1"), events: untilFlush + ", snapshot, ~attach, ~volume, ~snapshot, ~reserve /dev/sdf"},
		{name: "image: answer lost", setUp: halfway("image#1"), events: untilFlush + ", snapshot, ~attach, ~volume, image, ~image, ~snapshot, ~reserve /dev/sdf"},
		{name: "detach: fails once", setUp: fail("~attach#1"), ok: true,
			events: untilFlush + ", snapshot, image, ~attach, ~reserve /dev/sdf, ~volume"},
		{name: "a name is taken", setUp: func(w *fake, _ *bake.Plan) { w.taken = []bake.DeviceName{"/dev/sdf"} }, ok: true,
			events: strings.NewReplacer("attach /dev/sdf", "reserve /dev/sdg, attach /dev/sdg", "xvdf", "xvdg", "~reserve /dev/sdf", "~reserve /dev/sdg, ~reserve /dev/sdf").Replace(whole)},
		{name: "the user's name is taken", setUp: func(w *fake, p *bake.Plan) { w.taken, p.Device = []bake.DeviceName{"/dev/sdh"}, "/dev/sdh" },
			events: "volume, reserve /dev/sdh, ~reserve /dev/sdh, ~volume"},
		{name: "every name is taken", setUp: func(w *fake, _ *bake.Plan) { w.taken = w.DeviceNames() },
			events: "volume, reserve /dev/sdf, reserve /dev/sdg, reserve /dev/sdh, ~reserve /dev/sdh, ~reserve /dev/sdg, ~reserve /dev/sdf, ~volume"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
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

// checkResult checks the resources that remain after a build: the products and nothing else
// after a success, nothing after a failure.
func (w *fake) checkResult(result bake.Result, err error) {
	w.t.Helper()
	left := w.left()
	if err != nil {
		if !slices.Equal(left, w.before) {
			w.t.Errorf("a failed build left %q of %q: %v\nhappened: %q", left, w.before, err, w.events)
		}
		return
	}
	if diff := cmp.Diff(w.products(), result.Products); diff != "" {
		w.t.Errorf("products (-want +got):\n%s", diff)
	}
	if want := w.after(); len(result.Leftovers) == 0 && !slices.Equal(left, want) {
		w.t.Errorf("a build left %q, want %q", left, want)
	}
}

// products returns the expected results of a build that succeeds.
func (w *fake) products() (products []bake.Product) {
	if !w.publication.Passing {
		snapshots := []bake.SnapshotID{"snap-1"}
		if w.source.Locked {
			snapshots = append(snapshots, furtherDevice)
		}
		products = append(products, bake.Product{Region: home, Image: "ami-1", Snapshots: snapshots})
	}
	for _, c := range w.publication.Copies {
		products = append(products, bake.Product{
			Region: c.Region, Image: bake.ImageID("ami-" + c.Region),
			Snapshots: []bake.SnapshotID{bake.SnapshotID("snap-" + c.Region), bake.SnapshotID("snap-data-" + c.Region)},
		})
	}
	return products
}

// after returns what must exist after a success: the products and all previous resources
// except for replaced images and their snapshots.
func (w *fake) after() []string {
	after := slices.DeleteFunc(slices.Clone(w.before), func(id string) bool { return w.removed[id] })
	for _, p := range w.products() {
		after = append(after, string(p.Image))
		for _, s := range p.Snapshots {
			after = append(after, string(s))
		}
	}
	slices.Sort(after)
	return after
}

// acts returns every call of a build without failures, pauses included.
func acts(t *testing.T, v variant) []string {
	var all []string
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		v(w, &plan)
		result, err := w.build(t.Context(), plan)
		if err != nil {
			t.Fatal(err)
		}
		w.checkResult(result, err)
		all = w.acts
	})
	if len(all) < 40 {
		t.Fatalf("a build is made of more than %q", all)
	}
	return all
}

// TestEveryActFailsOnce makes every call of a build fail, each in its own build, in every way
// in which a call can fail.
func TestEveryActFailsOnce(t *testing.T) {
	ways := []struct {
		name  string
		fault func(cancel context.CancelFunc) fault
	}{
		{"fails", func(context.CancelFunc) fault { return fault{err: errInjected} }},
		{"fails after its effect", func(context.CancelFunc) fault { return fault{err: errInjected, effect: true} }},
		{"is cancelled", func(c context.CancelFunc) fault { return fault{err: context.Canceled, cancel: c} }},
		{"is cancelled after its effect", func(c context.CancelFunc) fault {
			return fault{err: context.Canceled, effect: true, cancel: c}
		}},
		{"succeeds and the build is cancelled", func(c context.CancelFunc) fault { return fault{effect: true, cancel: c} }},
	}
	for wanted, v := range variants {
		all := acts(t, v)
		for _, way := range ways {
			for _, act := range all {
				t.Run(fmt.Sprintf("%s, %s %s", wanted, act, way.name), func(t *testing.T) {
					in(t, func(t *testing.T, w *fake) {
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						f := way.fault(cancel)
						w.faults[act] = f
						plan := w.plan()
						v(w, &plan)
						result, err := w.build(ctx, plan)
						w.checkResult(result, err)
						if w.injected[act] {
							w.mustTell(act, f, result, err)
						}
					})
				})
			}
		}
	}
}

// mustTell checks the result of a build with a fault. Only acts after the image is safe may
// fail without failing the build.
func (w *fake) mustTell(act string, f fault, result bake.Result, err error) {
	w.t.Helper()
	name, _, _ := strings.Cut(act, "#")
	late := slices.Contains([]string{"~attach", "~volume", "look at volume", "~reserve", "~open disk"}, name) &&
		(slices.Contains(w.events, "snapshot") || slices.Contains(w.events, "upload"))
	// How far a copy is need not be known.
	late = late || strings.HasSuffix(name, "look at progress")
	// The scaffold, and the replaced resources, are removed in the end.
	late = late || w.safe[act]
	switch {
	case err == nil && !late:
		w.t.Errorf("%s went wrong, and the build succeeded", act)
	case err == nil && name == "~reserve" && f.err != nil && len(result.Leftovers) == 0:
		w.t.Error("a leftover is not told")
	case err != nil && f.err != nil && !errors.Is(err, f.err):
		w.t.Errorf("error %v does not wrap the cause", err)
	case err != nil && f.err == nil && !errors.Is(err, context.Canceled):
		w.t.Errorf("error %v does not say that the build was cancelled", err)
	}
}

// TestEveryUndoFails fails a build in which everything exists, and makes every call of its undo
// fail. The resources below that act stay, and the error names them.
func TestEveryUndoFails(t *testing.T) {
	for first, wanted := range map[string]string{
		"provision#1": "plain", "image#1": "replaced", "publish#1": "replaced", "there: copy#1": "everywhere", "there: publish#1": "everywhere",
		"publish#2": "passing", "look at image#12": "everywhere", "upload#1": "direct", "image#2": "direct",
	} {
		var all []string
		in(t, func(t *testing.T, w *fake) {
			w.faults[first] = fault{err: errInjected}
			plan := w.plan()
			variants[wanted](w, &plan)
			_, err := w.build(t.Context(), plan)
			if !w.injected[first] {
				return
			}
			w.checkResult(bake.Result{}, err)
			all = w.acts[slices.Index(w.acts, first)+1:]
		})
		for _, act := range all {
			if strings.Contains(act, "publish") {
				continue // it is beside the first failure, and no undoing
			}
			t.Run(first+" "+act, func(t *testing.T) {
				in(t, func(t *testing.T, w *fake) {
					w.faults[first] = fault{err: errInjected}
					w.faults[act] = fault{err: errors.New("the undoing failed")}
					plan := w.plan()
					variants[wanted](w, &plan)
					_, err := w.build(t.Context(), plan)
					if !w.injected[first] {
						return // intervals vary: this call came before the first failure
					}
					if !errors.Is(err, errInjected) {
						t.Errorf("error %v does not wrap what failed first", err)
					}
					for _, thing := range w.left() {
						if !w.existed(thing) && !strings.Contains(err.Error(), w.owner(thing)) {
							t.Errorf("%s is left, and the error does not name it: %v", thing, err)
						}
					}
					w.neverWithout(act, err)
					told := strings.Join(append(slices.Clone(w.reports), err.Error()), "\n") // a restored image that lacks something is a warning
					if w.injected[act] && !strings.Contains(told, "the undoing failed") {
						t.Errorf("the error hides that an undoing failed: %v", err)
					}
				})
			})
		}
	}
}

func TestFailureListsCauseAndUndoneActs(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.faults["provision#1"] = fault{err: errInjected}
		_, err := w.build(t.Context(), w.plan())
		want := "injected; undone: mount of /dev/xvdf1 on /mnt/root, attachment of vol-1 to i-1, reservation of /dev/sdf, volume vol-1"
		if err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	})
}

func TestKeepOnErrorIsAskedOnlyIfResourcesExist(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		plan.KeepOnError = func(error) bool {
			t.Error("asked whether to keep nothing")
			return true
		}
		w.faults["source#1"] = fault{err: errInjected}
		if _, err := w.build(t.Context(), plan); !errors.Is(err, errInjected) {
			t.Errorf("error %v", err)
		}
	})
}

func TestKeepOnErrorLeavesEverything(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		plan.KeepOnError = func(err error) bool { return errors.Is(err, errInjected) }
		w.faults["provision#1"] = fault{err: errInjected}
		_, err := w.build(t.Context(), plan)
		if want := []string{"/dev/sdf", "/mnt/root", "vol-1"}; !slices.Equal(w.left(), want) {
			t.Errorf("left %q, want %q", w.left(), want)
		}
		for _, part := range []string{"left as it is", "vol-1", "/mnt/root", "/dev/xvdf1"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("error %q does not name %s", err, part)
			}
		}
		if !w.stays {
			t.Error("the machine was not told that mounts stay")
		}
	})
}

// TestUnusableVolumeIsDeleted checks that a created volume that differs from the request is
// deleted by its id, and nothing is attached.
func TestUnusableVolumeIsDeleted(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.unwanted = true
		w.lag = time.Second
		result, err := w.build(t.Context(), w.plan())
		if !errors.Is(err, errInjected) || !strings.Contains(err.Error(), "undone: volume vol-1") {
			t.Errorf("the build ended with %v", err)
		}
		if got := strings.Join(w.events, ", "); got != "volume, ~volume" {
			t.Errorf("happened: %s", got)
		}
		if slices.ContainsFunc(w.acts, func(act string) bool { return strings.HasPrefix(act, "find volume") }) {
			t.Errorf("it was looked for: %q", w.acts)
		}
		w.checkResult(result, err)
	})
}

// TestMachineLostDuringProvisioning loses the machine while provisioners run: the build ends with
// the reason, and undoes its acts.
func TestMachineLostDuringProvisioning(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		gone := errors.New("the machine is gone")
		plan := w.plan()
		plan.Provision = func(ctx context.Context, _ bake.Workplace) error {
			w.stopMachine(gone)
			<-ctx.Done()
			return fmt.Errorf("provisioning was stopped: %w", context.Cause(ctx))
		}
		_, err := w.build(t.Context(), plan)
		if !errors.Is(err, gone) || w.stays {
			t.Errorf("error %v, and mounts stay: %v", err, w.stays)
		}
		if left := w.left(); len(left) > 0 {
			t.Errorf("left %q", left)
		}
	})
}

// The instructions for removing the resources of a build, by the act that created them.
const (
	remove           = "warn: To remove what is left, in this order: "
	removeVolume     = "delete volume vol-1"
	removeAttachment = "detach volume vol-1 from i-1 (/dev/sdf); "
	removeMount      = "run: sudo umount -R /mnt/root; "
	removeSnapshot   = "delete snapshot snap-1"
	removeImage      = "deregister image ami-1; "
)

// TestKeepOnErrorPrintsRemovalAdvice fails at several acts. The advice names the existing resources
// and no others.
func TestKeepOnErrorPrintsRemovalAdvice(t *testing.T) {
	look := "warn: To look at the root: sudo chroot /mnt/root /bin/sh"
	for act, want := range map[string][]string{
		"volume#1":        nil,
		"attach#1":        {remove + removeVolume},
		"mount#1":         {remove + removeAttachment + removeVolume},
		"provision#1":     {look, remove + removeMount + removeAttachment + removeVolume},
		"snapshot#1":      {remove + removeAttachment + removeVolume},
		"image#1":         {remove + removeSnapshot},
		"look at image#1": {remove + removeImage + removeSnapshot},
	} {
		t.Run(act, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
				plan.KeepOnError = func(error) bool { return true }
				w.faults[act] = fault{err: errInjected}
				_, err := w.build(t.Context(), plan)
				if !errors.Is(err, errInjected) {
					t.Fatal(err)
				}
				got := slices.DeleteFunc(w.reports, func(line string) bool { return !strings.HasPrefix(line, "warn: To ") })
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("told (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestKeepOnErrorMayDecline(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		plan.KeepOnError = func(error) bool { return false }
		w.faults["image#1"] = fault{err: errInjected}
		result, err := w.build(t.Context(), plan)
		w.checkResult(result, err)
	})
}

// TestStuckScaffoldKeepsImage has a volume that is never detached. The build succeeds
// nevertheless.
func TestStuckScaffoldKeepsImage(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.detachTakes = 1000 * time.Hour
		result, err := w.build(t.Context(), w.plan())
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"/dev/sdf", "ami-1", "snap-1", "vol-1"}; !slices.Equal(w.left(), want) {
			t.Errorf("left %q, want %q", w.left(), want)
		}
		if got := strings.Join(result.Leftovers, ", "); !strings.Contains(got, "attachment of vol-1") || !strings.Contains(got, "volume vol-1") {
			t.Errorf("leftovers %q", got)
		}
		if !slices.ContainsFunc(w.reports, func(line string) bool { return strings.HasPrefix(line, "warn: ") && strings.Contains(line, "vol-1") }) {
			t.Errorf("no warning among %q", w.reports)
		}
	})
}

// TestDetachDuringSnapshot lets both take 30 seconds, and the build must not wait for their sum.
func TestDetachDuringSnapshot(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.snapshotTakes, w.detachTakes = 30*time.Second, 30*time.Second
		begun := time.Now()
		if _, err := w.build(t.Context(), w.plan()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 50*time.Second {
			t.Errorf("the build took %s: detaching was not beside the snapshot", took)
		}
	})
}

// TestFirstLookupsRunInParallel checks that the first lookups run in parallel: each waits
// until all are requested, and none is cancelled.
func TestFirstLookupsRunInParallel(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.faults["host#1"] = fault{err: errInjected}
		begun := time.Now()
		if _, err := w.build(t.Context(), w.plan()); !errors.Is(err, errInjected) {
			t.Fatal(err)
		}
		for _, question := range []string{"host#1", "source#1", "name#1", "check file#1"} {
			if !slices.Contains(w.acts, question) {
				t.Errorf("%s was not asked", question)
			}
		}
		if took := time.Since(begun); took > 50*time.Millisecond {
			t.Errorf("four questions of 10 ms took %s", took)
		}
	})
}

func TestBadStatesFailTheBuild(t *testing.T) {
	tests := []struct {
		name  string
		setUp func(*fake)
		says  []string
	}{
		{"volume", func(w *fake) { w.volumeState = bake.VolumeError }, []string{"vol-1", "error"}},
		{"snapshot", func(w *fake) { w.snapshotState = bake.SnapshotError }, []string{"snap-1", "error", "internal error"}},
		{"image", func(w *fake) { w.imageState = bake.ImageFailed }, []string{"ami-1", "failed", "no capacity"}},
		{"volume never there", func(w *fake) { w.volumeState = bake.VolumeCreating }, []string{"gave up on volume vol-1", "10m", "creating"}},
		{"volume never seen", func(w *fake) { w.lag = time.Hour }, []string{"vol-1", "not found"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				test.setUp(w)
				_, err := w.build(t.Context(), w.plan())
				if err == nil {
					t.Fatal("the build succeeded")
				}
				for _, part := range test.says {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("error %q does not say %q", err, part)
					}
				}
				if left := w.left(); len(left) > 0 {
					t.Errorf("left: %v, by an error of %v", left, err)
				}
			})
		})
	}
}

// TestCancelledAtTheLastMoment cancels when the image exists and only the volume remains to be
// deleted. Packer would not report the image any more.
func TestCancelledAtTheLastMoment(t *testing.T) {
	for _, act := range []string{"~attach#1", "~volume#1"} {
		t.Run(act, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				w.detachTakes = time.Minute // the image is there before
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w.faults[act] = fault{cancel: cancel, effect: true}
				_, err := w.build(ctx, w.plan())
				if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "undone: image ami-1") && act == "~volume#1" {
					t.Errorf("error %v", err)
				}
				if left := w.left(); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
			})
		})
	}
}

// TestPendingSnapshotIsDeletedWhenItCanBe cancels a build under a cloud that does
// not delete pending snapshots.
func TestPendingSnapshotIsDeletedWhenItCanBe(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.keepsPending = true
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		result, err := w.build(ctx, w.plan())
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		w.checkResult(result, err)
	})
}

// progress is a listener for the progress of long waits for a resource.
type progress struct {
	of       string
	percents []int
}

// Hear implements event.Listener.
func (p *progress) Hear(e event.Event) {
	if w, ok := e.(event.Waiting); ok && strings.HasPrefix(w.What, p.of) {
		p.percents = append(p.percents, w.Percent)
	}
}

// TestSnapshotProgressIsReported checks that each tenth is reported, if it takes long enough to be
// seen.
func TestSnapshotProgressIsReported(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.snapshotTakes = 10 * time.Minute
		heard := progress{of: "snapshot snap-1"}
		if _, err := w.build(event.Listen(t.Context(), &heard), w.plan()); err != nil {
			t.Fatal(err)
		}
		for tenth := 1; tenth < 10; tenth++ {
			if !slices.ContainsFunc(heard.percents, func(percent int) bool { return percent/10 == tenth }) {
				t.Errorf("reported %v, without %d0%%", heard.percents, tenth)
			}
		}
		if len(heard.percents) > 20 || !slices.IsSorted(heard.percents) {
			t.Errorf("reported %v", heard.percents)
		}
	})
}

func TestRequestsOfABuild(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		plan.Partition, plan.NVMePath = "2", "/dev/nvme1n1p"
		result, err := w.build(t.Context(), plan)
		if err != nil {
			t.Fatal(err)
		}
		want := []any{
			bake.VolumeSpec{Build: "build-1", Zone: "here-a", Snapshot: "snap-source", SizeGiB: 8, Type: "gp3", IOPS: 3000, Tags: map[string]string{"of": "volume"}},
			bake.SnapshotSpec{Build: "build-1", Volume: "vol-1", Description: "made from ami-source", Tags: map[string]string{"of": "snapshot"}},
			bake.ImageSpec{
				Build: "build-1", Name: "golden", Description: "image made from ami-source", Tags: map[string]string{"of": "image"},
				Snapshot: "snap-1", Source: &w.source, SizeGiB: 8, VolumeType: "gp3", IOPS: 3000,
			},
			chroot.MountSpec{Device: "/dev/xvdf1", Type: "ext4", Path: "/mnt/root", Options: []string{"noatime"}},
			disk.Query{Volume: "vol-1", Device: "/dev/sdf", Bytes: 8 << 30, Before: disk.Seen{"xvda": "1"}},
			disk.Choice{Partition: "2", Path: "/dev/nvme1n1p", Options: []string{"noatime"}, Source: true},
			&w.source,
		}
		got := []any{w.volSpec, w.snapSpec, w.imageSpec, w.mountSpec, w.query, w.choice, result.Source}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("asked for (-want +got):\n%s", diff)
		}
	})
}

// TestUncertainRootWarns checks that a warning of disk.Root reaches the user, and that a build
// from scratch does not inspect the root of a source image.
func TestUncertainRootWarns(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.rootWarning = "it is /boot"
		plan := w.plan()
		plan.FromScratch, plan.RootSizeGiB, plan.Labels = true, 8, nil
		if _, err := w.build(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		if w.choice.Source {
			t.Error("a disk made from scratch is taken for a source image")
		}
		if want := "warn: this may not be the root: it is /boot"; !slices.Contains(w.reports, want) {
			t.Errorf("%q is not among %q", want, w.reports)
		}
	})
}

func TestCommandOutputIsReported(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		if _, err := w.build(t.Context(), w.plan()); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"detail: said by mkfs /dev/xvdf", "detail: said by ls /mnt/root"} {
			if !slices.Contains(w.reports, line) {
				t.Errorf("%q is not among %q", line, w.reports)
			}
		}
	})
}

func TestUnsupportedMount(t *testing.T) {
	for _, optional := range []bool{true, false} {
		t.Run(fmt.Sprintf("optional %v", optional), func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				plan := w.plan()
				plan.Mounts = []chroot.Submount{{Type: "unknown", Source: "x", Target: "/x", Optional: optional}}
				result, err := w.build(t.Context(), plan)
				if optional != (err == nil) {
					t.Errorf("the build ended with %v", err)
				}
				w.checkResult(result, err)
				warned := slices.ContainsFunc(w.reports, func(line string) bool { return strings.HasPrefix(line, "warn: going on without /x") })
				if warned != optional {
					t.Errorf("warned: %v, told %q", warned, w.reports)
				}
			})
		})
	}
}

func TestRootVolume(t *testing.T) {
	gp2 := bake.RootVolume{Snapshot: "snap-source", SizeGiB: 8, Type: "gp2"}
	provisioned := bake.RootVolume{Snapshot: "snap-source", SizeGiB: 8, Type: "io1", IOPS: 500}
	quick := bake.RootVolume{Snapshot: "snap-source", SizeGiB: 8, Type: "gp3", IOPS: 4000, Throughput: 250}
	tests := []struct {
		name    string
		source  bake.RootVolume
		plan    bake.Plan
		want    bake.VolumeSpec
		errSays string
	}{
		{name: "as the source", source: gp2, want: bake.VolumeSpec{Snapshot: "snap-source", SizeGiB: 8, Type: "gp2"}},
		{name: "provisioned as the source", source: provisioned, want: bake.VolumeSpec{Snapshot: "snap-source", SizeGiB: 8, Type: "io1", IOPS: 500}},
		{name: "larger, of another type", source: provisioned, plan: bake.Plan{RootSizeGiB: 20, RootType: "gp3"}, want: bake.VolumeSpec{Snapshot: "snap-source", SizeGiB: 20, Type: "gp3"}},
		{name: "smaller", source: gp2, plan: bake.Plan{RootSizeGiB: 7}, errSays: "root_volume_size"},
		{name: "negative", source: gp2, plan: bake.Plan{RootSizeGiB: -1}, errSays: "root_volume_size is -1"},
		{name: "io1 over gp2", source: gp2, plan: bake.Plan{RootType: "io1"}, errSays: "root_volume_type"},
		{name: "io1 over io1", source: provisioned, plan: bake.Plan{RootType: "io1"}, want: bake.VolumeSpec{Snapshot: "snap-source", SizeGiB: 8, Type: "io1", IOPS: 500}},
		{name: "io1 over gp2 with IOPS", source: gp2, plan: bake.Plan{RootType: "io1", RootIOPS: 700}, want: bake.VolumeSpec{Snapshot: "snap-source", SizeGiB: 8, Type: "io1", IOPS: 700}},
		{name: "io1 over io1 with IOPS", source: provisioned, plan: bake.Plan{RootIOPS: 700}, want: bake.VolumeSpec{Snapshot: "snap-source", SizeGiB: 8, Type: "io1", IOPS: 700}},
		{name: "io2 over io1", source: provisioned, plan: bake.Plan{RootType: "io2"}, errSays: "root_volume_type is io2"},
		{name: "io2 over io1 with IOPS", source: provisioned, plan: bake.Plan{RootType: "io2", RootIOPS: 700}, want: bake.VolumeSpec{Snapshot: "snap-source", SizeGiB: 8, Type: "io2", IOPS: 700}},
		{name: "gp3 as the source", source: quick, want: bake.VolumeSpec{Snapshot: "snap-source", SizeGiB: 8, Type: "gp3", IOPS: 4000, Throughput: 250}},
		{name: "gp3 of its own", source: quick, plan: bake.Plan{RootIOPS: 5000, RootThroughput: 300}, want: bake.VolumeSpec{Snapshot: "snap-source", SizeGiB: 8, Type: "gp3", IOPS: 5000, Throughput: 300}},
		{name: "gp3 over io1 with throughput", source: provisioned, plan: bake.Plan{RootType: "gp3", RootThroughput: 300}, want: bake.VolumeSpec{Snapshot: "snap-source", SizeGiB: 8, Type: "gp3", Throughput: 300}},
		{name: "gp2 that tells of IOPS", source: bake.RootVolume{Snapshot: "snap-source", SizeGiB: 8, Type: "gp2", IOPS: 100}, want: bake.VolumeSpec{Snapshot: "snap-source", SizeGiB: 8, Type: "gp2"}},
		{name: "no snapshot", source: bake.RootVolume{}, errSays: "ami-source"},
		{name: "from scratch", plan: bake.Plan{FromScratch: true, RootSizeGiB: 15}, want: bake.VolumeSpec{SizeGiB: 15, Type: "gp2"}},
		{name: "from scratch, typed", plan: bake.Plan{FromScratch: true, RootSizeGiB: 15, RootType: "standard"}, want: bake.VolumeSpec{SizeGiB: 15, Type: "standard"}},
		{name: "from scratch without a size", plan: bake.Plan{FromScratch: true}, errSays: "root_volume_size"},
		{name: "from scratch on io1 with IOPS", plan: bake.Plan{FromScratch: true, RootSizeGiB: 15, RootType: "io1", RootIOPS: 700}, want: bake.VolumeSpec{SizeGiB: 15, Type: "io1", IOPS: 700}},
		{name: "from scratch on io1", plan: bake.Plan{FromScratch: true, RootSizeGiB: 15, RootType: "io1"}, errSays: "root_volume_type"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				w.source.Root = test.source
				_, err := w.build(t.Context(), test.plan)
				if test.errSays != "" {
					if err == nil || !strings.Contains(err.Error(), test.errSays) || len(w.events) > 0 {
						t.Errorf("error %v after %q, want it to say %q before anything is made", err, w.events, test.errSays)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				test.want.Zone = "here-a"
				if diff := cmp.Diff(test.want, w.volSpec); diff != "" {
					t.Errorf("the volume (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestTakenDeviceNamesAreSkipped(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		w.host.Taken = []bake.DeviceName{"/dev/sda1", "/dev/xvdf", "xvdg"}
		if _, err := w.build(t.Context(), w.plan()); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(w.events, "attach /dev/sdh") {
			t.Errorf("happened %q", w.events)
		}
	})
}

func TestMountPathWithDeviceName(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		plan := w.plan()
		plan.MountPath = func(device string) (string, error) { return "/mnt/" + device, nil }
		if _, err := w.build(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		if w.mountSpec.Path != "/mnt/xvdf" || slices.Contains(w.acts, "check mount path#1") {
			t.Errorf("mounted on %s after %q", w.mountSpec.Path, w.acts)
		}
	})
}
