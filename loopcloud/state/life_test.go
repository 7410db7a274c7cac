package state_test

import (
	"errors"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
)

var seconds = state.Timing{
	VolumeCreate: 2 * time.Second, VolumeDelete: 5 * time.Second, VolumeModify: 10 * time.Second,
	Attach: 3 * time.Second, Detach: 4 * time.Second,
	Snapshot: 10 * time.Second, SnapshotPerGiB: 5 * time.Second,
	ImageCreate: 6 * time.Second, Copy: 20 * time.Second, CopyPerGiB: time.Second,
	VMStart: 7 * time.Second, VMStop: 8 * time.Second,
}

func TestVolumeLife(t *testing.T) {
	c := newTestCloud(t, seconds)
	v := c.volume()
	if v.State != state.VolumeCreating {
		t.Fatalf("a new volume is %s", v.State)
	}
	wantRefusal(t, c.DeleteVolume(mine, v.ID, false), state.WrongState, "volume")
	_, err := c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v.ID})
	wantRefusal(t, err, state.WrongState, "volume")

	c.clock.Pass(2 * time.Second)
	if s := c.readVolume(v.ID).State; s != state.VolumeAvailable {
		t.Fatalf("after its time it is %s", s)
	}
	if err := c.DeleteVolume(mine, v.ID, false); err != nil {
		t.Fatal(err)
	}
	if s := c.readVolume(v.ID).State; s != state.VolumeDeleting {
		t.Fatalf("deleted, it is %s", s)
	}
	wantRefusal(t, c.DeleteVolume(mine, v.ID, false), state.NotFound, "volume")
	if len(c.disks.Volumes()) != 0 {
		t.Errorf("its bytes remain: %v", c.disks.Volumes())
	}
	c.clock.Pass(time.Minute)
	for _, left := range c.Volumes(mine) {
		if left.ID == v.ID {
			t.Error("it is listed for ever")
		}
	}
}

func TestAttachmentLife(t *testing.T) {
	c := newTestCloud(t, seconds)
	v := c.volume()
	c.clock.Pass(2 * time.Second)
	if a := c.attach(v.ID, "/dev/sdf"); a.State != state.Attaching || a.Path != "/fake/dev/sdf" {
		t.Fatalf("asked for, it is %+v", a)
	}
	wantRefusal(t, c.DeleteVolume(mine, v.ID, false), state.InUse, "volume")
	steps := []struct {
		pass time.Duration
		do   func()
		want state.AttachState
	}{
		{0, nil, state.Attaching},
		{3 * time.Second, nil, state.Attached},
		{0, func() { c.detach(v.ID) }, state.Detaching},
		{3 * time.Second, nil, state.Detaching},
	}
	for i, step := range steps {
		if step.do != nil {
			step.do()
		}
		c.clock.Pass(step.pass)
		if got := c.attachState(v.ID); got != step.want {
			t.Errorf("step %d: the attachment is %q, not %q", i, got, step.want)
		}
	}
	c.clock.Pass(time.Second)
	c.waitDetached(v.ID)
	if s := c.readVolume(v.ID).State; s != state.VolumeAvailable {
		t.Errorf("detached, the volume is %s", s)
	}
}

func (c *testCloud) detach(volume string) {
	c.t.Helper()
	must[state.Attachment](c.t)(c.DetachVolume(mine, state.DetachRequest{VolumeID: volume}))
}

// attachState returns the state of a volume's attachment, "" if it has none.
func (c *testCloud) attachState(volume string) state.AttachState {
	c.t.Helper()
	v := c.readVolume(volume)
	if v.Attachment == nil {
		return ""
	}
	return v.Attachment.State
}

// waitDetached waits until a volume has no attachment. An attachment that is due may still be
// detaching, because the goroutine that retries detaching is removing the device. The test's own
// time limit is the bound.
func (c *testCloud) waitDetached(volume string) {
	c.t.Helper()
	for c.attachState(volume) != "" {
		time.Sleep(time.Millisecond)
	}
}

func TestBusyDetach(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	v := c.volume()
	c.attach(v.ID, "/dev/sdf")
	c.disks.SetBusy(v.ID, true)
	c.detach(v.ID)
	if s := c.attachState(v.ID); s != state.Detaching {
		t.Fatalf("in use, the attachment is %q", s)
	}
	c.disks.SetBusy(v.ID, false)
	c.waitDetached(v.ID)
	if s := c.readVolume(v.ID).State; s != state.VolumeAvailable {
		t.Errorf("detached, the volume is %s", s)
	}
}

func TestForcedDetach(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	v := c.volume()
	c.attach(v.ID, "/dev/sdf")
	c.disks.SetBusy(v.ID, true)
	c.detach(v.ID)
	must[state.Attachment](t)(c.DetachVolume(mine, state.DetachRequest{VolumeID: v.ID, Force: true}))
	if s := c.attachState(v.ID); s != "" {
		t.Errorf("detached by force, the attachment is %q", s)
	}
}

// measuring is a Disks with a fixed amount of data in snapshots.
type measuring struct {
	*statetest.Disks
	bytes int64
}

func (m measuring) SnapshotBytes(string) (int64, error) { return m.bytes, nil }

func TestSnapshotProgress(t *testing.T) {
	c := newTestCloud(t, seconds)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c.cfg.Disks = measuring{c.disks, 2 << 30} // 10 s, and 5 s for each of two GiB
	c.open()
	v := c.volume()
	c.clock.Pass(time.Minute)
	s := must[state.Snapshot](t)(c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v.ID, Description: "d"}))
	if s.State != state.SnapshotPending || s.Progress != 0 || s.SizeGiB != 8 || s.VolumeID != v.ID {
		t.Fatalf("a new snapshot is %+v", s)
	}
	for _, step := range []struct {
		pass     time.Duration
		progress int
		state    state.SnapshotState
	}{
		{0, 0, state.SnapshotPending},
		{5 * time.Second, 25, state.SnapshotPending},
		{10 * time.Second, 75, state.SnapshotPending},
		{4999 * time.Millisecond, 99, state.SnapshotPending},
		{time.Millisecond, 100, state.SnapshotCompleted},
	} {
		c.clock.Pass(step.pass)
		if got := c.readSnapshot(s.ID); got.Progress != step.progress || got.State != step.state {
			t.Errorf("it is %s at %d %%, not %s at %d %%", got.State, got.Progress, step.state, step.progress)
		}
	}
}

func TestSnapshotIsPointInTime(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	v := c.volume()
	c.disks.Write(v.ID, "before")
	s := must[state.Snapshot](t)(c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v.ID}))
	c.disks.Write(v.ID, "after")
	again := must[state.Volume](t)(c.CreateVolume(mine, state.VolumeRequest{Zone: zone, SnapshotID: s.ID}))
	if got := c.disks.Volumes()[again.ID]; got != "before" {
		t.Errorf("a volume of the snapshot holds %q", got)
	}
	if again.SizeGiB != 8 || again.SnapshotID != s.ID {
		t.Errorf("it is %+v", again)
	}
}

func TestImageLife(t *testing.T) {
	c := newTestCloud(t, state.Timing{ImageCreate: 6 * time.Second})
	img := c.image("an image")
	if img.State != state.ImagePending {
		t.Errorf("a new image is %s", img.State)
	}
	c.clock.Pass(6 * time.Second)
	img = c.readImage(img.ID)
	v := img.Mappings[0].Volume
	if img.State != state.ImageAvailable || v.SizeGiB != 8 || v.Type != "gp2" {
		t.Errorf("the image is %+v with %+v", img, v)
	}
	wantRefusal(t, c.DeleteSnapshot(mine, v.SnapshotID, false), state.InUse, "snapshot")
	if err := c.DeleteImage(mine, img.ID, false); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteSnapshot(mine, v.SnapshotID, false); err != nil {
		t.Fatal(err)
	}
	if len(c.Images(mine))+len(c.Snapshots(mine))+len(c.disks.Snapshots()) != 0 {
		t.Error("something is left")
	}
}

func TestCopyImage(t *testing.T) {
	c := newTestCloud(t, state.Timing{Copy: 20 * time.Second})
	img := c.image("source")
	must[state.Image](t)(c.UpdateImage(mine, img.ID, func(i *state.Image) error {
		i.BootMode, i.Deprecated = "uefi", c.Now()
		return nil
	}, false))
	must[any](t)(nil, c.AddTags(mine, []string{img.ID}, map[string]string{"a": "1"}, false))
	got := must[state.Image](t)(c.CopyImage(abroad, state.ImageCopyRequest{
		SourceID: img.ID, SourceRegion: home, Name: "copy", Encrypted: true, CopyTags: true, Tags: map[string]string{"b": "2"},
	}))
	if got.State != state.ImagePending || got.Region != away || got.BootMode != "uefi" || !got.Deprecated.IsZero() {
		t.Errorf("the copy is %+v", got)
	}
	if got.Tags["a"] != "1" || got.Tags["b"] != "2" {
		t.Errorf("its tags are %v", got.Tags)
	}
	v := got.Mappings[0].Volume
	if v.SnapshotID == img.Mappings[0].Volume.SnapshotID || !v.Encrypted || v.KMSKeyID == "" {
		t.Errorf("its volume is %+v", v)
	}
	c.clock.Pass(20 * time.Second)
	snapshots := c.Snapshots(abroad)
	if len(snapshots) != 1 || snapshots[0].State != state.SnapshotCompleted || !snapshots[0].Encrypted {
		t.Errorf("the snapshots there are %+v", snapshots)
	}
	if list := c.Images(abroad); len(list) != 1 || list[0].State != state.ImageAvailable {
		t.Errorf("the images there are %+v", list)
	}
}

func TestFailedDataCallsLeaveNothing(t *testing.T) {
	broken := errors.New("the disk is full")
	tests := map[string]struct {
		method string
		call   func(c *testCloud, img state.Image) error
	}{
		"create volume": {"CreateVolume", func(c *testCloud, _ state.Image) error {
			_, err := c.CreateVolume(mine, state.VolumeRequest{Zone: zone, SizeGiB: 1, Token: "t"})
			return err
		}},
		"create snapshot": {"CreateSnapshot", func(c *testCloud, _ state.Image) error {
			_, err := c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: c.volume().ID})
			return err
		}},
		"copy snapshot": {"CopySnapshot", func(c *testCloud, img state.Image) error {
			_, err := c.CopySnapshot(mine, state.SnapshotCopyRequest{SourceID: img.Mappings[0].Volume.SnapshotID})
			return err
		}},
		"copy image": {"CopySnapshot", func(c *testCloud, img state.Image) error {
			_, err := c.CopyImage(mine, state.ImageCopyRequest{SourceID: img.ID, Name: "copy"})
			return err
		}},
		"delete volume": {"DeleteVolume", func(c *testCloud, _ state.Image) error {
			return c.DeleteVolume(mine, c.volume().ID, false)
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newTestCloud(t, state.Instant())
			img := c.image("source")
			c.disks.Fail(test.method, broken)
			if err := test.call(c, img); !errors.Is(err, broken) {
				t.Fatalf("the error is %v", err)
			}
			c.disks.Fail(test.method, nil)
			if n := len(c.Images(mine)); n != 1 {
				t.Errorf("%d images are left", n)
			}
			if n := len(c.Snapshots(mine)); n != 1 {
				t.Errorf("%d snapshots are left", n)
			}
			for _, v := range c.Volumes(mine) {
				if v.State != state.VolumeAvailable && v.State != state.VolumeInUse {
					t.Errorf("a volume is left %s", v.State)
				}
			}
		})
	}
}

func TestFailedAttachLeavesTheVolumeAvailable(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	v := c.volume()
	c.disks.Fail("AttachVolume", errors.New("no loop device"))
	if _, err := c.AttachVolume(mine, state.AttachRequest{VolumeID: v.ID, VMID: c.host(), Device: "/dev/sdf"}); err == nil {
		t.Fatal("it was attached")
	}
	if s := c.readVolume(v.ID).State; s != state.VolumeAvailable {
		t.Errorf("the volume is %s", s)
	}
}

func TestModifyVolume(t *testing.T) {
	c := newTestCloud(t, state.Timing{VolumeModify: 10 * time.Second})
	v := c.volume()
	got := must[state.Volume](t)(c.ModifyVolume(mine, v.ID, state.VolumeChange{SizeGiB: 16, Type: "gp3", IOPS: 4000, Throughput: 500}))
	if got.SizeGiB != 16 || got.Type != "gp3" || got.IOPS != 4000 || got.Throughput != 500 {
		t.Errorf("modified, it is %+v", got)
	}
	if c.disks.Volumes()[v.ID] != "[16 GiB]" {
		t.Errorf("its bytes were not resized: %q", c.disks.Volumes()[v.ID])
	}
	if m := got.Modification; m.State != "modifying" || m.FromSize != 8 || m.ToSize != 16 || m.FromType != "gp2" || m.FromIOPS != 100 {
		t.Errorf("the modification is %+v", m)
	}
	_, err := c.ModifyVolume(mine, v.ID, state.VolumeChange{SizeGiB: 17})
	wantRefusal(t, err, state.WrongState, "modification")
	c.clock.Pass(15 * time.Second)
	if m := c.readVolume(v.ID).Modification; m.State != "optimizing" || m.Progress != 75 {
		t.Errorf("later it is %+v", m)
	}
	c.clock.Pass(5 * time.Second)
	if m := c.readVolume(v.ID).Modification; m.State != "completed" || m.Progress != 100 {
		t.Errorf("in the end it is %+v", m)
	}
	_, err = c.ModifyVolume(mine, v.ID, state.VolumeChange{SizeGiB: 15})
	wantRefusal(t, err, state.InvalidValue, "size")
}

func TestVMLife(t *testing.T) {
	c := newTestCloud(t, state.Timing{VMStart: 7 * time.Second, VMStop: 8 * time.Second})
	img := c.image("source")
	vms := must[[]state.VM](t)(c.RunVMs(mine, state.VMRequest{ImageID: img.ID, Count: 2, Type: "t3.nano", Tags: map[string]string{"a": "1"}}))
	if len(vms) != 2 || vms[0].State != state.VMPending || vms[0].Zone != zone || vms[0].RootDevice != "/dev/sda1" || vms[0].Tags["a"] != "1" {
		t.Fatalf("they are %+v", vms)
	}
	v := c.volume()
	attach := state.AttachRequest{VolumeID: v.ID, VMID: vms[0].ID, Device: "/dev/sdf"}
	_, err := c.AttachVolume(mine, attach)
	wantRefusal(t, err, state.WrongState, "instance")
	c.clock.Pass(7 * time.Second)
	if a := must[state.Attachment](t)(c.AttachVolume(mine, attach)); a.Path != "" {
		t.Errorf("a record has the device %s", a.Path)
	}
	if len(c.disks.Attached()) != 0 {
		t.Error("a device was made for a record")
	}
	got := must[[]state.VM](t)(c.TerminateVMs(mine, []string{vms[0].ID, vms[1].ID}, false))
	if got[1].State != state.VMShuttingDown {
		t.Errorf("terminated, one is %s", got[1].State)
	}
	c.clock.Pass(8 * time.Second)
	if s := c.readVolume(v.ID).State; s != state.VolumeAvailable {
		t.Errorf("the volume is %s", s)
	}
	if n := len(c.Volumes(mine)); n != 3 { // the host's root volume, the image's source and the attached one
		t.Errorf("there are %d volumes", n)
	}
	for _, vm := range c.VMs(mine) {
		if !vm.Host && vm.State != state.VMTerminated {
			t.Errorf("in the end it is %s", vm.State)
		}
	}
	c.clock.Pass(time.Hour)
	if n := len(c.VMs(mine)); n != 1 {
		t.Errorf("%d VMs are listed for ever", n)
	}
}

func TestHost(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	id := c.host()
	for _, caller := range []state.Caller{mine, theirs, abroad} {
		vms := c.VMs(caller)
		if len(vms) != 1 || !vms[0].Host || vms[0].State != state.VMRunning {
			t.Errorf("%v sees %+v", caller, vms)
		}
		roots := c.Volumes(caller)
		if len(roots) != 1 || roots[0].Attachment.Device != "/dev/sda1" || roots[0].Attachment.State != state.Attached {
			t.Errorf("%v sees %+v", caller, roots)
		}
	}
	_, err := c.TerminateVMs(mine, []string{id}, false)
	wantRefusal(t, err, state.NotAllowed, "instance")
	root := c.Volumes(mine)[0].ID
	_, err = c.DetachVolume(mine, state.DetachRequest{VolumeID: root})
	wantRefusal(t, err, state.WrongState, "root")
	_, err = c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: root})
	wantRefusal(t, err, state.WrongState, "volume")
	if _, ok := c.HostVM("mars-1"); ok {
		t.Error("there is a host in a region that is none")
	}
	c.restart()
	if again := c.host(); again != id {
		t.Errorf("after a restart it is %s, not %s", again, id)
	}
}
