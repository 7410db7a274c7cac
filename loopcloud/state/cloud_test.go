package state_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

const (
	me    = "111111111111"
	other = "222222222222"
	home  = "eu-west-2"
	away  = "us-east-1"
	zone  = "eu-west-2a"
)

var (
	mine   = state.Caller{Account: me, Region: home}
	theirs = state.Caller{Account: other, Region: home}
	abroad = state.Caller{Account: me, Region: away}
)

// testCloud is a cloud with its disks and clock.
type testCloud struct {
	*state.Cloud
	t     *testing.T
	dir   string
	disks *statetest.Disks
	clock *statetest.Clock
	cfg   state.Config
}

func newTestCloud(t *testing.T, timing state.Timing) *testCloud {
	t.Helper()
	c := &testCloud{
		t: t, dir: filepath.Join(testdir.New(t), "state"), disks: statetest.NewDisks(),
		clock: statetest.NewClock(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)),
	}
	c.cfg = state.Config{
		Dir: c.dir, Disks: c.disks, Clock: c.clock.Now, Timing: timing,
		Accounts: []state.Account{{ID: me}, {ID: other}},
		NewID:    statetest.CountingIDs(),
	}
	c.open()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if clashes := c.disks.Clashes(); len(clashes) > 0 {
			t.Errorf("two at work on one id: %v", clashes)
		}
	})
	return c
}

func (c *testCloud) open() {
	c.t.Helper()
	opened, err := state.Open(c.cfg)
	if err != nil {
		c.t.Fatalf("Open: %v", err)
	}
	c.Cloud = opened
}

// restart closes the cloud and opens it again.
func (c *testCloud) restart() {
	c.t.Helper()
	if err := c.Close(); err != nil {
		c.t.Fatalf("Close: %v", err)
	}
	c.open()
}

// must returns the value of a call that must succeed.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (c *testCloud) volume() state.Volume {
	c.t.Helper()
	return must[state.Volume](c.t)(c.CreateVolume(mine, state.VolumeRequest{Zone: zone, SizeGiB: 8}))
}

func (c *testCloud) snapshot() state.Snapshot {
	c.t.Helper()
	return must[state.Snapshot](c.t)(c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: c.volume().ID}))
}

func (c *testCloud) image(name string) state.Image {
	c.t.Helper()
	return must[state.Image](c.t)(c.CreateImage(mine, imageOf(name, c.snapshot().ID)))
}

func imageOf(name, snapshot string) state.ImageRequest {
	return state.ImageRequest{
		Name:       name,
		Attributes: state.ImageAttributes{RootDevice: "/dev/sda1"},
		Mappings:   []state.Mapping{{Device: "/dev/sda1", Volume: &state.MappedVolume{SnapshotID: snapshot, DeleteOnTermination: true}}},
	}
}

func (c *testCloud) host() string {
	c.t.Helper()
	vm, ok := c.HostVM(home)
	if !ok {
		c.t.Fatal("there is no host")
	}
	return vm.ID
}

func (c *testCloud) attach(volume, device string) state.Attachment {
	c.t.Helper()
	return must[state.Attachment](c.t)(c.AttachVolume(mine, state.AttachRequest{VolumeID: volume, VMID: c.host(), Device: device}))
}

// find returns the element of a list with this ID, which must exist.
func find[T any](t *testing.T, list []T, id func(T) string, want string) T {
	t.Helper()
	for _, v := range list {
		if id(v) == want {
			return v
		}
	}
	t.Fatalf("%s is not listed", want)
	panic("unreachable")
}

func (c *testCloud) readVolume(id string) state.Volume {
	c.t.Helper()
	return find(c.t, c.Volumes(mine), func(v state.Volume) string { return v.ID }, id)
}

func (c *testCloud) readSnapshot(id string) state.Snapshot {
	c.t.Helper()
	return find(c.t, c.Snapshots(mine), func(s state.Snapshot) string { return s.ID }, id)
}

func (c *testCloud) readImage(id string) state.Image {
	c.t.Helper()
	return find(c.t, c.Images(mine), func(i state.Image) string { return i.ID }, id)
}

// wantRefusal checks that an error is a refusal of this kind for this resource.
func wantRefusal(t *testing.T, err error, kind state.Kind, resource string) {
	t.Helper()
	var refusal *state.Error
	if !errors.As(err, &refusal) {
		t.Fatalf("the error is %v, not a refusal", err)
	}
	if refusal.Kind != kind || refusal.Resource != resource {
		t.Fatalf("refused as %s of a %s (%v), not as %s of a %s", refusal.Kind, refusal.Resource, err, kind, resource)
	}
}
