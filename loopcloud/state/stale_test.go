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
	tell := func(c *testCloud, id string) string {
		for _, v := range c.Volumes(mine) {
			if v.ID == id {
				return string(v.State)
			}
		}
		return "none"
	}
	expect := func(c *testCloud, id string, want ...string) {
		c.t.Helper()
		for i, state := range want {
			if got := tell(c, id); got != state {
				c.t.Errorf("read %d tells %s, not %s", i+1, got, state)
			}
		}
	}
	t.Run("create", func(t *testing.T) {
		c := newTestCloudWith(t, state.ActCreateVolume, stale)
		v := c.volume()
		c.attach(v.ID, "/dev/sdf") // other calls see it
		expect(c, v.ID, "none", "none", "in-use")
	})
	t.Run("attach", func(t *testing.T) {
		c := newTestCloudWith(t, state.ActAttachVolume, stale)
		v := c.volume()
		c.attach(v.ID, "/dev/sdf")
		expect(c, v.ID, "available", "available", "in-use")
	})
	t.Run("detach", func(t *testing.T) {
		c := newTestCloudWith(t, state.ActDetachVolume, stale)
		v := c.volume()
		c.attach(v.ID, "/dev/sdf")
		c.detach(v.ID)
		expect(c, v.ID, "in-use", "in-use", "available")
	})
	t.Run("delete", func(t *testing.T) {
		c := newTestCloudWith(t, state.ActDeleteVolume, stale)
		v := c.volume()
		if err := c.DeleteVolume(mine, v.ID, false); err != nil {
			t.Fatal(err)
		}
		expect(c, v.ID, "available", "available", "deleting")
	})
	t.Run("for a time", func(t *testing.T) {
		c := newTestCloudWith(t, state.ActCreateVolume, state.Outcome{Stale: state.Stale{For: time.Minute}})
		v := c.volume()
		expect(c, v.ID, "none", "none", "none")
		c.clock.Pass(time.Minute)
		expect(c, v.ID, "available")
	})
}

// TestStaleImages checks that images and snapshots become stale as volumes do, for their
// owner.
func TestStaleImages(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	c.cfg.Outcome = func(state.Act) state.Outcome { return state.Outcome{Stale: state.Stale{Reads: 1}} }
	c.restart()
	img := c.image("made")
	snapshot := img.Mappings[0].Volume.SnapshotID
	if n, m := len(c.Images(mine)), len(c.Snapshots(mine)); n != 0 || m != 0 {
		t.Errorf("at first there are %d images and %d snapshots", n, m)
	}
	c.readImage(img.ID)
	c.readSnapshot(snapshot)
	if err := errors.Join(c.DeleteImage(mine, img.ID, false), c.DeleteSnapshot(mine, snapshot, false)); err != nil {
		t.Fatal(err)
	}
	c.readImage(img.ID)
	c.readSnapshot(snapshot)
	if n, m := len(c.Images(mine)), len(c.Snapshots(mine)); n != 0 || m != 0 {
		t.Errorf("in the end there are %d images and %d snapshots", n, m)
	}
}

// TestStaleChanges checks that changing calls are refused the given number of times because
// they do not see a resource, while describing calls return its current state.
func TestStaleChanges(t *testing.T) {
	for name, test := range map[string]struct {
		act state.Act
		// do performs the act and returns a call that depends on its result.
		do   func(c *testCloud) (again func() error)
		want []state.Kind
	}{
		"attach a new volume": {state.ActCreateVolume, func(c *testCloud) func() error {
			v := c.volume()
			if got := c.readVolume(v.ID).State; got != state.VolumeAvailable {
				c.t.Errorf("the volume reads %s", got)
			}
			return func() error {
				_, err := c.AttachVolume(mine, state.AttachRequest{VolumeID: v.ID, VMID: c.host(), Device: "/dev/sdf"})
				return err
			}
		}, []state.Kind{state.NotFound, state.WrongState}},
		"delete a new volume": {state.ActCreateVolume, func(c *testCloud) func() error {
			v := c.volume()
			return func() error { return c.DeleteVolume(mine, v.ID, false) }
		}, []state.Kind{state.NotFound, state.WrongState}},
		"tag a new volume": {state.ActCreateVolume, func(c *testCloud) func() error {
			v := c.volume()
			return func() error { return c.AddTags(mine, []string{v.ID}, map[string]string{"a": "b"}, false) }
		}, []state.Kind{state.NotFound, state.NotFound}},
		"detach a new attachment": {state.ActAttachVolume, func(c *testCloud) func() error {
			v := c.volume()
			c.attach(v.ID, "/dev/sdf")
			return func() error {
				_, err := c.DetachVolume(mine, state.DetachRequest{VolumeID: v.ID})
				return err
			}
		}, []state.Kind{state.WrongState, state.WrongState}},
		"delete a detached volume": {state.ActDetachVolume, func(c *testCloud) func() error {
			v := c.volume()
			c.attach(v.ID, "/dev/sdf")
			c.detach(v.ID)
			return func() error { return c.DeleteVolume(mine, v.ID, false) }
		}, []state.Kind{state.InUse, state.InUse}},
		"register a new snapshot": {state.ActCreateSnapshot, func(c *testCloud) func() error {
			s := c.snapshot()
			return func() error {
				_, err := c.CreateImage(mine, imageOf("made", s.ID))
				return err
			}
		}, []state.Kind{state.NotFound, state.WrongState}},
		"share a new image": {state.ActRegisterImage, func(c *testCloud) func() error {
			i := c.image("made")
			return func() error {
				_, err := c.ShareImage(mine, i.ID, state.PermissionChange{}, false)
				return err
			}
		}, []state.Kind{state.NotFound, state.WrongState}},
		"copy a new image": {state.ActRegisterImage, func(c *testCloud) func() error {
			i := c.image("made")
			return func() error {
				_, err := c.CopyImage(state.Caller{Account: mine.Account, Region: "us-east-1"},
					state.ImageCopyRequest{SourceID: i.ID, SourceRegion: mine.Region, Name: "copy"})
				return err
			}
		}, []state.Kind{state.NotFound, state.WrongState}},
		"share the snapshot of a copy": {state.ActCopyImage, func(c *testCloud) func() error {
			i := c.image("made")
			copied := must[state.Image](c.t)(c.CopyImage(mine, state.ImageCopyRequest{SourceID: i.ID, Name: "copy"}))
			return func() error {
				_, err := c.ShareSnapshot(mine, copied.Mappings[0].Volume.SnapshotID, state.PermissionChange{}, false)
				return err
			}
		}, []state.Kind{state.NotFound, state.WrongState}},
		"delete the snapshot of a deregistered image": {state.ActDeleteImage, func(c *testCloud) func() error {
			i := c.deregistered("made")
			return func() error { return c.DeleteSnapshot(mine, i.Mappings[0].Volume.SnapshotID, false) }
		}, []state.Kind{state.InUse, state.InUse}},
		"take the name of a deregistered image": {state.ActDeleteImage, func(c *testCloud) func() error {
			i := c.deregistered("made")
			return func() error {
				_, err := c.CreateImage(mine, imageOf("made", i.Mappings[0].Volume.SnapshotID))
				return err
			}
		}, []state.Kind{state.Duplicate, state.Duplicate}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCloudWith(t, test.act, state.Outcome{Stale: state.Stale{Changes: 2}})
			call := test.do(c)
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
func (c *testCloud) deregistered(name string) state.Image {
	c.t.Helper()
	i := c.image(name)
	if err := c.DeleteImage(mine, i.ID, false); err != nil {
		c.t.Fatal(err)
	}
	return i
}
