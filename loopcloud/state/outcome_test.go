package state_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// newWorldWith returns a world in which one act always has this outcome.
func newWorldWith(t *testing.T, act state.Act, outcome state.Outcome) *world {
	t.Helper()
	w := newWorld(t, state.Instant())
	w.cfg.Outcome = func(a state.Act) state.Outcome {
		if a == act {
			return outcome
		}
		return state.Outcome{}
	}
	w.restart()
	return w
}

func ending(e state.Ending) state.Outcome { return state.Outcome{Ending: e} }

// TestUnfinishedResourcesCanBeDeleted checks that resources that are never completed can be
// removed.
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
			w := newWorldWith(t, test.act, ending(test.ending))
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

// TestDetachThatNeverEnds checks that only force ends the detachment.
func TestDetachThatNeverEnds(t *testing.T) {
	w := newWorldWith(t, state.ActDetachVolume, ending(state.NeverEnds))
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

// TestDiskFull checks that a call without space for its data leaves nothing behind.
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
			w.cfg.Outcome = func(a state.Act) state.Outcome {
				if a == act {
					return full
				}
				return state.Outcome{}
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

func TestImportAlwaysSucceeds(t *testing.T) {
	w := newWorldWith(t, state.ActRegisterImage, ending(state.EndsInError))
	req := imageOf("imported", w.snapshot().ID)
	req.Imported = true
	if i := must[state.Image](t)(w.CreateImage(mine, req)); i.State != state.ImageAvailable {
		t.Errorf("it is %s", i.State)
	}
}
