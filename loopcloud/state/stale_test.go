package state_test

import (
	"errors"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// TestStaleReads checks that describing calls return the previous state for a while; the acts
// themselves do not.
func TestStaleReads(t *testing.T) {
	stale := state.Outcome{Stale: state.Stale{Reads: 2}}
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
		w := newWorldWith(t, state.ActCreateVolume, stale)
		v := w.volume()
		w.attach(v.ID, "/dev/sdf") // other calls see it
		expect(w, v.ID, "none", "none", "in-use")
	})
	t.Run("attach", func(t *testing.T) {
		w := newWorldWith(t, state.ActAttachVolume, stale)
		v := w.volume()
		w.attach(v.ID, "/dev/sdf")
		expect(w, v.ID, "available", "available", "in-use")
	})
	t.Run("detach", func(t *testing.T) {
		w := newWorldWith(t, state.ActDetachVolume, stale)
		v := w.volume()
		w.attach(v.ID, "/dev/sdf")
		w.detach(v.ID)
		expect(w, v.ID, "in-use", "in-use", "available")
	})
	t.Run("delete", func(t *testing.T) {
		w := newWorldWith(t, state.ActDeleteVolume, stale)
		v := w.volume()
		if err := w.DeleteVolume(mine, v.ID, false); err != nil {
			t.Fatal(err)
		}
		expect(w, v.ID, "available", "available", "deleting")
	})
	t.Run("for a time", func(t *testing.T) {
		w := newWorldWith(t, state.ActCreateVolume, state.Outcome{Stale: state.Stale{For: time.Minute}})
		v := w.volume()
		expect(w, v.ID, "none", "none", "none")
		w.clock.Pass(time.Minute)
		expect(w, v.ID, "available")
	})
}

// TestStaleImages checks that images and snapshots become stale as volumes do, for their
// owner.
func TestStaleImages(t *testing.T) {
	w := newWorld(t, state.Instant())
	w.cfg.Outcome = func(state.Act) state.Outcome { return state.Outcome{Stale: state.Stale{Reads: 1}} }
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

// TestStaleChanges checks that changing calls are refused the given number of times because
// they do not see a resource, while describing calls return its current state.
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
			w := newWorldWith(t, test.act, state.Outcome{Stale: state.Stale{Changes: 2}})
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
