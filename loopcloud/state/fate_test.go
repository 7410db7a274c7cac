package state_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// newFatedWorld returns a world in which one act always has a fate.
func newFatedWorld(t *testing.T, act state.Act, fate state.Fate) *world {
	t.Helper()
	w := newWorld(t, state.Instant())
	w.cfg.Fate = func(a state.Act) state.Fate {
		if a == act {
			return fate
		}
		return state.Fate{}
	}
	w.restart()
	return w
}

func ending(e state.Ending) state.Fate { return state.Fate{Ending: e} }

// TestUnfinishedResourcesCanBeDeleted: resources that are never completed can be removed.
func TestUnfinishedResourcesCanBeDeleted(t *testing.T) {
	for name, test := range map[string]struct {
		act    state.Act
		ending state.Ending
		// do creates a resource. It returns the resource's state after a day and a function that
		// removes it.
		do   func(w *world) (string, func() error)
		want string
	}{
		"volume in error":        {state.ActCreateVolume, state.EndsInError, doVolume, "error"},
		"volume for ever":        {state.ActCreateVolume, state.NeverEnds, doVolume, "creating"},
		"snapshot in error":      {state.ActCreateSnapshot, state.EndsInError, doSnapshot, "error"},
		"snapshot for ever":      {state.ActCreateSnapshot, state.NeverEnds, doSnapshot, "pending"},
		"snapshot copy in error": {state.ActCopySnapshot, state.EndsInError, doSnapshotCopy, "error"},
		"snapshot copy for ever": {state.ActCopySnapshot, state.NeverEnds, doSnapshotCopy, "pending"},
		"image failed":           {state.ActRegisterImage, state.EndsInError, doImage, "failed"},
		"image for ever":         {state.ActRegisterImage, state.NeverEnds, doImage, "pending"},
		"image copy failed":      {state.ActCopyImage, state.EndsInError, doImageCopy, "failed"},
		"image copy for ever":    {state.ActCopyImage, state.NeverEnds, doImageCopy, "pending"},
		"attaching for ever":     {state.ActAttachVolume, state.NeverEnds, doAttach, "attaching"},
		"attached without node":  {state.ActAttachVolume, state.NoDevice, doAttach, "attached"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFatedWorld(t, test.act, ending(test.ending))
			got, undo := test.do(w)
			if got != test.want {
				t.Errorf("it is %s", got)
			}
			if err := undo(); err != nil {
				t.Error(err)
			}
			if left := w.disks.Attached(); len(left) != 0 {
				t.Errorf("devices are left: %v", left)
			}
		})
	}
}

func doVolume(w *world) (string, func() error) {
	v := w.volume()
	w.clock.Pass(24 * time.Hour)
	return string(w.readVolume(v.ID).State), func() error { return w.DeleteVolume(mine, v.ID, false) }
}

func doSnapshot(w *world) (string, func() error) {
	v := w.volume()
	return snapshotState(w, must[state.Snapshot](w.t)(w.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v.ID})))
}

func doSnapshotCopy(w *world) (string, func() error) {
	return snapshotState(w, must[state.Snapshot](w.t)(w.CopySnapshot(mine, state.SnapshotCopyRequest{SourceID: w.snapshot().ID})))
}

func snapshotState(w *world, s state.Snapshot) (string, func() error) {
	w.clock.Pass(24 * time.Hour)
	return string(w.readSnapshot(s.ID).State), func() error { return w.DeleteSnapshot(mine, s.ID, false) }
}

func doImage(w *world) (string, func() error) { return imageState(w, w.image("made")) }

func doImageCopy(w *world) (string, func() error) {
	source := w.image("source")
	return imageState(w, must[state.Image](w.t)(w.CopyImage(mine, state.ImageCopyRequest{SourceID: source.ID, Name: "copy"})))
}

func imageState(w *world, i state.Image) (string, func() error) {
	w.clock.Pass(24 * time.Hour)
	return string(w.readImage(i.ID).State), func() error { return w.DeleteImage(mine, i.ID, false) }
}

func doAttach(w *world) (string, func() error) {
	v := w.volume()
	w.attach(v.ID, "/dev/sdf")
	w.clock.Pass(24 * time.Hour)
	if nodes := w.disks.Attached(); len(nodes) != 0 {
		w.t.Errorf("there are devices: %v", nodes)
	}
	return string(w.attachState(v.ID)), func() error {
		w.detach(v.ID)
		return w.DeleteVolume(mine, v.ID, false)
	}
}

// TestDetachThatNeverEnds: only force ends the detachment.
func TestDetachThatNeverEnds(t *testing.T) {
	w := newFatedWorld(t, state.ActDetachVolume, ending(state.NeverEnds))
	v := w.volume()
	w.attach(v.ID, "/dev/sdf")
	w.detach(v.ID)
	w.clock.Pass(24 * time.Hour)
	if got := w.attachState(v.ID); got != state.Detaching {
		t.Errorf("it is %s", got)
	}
	must[state.Attachment](t)(w.DetachVolume(mine, state.DetachRequest{VolumeID: v.ID, Force: true}))
	if got := w.readVolume(v.ID); got.State != state.VolumeAvailable {
		t.Errorf("by force, it is %s", got.State)
	}
}

// TestDiskFull: a call without space for its data leaves nothing behind.
func TestDiskFull(t *testing.T) {
	full := ending(state.DiskFull)
	for act, do := range map[state.Act]func(w *world, v string) error{
		state.ActCreateVolume: func(w *world, _ string) error {
			_, err := w.CreateVolume(mine, state.VolumeRequest{Zone: zone, SizeGiB: 1})
			return err
		},
		state.ActCreateSnapshot: func(w *world, v string) error {
			_, err := w.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v})
			return err
		},
		state.ActAttachVolume: func(w *world, v string) error {
			_, err := w.AttachVolume(mine, state.AttachRequest{VolumeID: v, VMID: w.host(), Device: "/dev/sdf"})
			return err
		},
	} {
		t.Run(string(act), func(t *testing.T) {
			w := newWorld(t, state.Instant())
			v := w.volume()
			w.cfg.Fate = func(a state.Act) state.Fate {
				if a == act {
					return full
				}
				return state.Fate{}
			}
			w.restart()
			volumes := len(w.Volumes(mine))
			if err := do(w, v.ID); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("the error is %v", err)
			}
			if n := len(w.Volumes(mine)); n != volumes || len(w.Snapshots(mine)) != 0 || w.readVolume(v.ID).State != state.VolumeAvailable {
				t.Errorf("there are %d volumes and %d snapshots; the volume is %s", n, len(w.Snapshots(mine)), w.readVolume(v.ID).State)
			}
		})
	}
}

// TestStaleReads: describing calls return the previous state for a while; the acts themselves do
// not.
func TestStaleReads(t *testing.T) {
	stale := state.Fate{Stale: state.Stale{Reads: 2}}
	tell := func(w *world, id string) string {
		for _, v := range w.Volumes(mine) {
			if v.ID == id {
				return string(v.State)
			}
		}
		return "none"
	}
	expect := func(w *world, id string, want ...string) {
		w.t.Helper()
		for i, state := range want {
			if got := tell(w, id); got != state {
				w.t.Errorf("read %d tells %s, not %s", i+1, got, state)
			}
		}
	}
	t.Run("create", func(t *testing.T) {
		w := newFatedWorld(t, state.ActCreateVolume, stale)
		v := w.volume()
		w.attach(v.ID, "/dev/sdf") // other calls see it
		expect(w, v.ID, "none", "none", "in-use")
	})
	t.Run("attach", func(t *testing.T) {
		w := newFatedWorld(t, state.ActAttachVolume, stale)
		v := w.volume()
		w.attach(v.ID, "/dev/sdf")
		expect(w, v.ID, "available", "available", "in-use")
	})
	t.Run("detach", func(t *testing.T) {
		w := newFatedWorld(t, state.ActDetachVolume, stale)
		v := w.volume()
		w.attach(v.ID, "/dev/sdf")
		w.detach(v.ID)
		expect(w, v.ID, "in-use", "in-use", "available")
	})
	t.Run("delete", func(t *testing.T) {
		w := newFatedWorld(t, state.ActDeleteVolume, stale)
		v := w.volume()
		if err := w.DeleteVolume(mine, v.ID, false); err != nil {
			t.Fatal(err)
		}
		expect(w, v.ID, "available", "available", "deleting")
	})
	t.Run("for a time", func(t *testing.T) {
		w := newFatedWorld(t, state.ActCreateVolume, state.Fate{Stale: state.Stale{For: time.Minute}})
		v := w.volume()
		expect(w, v.ID, "none", "none", "none")
		w.clock.Pass(time.Minute)
		expect(w, v.ID, "available")
	})
}

// TestStaleImages: images and snapshots become stale as volumes do, for their owner.
func TestStaleImages(t *testing.T) {
	w := newWorld(t, state.Instant())
	w.cfg.Fate = func(state.Act) state.Fate { return state.Fate{Stale: state.Stale{Reads: 1}} }
	w.restart()
	img := w.image("made")
	snapshot := img.Mappings[0].Volume.SnapshotID
	if n, m := len(w.Images(mine)), len(w.Snapshots(mine)); n != 0 || m != 0 {
		t.Errorf("at first there are %d images and %d snapshots", n, m)
	}
	w.readImage(img.ID)
	w.readSnapshot(snapshot)
	if err := errors.Join(w.DeleteImage(mine, img.ID, false), w.DeleteSnapshot(mine, snapshot, false)); err != nil {
		t.Fatal(err)
	}
	w.readImage(img.ID)
	w.readSnapshot(snapshot)
	if n, m := len(w.Images(mine)), len(w.Snapshots(mine)); n != 0 || m != 0 {
		t.Errorf("in the end there are %d images and %d snapshots", n, m)
	}
}

func TestImportHasNoFate(t *testing.T) {
	w := newFatedWorld(t, state.ActRegisterImage, ending(state.EndsInError))
	req := imageOf("imported", w.snapshot().ID)
	req.Imported = true
	if i := must[state.Image](t)(w.CreateImage(mine, req)); i.State != state.ImageAvailable {
		t.Errorf("it is %s", i.State)
	}
}

// TestStaleChanges: changing calls are refused the given number of times because they do not see
// a resource, while describing calls return its current state.
func TestStaleChanges(t *testing.T) {
	for name, test := range map[string]struct {
		act state.Act
		// do performs the act and returns a call that depends on its result.
		do   func(w *world) (again func() error)
		want []state.Kind
	}{
		"attach a new volume": {state.ActCreateVolume, func(w *world) func() error {
			v := w.volume()
			if got := w.readVolume(v.ID).State; got != state.VolumeAvailable {
				w.t.Errorf("the volume reads %s", got)
			}
			return func() error {
				_, err := w.AttachVolume(mine, state.AttachRequest{VolumeID: v.ID, VMID: w.host(), Device: "/dev/sdf"})
				return err
			}
		}, []state.Kind{state.NotFound, state.WrongState}},
		"delete a new volume": {state.ActCreateVolume, func(w *world) func() error {
			v := w.volume()
			return func() error { return w.DeleteVolume(mine, v.ID, false) }
		}, []state.Kind{state.NotFound, state.WrongState}},
		"tag a new volume": {state.ActCreateVolume, func(w *world) func() error {
			v := w.volume()
			return func() error { return w.AddTags(mine, []string{v.ID}, map[string]string{"a": "b"}, false) }
		}, []state.Kind{state.NotFound, state.NotFound}},
		"detach a new attachment": {state.ActAttachVolume, func(w *world) func() error {
			v := w.volume()
			w.attach(v.ID, "/dev/sdf")
			return func() error {
				_, err := w.DetachVolume(mine, state.DetachRequest{VolumeID: v.ID})
				return err
			}
		}, []state.Kind{state.WrongState, state.WrongState}},
		"delete a detached volume": {state.ActDetachVolume, func(w *world) func() error {
			v := w.volume()
			w.attach(v.ID, "/dev/sdf")
			w.detach(v.ID)
			return func() error { return w.DeleteVolume(mine, v.ID, false) }
		}, []state.Kind{state.InUse, state.InUse}},
		"register a new snapshot": {state.ActCreateSnapshot, func(w *world) func() error {
			s := w.snapshot()
			return func() error {
				_, err := w.CreateImage(mine, imageOf("made", s.ID))
				return err
			}
		}, []state.Kind{state.NotFound, state.WrongState}},
		"share a new image": {state.ActRegisterImage, func(w *world) func() error {
			i := w.image("made")
			return func() error {
				_, err := w.ShareImage(mine, i.ID, state.PermissionChange{}, false)
				return err
			}
		}, []state.Kind{state.NotFound, state.WrongState}},
		"copy a new image": {state.ActRegisterImage, func(w *world) func() error {
			i := w.image("made")
			return func() error {
				_, err := w.CopyImage(state.Caller{Account: mine.Account, Region: "us-east-1"},
					state.ImageCopyRequest{SourceID: i.ID, SourceRegion: mine.Region, Name: "copy"})
				return err
			}
		}, []state.Kind{state.NotFound, state.WrongState}},
		"share the snapshot of a copy": {state.ActCopyImage, func(w *world) func() error {
			i := w.image("made")
			c := must[state.Image](w.t)(w.CopyImage(mine, state.ImageCopyRequest{SourceID: i.ID, Name: "copy"}))
			return func() error {
				_, err := w.ShareSnapshot(mine, c.Mappings[0].Volume.SnapshotID, state.PermissionChange{}, false)
				return err
			}
		}, []state.Kind{state.NotFound, state.WrongState}},
		"delete the snapshot of a deregistered image": {state.ActDeleteImage, func(w *world) func() error {
			i := w.deregistered("made")
			return func() error { return w.DeleteSnapshot(mine, i.Mappings[0].Volume.SnapshotID, false) }
		}, []state.Kind{state.InUse, state.InUse}},
		"take the name of a deregistered image": {state.ActDeleteImage, func(w *world) func() error {
			i := w.deregistered("made")
			return func() error {
				_, err := w.CreateImage(mine, imageOf("made", i.Mappings[0].Volume.SnapshotID))
				return err
			}
		}, []state.Kind{state.Duplicate, state.Duplicate}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFatedWorld(t, test.act, state.Fate{Stale: state.Stale{Changes: 2}})
			call := test.do(w)
			for i, want := range test.want {
				var refused *state.Error
				if err := call(); !errors.As(err, &refused) || refused.Kind != want {
					t.Errorf("call %d: the error is %v, and must be of the kind %q", i+1, err, want)
				}
			}
			if err := call(); err != nil {
				t.Errorf("in the end: %v", err)
			}
		})
	}
}

// deregistered returns an image that was deregistered.
func (w *world) deregistered(name string) state.Image {
	w.t.Helper()
	i := w.image(name)
	if err := w.DeleteImage(mine, i.ID, false); err != nil {
		w.t.Fatal(err)
	}
	return i
}
