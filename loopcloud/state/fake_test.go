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

// world is a cloud with its disks and clock.
type world struct {
	*state.Cloud
	t     *testing.T
	dir   string
	disks *statetest.Disks
	clock *statetest.Clock
	cfg   state.Config
}

func newWorld(t *testing.T, timing state.Timing) *world {
	t.Helper()
	w := &world{
		t: t, dir: filepath.Join(testdir.New(t), "state"), disks: statetest.NewDisks(),
		clock: statetest.NewClock(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)),
	}
	w.cfg = state.Config{
		Dir: w.dir, Disks: w.disks, Clock: w.clock.Now, Timing: timing,
		Accounts: []state.Account{{ID: me}, {ID: other}},
		NewID:    statetest.CountingIDs(),
	}
	w.open()
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if clashes := w.disks.Clashes(); len(clashes) > 0 {
			t.Errorf("two at work on one id: %v", clashes)
		}
	})
	return w
}

func (w *world) open() {
	w.t.Helper()
	c, err := state.Open(w.cfg)
	if err != nil {
		w.t.Fatalf("Open: %v", err)
	}
	w.Cloud = c
}

// restart closes the cloud and opens it again.
func (w *world) restart() {
	w.t.Helper()
	if err := w.Close(); err != nil {
		w.t.Fatalf("Close: %v", err)
	}
	w.open()
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

func (w *world) volume() state.Volume {
	w.t.Helper()
	return must[state.Volume](w.t)(w.CreateVolume(mine, state.VolumeRequest{Zone: zone, SizeGiB: 8}))
}

func (w *world) snapshot() state.Snapshot {
	w.t.Helper()
	return must[state.Snapshot](w.t)(w.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: w.volume().ID}))
}

func (w *world) image(name string) state.Image {
	w.t.Helper()
	return must[state.Image](w.t)(w.CreateImage(mine, imageOf(name, w.snapshot().ID)))
}

func imageOf(name, snapshot string) state.ImageRequest {
	return state.ImageRequest{
		Name:       name,
		Attributes: state.ImageAttributes{RootDevice: "/dev/sda1"},
		Mappings:   []state.Mapping{{Device: "/dev/sda1", Volume: &state.MappedVolume{SnapshotID: snapshot, DeleteOnTermination: true}}},
	}
}

func (w *world) host() string {
	w.t.Helper()
	vm, ok := w.HostVM(home)
	if !ok {
		w.t.Fatal("there is no host")
	}
	return vm.ID
}

func (w *world) attach(volume, device string) state.Attachment {
	w.t.Helper()
	return must[state.Attachment](w.t)(w.AttachVolume(mine, state.AttachRequest{VolumeID: volume, VMID: w.host(), Device: device}))
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

func (w *world) readVolume(id string) state.Volume {
	w.t.Helper()
	return find(w.t, w.Volumes(mine), func(v state.Volume) string { return v.ID }, id)
}

func (w *world) readSnapshot(id string) state.Snapshot {
	w.t.Helper()
	return find(w.t, w.Snapshots(mine), func(s state.Snapshot) string { return s.ID }, id)
}

func (w *world) readImage(id string) state.Image {
	w.t.Helper()
	return find(w.t, w.Images(mine), func(i state.Image) string { return i.ID }, id)
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
