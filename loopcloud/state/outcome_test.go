package state_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// newTestCloudWith returns a cloud in which one act always has this outcome.
func newTestCloudWith(t *testing.T, act state.Act, outcome state.Outcome) *testCloud {
	t.Helper()
	c := newTestCloud(t, state.Instant())
	c.cfg.Outcome = func(a state.Act) state.Outcome {
		if a == act {
			return outcome
		}
		return state.Outcome{}
	}
	c.restart()
	return c
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
		do   func(c *testCloud) (string, func() error)
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
			c := newTestCloudWith(t, test.act, ending(test.ending))
			got, undo := test.do(c)
			if got != test.want {
				t.Errorf("it is %s", got)
			}
			if err := undo(); err != nil {
				t.Error(err)
			}
			if left := c.disks.Attached(); len(left) != 0 {
				t.Errorf("devices are left: %v", left)
			}
		})
	}
}

func doVolume(c *testCloud) (string, func() error) {
	v := c.volume()
	c.clock.Pass(24 * time.Hour)
	return string(c.readVolume(v.ID).State), func() error { return c.DeleteVolume(mine, v.ID, false) }
}

func doSnapshot(c *testCloud) (string, func() error) {
	v := c.volume()
	return snapshotState(c, must[state.Snapshot](c.t)(c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v.ID})))
}

func doSnapshotCopy(c *testCloud) (string, func() error) {
	return snapshotState(c, must[state.Snapshot](c.t)(c.CopySnapshot(mine, state.SnapshotCopyRequest{SourceID: c.snapshot().ID})))
}

func snapshotState(c *testCloud, s state.Snapshot) (string, func() error) {
	c.clock.Pass(24 * time.Hour)
	return string(c.readSnapshot(s.ID).State), func() error { return c.DeleteSnapshot(mine, s.ID, false) }
}

func doImage(c *testCloud) (string, func() error) { return imageState(c, c.image("made")) }

func doImageCopy(c *testCloud) (string, func() error) {
	source := c.image("source")
	return imageState(c, must[state.Image](c.t)(c.CopyImage(mine, state.ImageCopyRequest{SourceID: source.ID, Name: "copy"})))
}

func imageState(c *testCloud, i state.Image) (string, func() error) {
	c.clock.Pass(24 * time.Hour)
	return string(c.readImage(i.ID).State), func() error { return c.DeleteImage(mine, i.ID, false) }
}

func doAttach(c *testCloud) (string, func() error) {
	v := c.volume()
	c.attach(v.ID, "/dev/sdf")
	c.clock.Pass(24 * time.Hour)
	if nodes := c.disks.Attached(); len(nodes) != 0 {
		c.t.Errorf("there are devices: %v", nodes)
	}
	return string(c.attachState(v.ID)), func() error {
		c.detach(v.ID)
		return c.DeleteVolume(mine, v.ID, false)
	}
}

// TestDetachThatNeverEnds checks that only force ends the detachment.
func TestDetachThatNeverEnds(t *testing.T) {
	c := newTestCloudWith(t, state.ActDetachVolume, ending(state.NeverEnds))
	v := c.volume()
	c.attach(v.ID, "/dev/sdf")
	c.detach(v.ID)
	c.clock.Pass(24 * time.Hour)
	if got := c.attachState(v.ID); got != state.Detaching {
		t.Errorf("it is %s", got)
	}
	must[state.Attachment](t)(c.DetachVolume(mine, state.DetachRequest{VolumeID: v.ID, Force: true}))
	if got := c.readVolume(v.ID); got.State != state.VolumeAvailable {
		t.Errorf("by force, it is %s", got.State)
	}
}

// TestDiskFull checks that a call without space for its data leaves nothing behind.
func TestDiskFull(t *testing.T) {
	full := ending(state.DiskFull)
	for act, do := range map[state.Act]func(c *testCloud, v string) error{
		state.ActCreateVolume: func(c *testCloud, _ string) error {
			_, err := c.CreateVolume(mine, state.VolumeRequest{Zone: zone, SizeGiB: 1})
			return err
		},
		state.ActCreateSnapshot: func(c *testCloud, v string) error {
			_, err := c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v})
			return err
		},
		state.ActAttachVolume: func(c *testCloud, v string) error {
			_, err := c.AttachVolume(mine, state.AttachRequest{VolumeID: v, VMID: c.host(), Device: "/dev/sdf"})
			return err
		},
	} {
		t.Run(string(act), func(t *testing.T) {
			c := newTestCloud(t, state.Instant())
			v := c.volume()
			c.cfg.Outcome = func(a state.Act) state.Outcome {
				if a == act {
					return full
				}
				return state.Outcome{}
			}
			c.restart()
			volumes := len(c.Volumes(mine))
			if err := do(c, v.ID); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("the error is %v", err)
			}
			if n := len(c.Volumes(mine)); n != volumes || len(c.Snapshots(mine)) != 0 || c.readVolume(v.ID).State != state.VolumeAvailable {
				t.Errorf("there are %d volumes and %d snapshots; the volume is %s", n, len(c.Snapshots(mine)), c.readVolume(v.ID).State)
			}
		})
	}
}

func TestImportAlwaysSucceeds(t *testing.T) {
	c := newTestCloudWith(t, state.ActRegisterImage, ending(state.EndsInError))
	req := imageOf("imported", c.snapshot().ID)
	req.Imported = true
	if i := must[state.Image](t)(c.CreateImage(mine, req)); i.State != state.ImageAvailable {
		t.Errorf("it is %s", i.State)
	}
}
