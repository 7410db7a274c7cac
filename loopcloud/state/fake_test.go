package state_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// fakeDisks keeps bytes as strings, and complains when two calls work on one id
// at once or when what they need is not there.
type fakeDisks struct {
	mu        sync.Mutex
	volumes   map[string]string // by id: what they hold
	snapshots map[string]string
	attached  map[string]string // device name by volume
	working   map[string]bool
	busy      map[string]bool  // devices in use
	fail      map[string]error // by method
	released  int
	slow      chan struct{} // if set, every call waits for one
	clashes   []string
}

func newFakeDisks() *fakeDisks {
	return &fakeDisks{
		volumes: map[string]string{}, snapshots: map[string]string{}, attached: map[string]string{},
		working: map[string]bool{}, busy: map[string]bool{}, fail: map[string]error{},
	}
}

// do is one call: it works on one id, and does nothing when it is to fail.
func (d *fakeDisks) do(method, id string, effect func() error) error {
	d.mu.Lock()
	if d.working[id] {
		d.clashes = append(d.clashes, method+" "+id)
	}
	d.working[id] = true
	slow := d.slow
	d.mu.Unlock()
	if slow != nil {
		<-slow
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.working[id] = false
	if err := d.fail[method]; err != nil {
		return err
	}
	return effect()
}

func take(from map[string]string, id string) error {
	if _, ok := from[id]; !ok {
		return fmt.Errorf("%s: %w", id, fs.ErrNotExist)
	}
	delete(from, id)
	return nil
}

func copyTo(to map[string]string, id string, from map[string]string, source string) error {
	text, ok := from[source]
	if !ok {
		return fmt.Errorf("%s: %w", source, fs.ErrNotExist)
	}
	to[id] = text
	return nil
}

func (d *fakeDisks) CreateVolume(id string, _ int64, snapshot string) error {
	return d.do("CreateVolume", id, func() error {
		if snapshot == "" {
			d.volumes[id] = ""
			return nil
		}
		return copyTo(d.volumes, id, d.snapshots, snapshot)
	})
}

func (d *fakeDisks) ResizeVolume(id string, bytes int64) error {
	return d.do("ResizeVolume", id, func() error {
		d.volumes[id] += fmt.Sprintf("[%d GiB]", bytes>>30)
		return nil
	})
}

func (d *fakeDisks) DeleteVolume(id string) error {
	return d.do("DeleteVolume", id, func() error { return take(d.volumes, id) })
}

func (d *fakeDisks) AttachVolume(id, name string) (string, error) {
	err := d.do("AttachVolume", id, func() error {
		for _, taken := range d.attached {
			if taken == name {
				return fmt.Errorf("%s: %w", name, state.ErrDeviceTaken)
			}
		}
		d.attached[id] = name
		return nil
	})
	return "/fake" + name, err
}

func (d *fakeDisks) DetachVolume(id string, force bool) error {
	return d.do("DetachVolume", id, func() error {
		if d.busy[id] && !force {
			return fmt.Errorf("%s: %w", id, state.ErrBusy)
		}
		return take(d.attached, id)
	})
}

func (d *fakeDisks) CreateSnapshot(id, volume string) error {
	return d.do("CreateSnapshot", id, func() error { return copyTo(d.snapshots, id, d.volumes, volume) })
}

func (d *fakeDisks) CopySnapshot(id, source string) error {
	return d.do("CopySnapshot", id, func() error { return copyTo(d.snapshots, id, d.snapshots, source) })
}

func (d *fakeDisks) DeleteSnapshot(id string) error {
	return d.do("DeleteSnapshot", id, func() error { return take(d.snapshots, id) })
}

func (d *fakeDisks) ImportSnapshot(id, file string) error {
	return d.do("ImportSnapshot", id, func() error {
		text, err := os.ReadFile(file)
		d.snapshots[id] = string(text)
		return err
	})
}

func (d *fakeDisks) ExportSnapshot(id, file string, bytes int64) error {
	return d.do("ExportSnapshot", id, func() error {
		return os.WriteFile(file, []byte(fmt.Sprintf("%s, %d GiB", d.snapshots[id], bytes>>30)), 0o644)
	})
}

func (d *fakeDisks) ReleaseAll() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.released++
	d.attached = map[string]string{}
	return d.fail["ReleaseAll"]
}

func (d *fakeDisks) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// fakeClock stands still until it is moved.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

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

// world is a cloud with all that it stands on.
type world struct {
	*state.Cloud
	t     *testing.T
	dir   string
	disks *fakeDisks
	clock *fakeClock
	cfg   state.Config
}

func newWorld(t *testing.T, timing state.Timing) *world {
	t.Helper()
	w := &world{
		t: t, dir: filepath.Join(t.TempDir(), "state"), disks: newFakeDisks(),
		clock: &fakeClock{now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)},
	}
	ids := 0
	var mu sync.Mutex
	w.cfg = state.Config{
		Dir: w.dir, Disks: w.disks, Clock: w.clock.Now, Timing: timing,
		Accounts: []state.Account{{ID: me}, {ID: other}},
		NewID: func(prefix string, digits int) string {
			mu.Lock()
			defer mu.Unlock()
			ids++
			return fmt.Sprintf("%s-%0*x", prefix, digits, ids)
		},
	}
	w.open()
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if len(w.disks.clashes) > 0 {
			t.Errorf("two at work on one id: %v", w.disks.clashes)
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

// must is the value of a call that has to succeed.
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

// find is the one of a list with this id, which must be there.
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

// wantRefusal checks that an error is a refusal of this kind about this resource.
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
