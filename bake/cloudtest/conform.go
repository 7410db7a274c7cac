// Package cloudtest tests implementations of bake.Cloud. A cloud that passes Conform can be
// used for builds. Each cloud's own tests check the form of its requests.
//
// Wire, Throttle and Falsifier wrap the HTTP handler of a cloud: they lose or refuse
// requests, throttle actions, and change responses. Killed and Reaped test that the journal
// of a killed build can be undone.
package cloudtest

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Env is the environment of a test.
type Env struct {
	// New returns a Cloud with a host that has only its first volumes, and with an available
	// source image. Its servers end with the test.
	New func(t *testing.T) bake.Cloud
	// Elsewhere is another region that images can be copied to; empty if there is none.
	Elsewhere string
	// Fail, if not nil, makes the next request of a Cloud that New returned fail.
	Fail func(t *testing.T, cloud bake.Cloud, fault Fault)
	// Late, if not nil, lets the changing calls of a Cloud that New returned lag behind.
	Late func(cloud bake.Cloud) Late
}

// Fault is a way in which a request fails that an implementation must handle by
// itself.
type Fault string

const (
	// Throttled refuses a request because of too many; it has no effect.
	Throttled Fault = "throttled"
	// Lost carries a request out, and loses its response.
	Lost Fault = "lost"
)

// Conform tests a cloud against the contract of bake.Cloud.
func Conform(t *testing.T, env Env) {
	t.Run("every call made once", func(t *testing.T) { testCallMode(t, env, once) })
	t.Run("every call made twice", func(t *testing.T) { testCallMode(t, env, twice) })
	for _, fault := range []Fault{Throttled, Lost} {
		if env.Fail != nil {
			t.Run("every call "+string(fault), func(t *testing.T) { testCallMode(t, env, failing(env, fault)) })
		}
	}
	if env.Late != nil {
		t.Run("changing calls that lag behind", func(t *testing.T) { laggingChanges(t, env) })
	}
	t.Run("names", func(t *testing.T) { namesAreExact(t, env) })
	t.Run("publication", func(t *testing.T) { publication(t, env) })
	t.Run("regions", func(t *testing.T) { regionsAreSeparate(t, env) })
	t.Run("records", func(t *testing.T) { missingRecords(t, env) })
	t.Run("host", func(t *testing.T) { takenDeviceNames(t, env) })
	t.Run("device names", func(t *testing.T) { deviceNames(t, env) })
	t.Run("device taken", func(t *testing.T) { deviceTaken(t, env) })
	t.Run("image name taken", func(t *testing.T) { imageNameTaken(t, env) })
	t.Run("in use", func(t *testing.T) { inUse(t, env) })
	t.Run("builds apart", func(t *testing.T) { buildsAreSeparate(t, env) })
	t.Run("specifications apart", func(t *testing.T) { specificationsAreSeparate(t, env) })
	t.Run("removed", func(t *testing.T) { removedResources(t, env) })
	t.Run("cancelled", func(t *testing.T) { cancelled(t, env) })
}

// testCallMode tests the calls of a build in one mode.
func testCallMode(t *testing.T, env Env, mode callMode) {
	t.Run("life", func(t *testing.T) { lifecycle(t, env, mode) })
	t.Run("copy", func(t *testing.T) { copyLifecycle(t, env, mode, newFixture(t, env).host.Region) })
	if env.Elsewhere != "" {
		t.Run("copy elsewhere", func(t *testing.T) { copyLifecycle(t, env, mode, env.Elsewhere) })
	}
	t.Run("replacement", func(t *testing.T) { replacement(t, env, mode) })
}

// lifecycle makes the calls of a whole build. The outcome must be the same for all modes.
func lifecycle(t *testing.T, env Env, mode callMode) {
	f := newFixture(t, env)

	volume := create(f, mode, "create volume", func() (bake.VolumeID, error) {
		return f.cloud.CreateVolume(f.ctx, f.volumeSpec())
	})
	got := f.volumeIs(volume, available)
	f.checkVolume(got, f.volumeSpec())
	only(t, "volumes of the build", volume)(f.cloud.FindVolumes(f.ctx, f.build))

	device := f.freeDevice()
	act(f, mode, "attach", func() error { return f.cloud.Attach(f.ctx, volume, f.host.ID, device) })
	got = f.volumeIs(volume, attached)
	if got.Host != f.host.ID || got.Device != device {
		t.Errorf("attached to %q as %q, want %q as %q", got.Host, got.Device, f.host.ID, device)
	}
	act(f, mode, "detach", func() error { return f.cloud.Detach(f.ctx, volume, f.host.ID) })
	f.volumeIs(volume, available)

	snapshot := create(f, mode, "create snapshot", func() (bake.SnapshotID, error) {
		return f.cloud.CreateSnapshot(f.ctx, f.snapshotSpec(volume))
	})
	f.checkSnapshot(f.snapshotIs(snapshot, completed), f.snapshotSpec(volume))
	only(t, "snapshots of the volume", snapshot)(f.cloud.FindSnapshots(f.ctx, volume))
	act(f, mode, "delete volume", func() error { return f.cloud.DeleteVolume(f.ctx, volume) })
	f.volumeIsGone(volume)

	imageLifecycle(f, mode, snapshot)
}

// imageLifecycle is the part of lifecycle after the volume was deleted.
func imageLifecycle(f *fixture, mode callMode, snapshot bake.SnapshotID) {
	f.t.Helper()
	spec := f.imageSpec(snapshot)
	only[bake.ImageID](f.t, "images of a free name")(f.cloud.Named(f.ctx, spec.Name))
	image := create(f, mode, "register", func() (bake.ImageID, error) { return f.cloud.Register(f.ctx, spec) })
	f.imageIs(image, usable)
	f.tag(f.cloud, string(image), spec.Tags)
	f.checkImage(f.imageIs(image, usable), spec)
	only(f.t, "images of the snapshot", image)(f.cloud.FindImages(f.ctx, snapshot))
	act(f, mode, "publish", func() error {
		return f.cloud.Publish(f.ctx, bake.PublishSpec{Image: image, Snapshots: []bake.SnapshotID{snapshot}})
	})

	act(f, mode, "deregister", func() error { return f.cloud.Deregister(f.ctx, image) })
	f.imageIsGone(image)
	act(f, mode, "delete snapshot", func() error { return f.cloud.DeleteSnapshot(f.ctx, snapshot) })
	f.snapshotIsGone(snapshot)
	only[bake.ImageID](f.t, "images of the snapshot")(f.cloud.FindImages(f.ctx, snapshot))
}

// takenDeviceNames: a device name in use is in the host's list of them.
func takenDeviceNames(t *testing.T, env Env) {
	f := newFixture(t, env)
	if f.host.ID == "" || f.host.Region == "" || f.host.Zone == "" {
		t.Errorf("an incomplete host: %+v", f.host)
	}
	volume, device := f.volume(), f.freeDevice()
	f.attach(volume, device)
	host, err := f.cloud.Host(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(host.Taken, device) {
		t.Errorf("%s is attached, but taken is %v", device, host.Taken)
	}
}

// deviceNames: there are names, each once, the same every time.
func deviceNames(t *testing.T, env Env) {
	cloud := env.New(t)
	names := cloud.DeviceNames()
	if len(names) == 0 {
		t.Fatal("no device names")
	}
	seen := map[bake.DeviceName]bool{}
	for _, name := range names {
		if seen[name] || !strings.HasPrefix(string(name), "/dev/") {
			t.Errorf("device name %q is twice in the list, or no path", name)
		}
		seen[name] = true
	}
	if again := cloud.DeviceNames(); !slices.Equal(names, again) {
		t.Errorf("device names were %v, now %v", names, again)
	}
}

// deviceTaken: a second volume under one name is refused with bake.ErrDeviceTaken, and another name
// works.
func deviceTaken(t *testing.T, env Env) {
	f := newFixture(t, env)
	first, second, device := f.volume(), f.otherVolume(), f.freeDevice()
	f.attach(first, device)
	if err := f.cloud.Attach(f.ctx, second, f.host.ID, device); !errors.Is(err, bake.ErrDeviceTaken) {
		t.Fatalf("attaching a second volume as %s: %v, want %v", device, err, bake.ErrDeviceTaken)
	}
	f.attach(second, f.freeDevice())
}

// imageNameTaken: the account's image with a name is found, and a second one with that name is
// refused.
func imageNameTaken(t *testing.T, env Env) {
	f := newFixture(t, env)
	snapshot := f.snapshot(f.volume())
	spec := f.imageSpec(snapshot)
	image := f.image(spec)
	only(t, "images of the name", image)(f.cloud.Named(f.ctx, spec.Name))
	other := f.imageSpec(f.anotherSnapshot())
	other.Name = spec.Name
	if id, err := f.cloud.Register(f.ctx, other); err == nil {
		t.Errorf("a second image of the name was registered: %s", id)
	}
}

// inUse: a resource that another one needs is not removed.
func inUse(t *testing.T, env Env) {
	f := newFixture(t, env)
	volume := f.volume()
	snapshot := f.snapshot(volume)
	f.image(f.imageSpec(snapshot))
	if err := f.cloud.DeleteSnapshot(f.ctx, snapshot); err == nil {
		t.Error("the snapshot of an image was deleted")
	}
	f.snapshotIs(snapshot, completed)

	f.attach(volume, f.freeDevice())
	if err := f.cloud.DeleteVolume(f.ctx, volume); err == nil {
		t.Error("an attached volume was deleted")
	}
	f.volumeIs(volume, attached)
}

// buildsAreSeparate: the resources of one build are not listed for another.
func buildsAreSeparate(t *testing.T, env Env) {
	f := newFixture(t, env)
	volume := f.volume()
	only[bake.VolumeID](t, "volumes of another build")(f.cloud.FindVolumes(f.ctx, "another-"+f.build))
	only[bake.SnapshotID](t, "snapshots of a volume without any")(f.cloud.FindSnapshots(f.ctx, volume))
	only[bake.ImageID](t, "images of a snapshot without any")(f.cloud.FindImages(f.ctx, f.snapshot(volume)))
}

// specificationsAreSeparate: another specification creates another resource.
func specificationsAreSeparate(t *testing.T, env Env) {
	f := newFixture(t, env)
	first, second := f.volume(), f.otherVolume()
	if first == second {
		t.Errorf("two specifications made one volume, %s", first)
	}
	found, err := f.cloud.FindVolumes(f.ctx, f.build)
	if err != nil || len(found) != 2 {
		t.Errorf("volumes of the build: %v, %v; want %s and %s", found, err, first, second)
	}
}

// removedResources: a removed resource is unknown, and removing it again later is no
// error.
func removedResources(t *testing.T, env Env) {
	f := newFixture(t, env)
	volume := f.volume()
	snapshot := f.snapshot(volume)
	image := f.image(f.imageSpec(snapshot))
	for _, when := range []string{"there", "gone"} {
		f.removed("image that is "+when, f.cloud.Deregister(f.ctx, image))
		f.imageIsGone(image)
		f.removed("snapshot that is "+when, f.cloud.DeleteSnapshot(f.ctx, snapshot))
		f.snapshotIsGone(snapshot)
		f.removed("attachment that is gone, of a volume that is "+when, f.cloud.Detach(f.ctx, volume, f.host.ID))
		f.removed("volume that is "+when, f.cloud.DeleteVolume(f.ctx, volume))
		f.volumeIsGone(volume)
	}
}

// cancelled: every call that asks the cloud ends with its context.
func cancelled(t *testing.T, env Env) {
	f := newFixture(t, env)
	volume := f.volume()
	snapshot := f.snapshot(volume)
	image := f.image(f.imageSpec(snapshot))
	device := f.freeDevice()
	record := f.record(image)
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	calls := map[string]func() error{
		"Host":           func() error { _, err := f.cloud.Host(ctx); return err },
		"Source":         func() error { _, err := f.cloud.Source(ctx); return err },
		"Named":          func() error { _, err := f.cloud.Named(ctx, "conform"); return err },
		"Copy":           func() error { _, err := f.cloud.Copy(ctx, f.copySpec()); return err },
		"FindCopies":     func() error { _, err := f.cloud.FindCopies(ctx, image, "conform"); return err },
		"Record":         func() error { _, err := f.cloud.Record(ctx, image); return err },
		"Restore":        func() error { _, err := f.cloud.Restore(ctx, record); return err },
		"CreateVolume":   func() error { _, err := f.cloud.CreateVolume(ctx, f.volumeSpec()); return err },
		"Volume":         func() error { _, err := f.cloud.Volume(ctx, volume); return err },
		"FindVolumes":    func() error { _, err := f.cloud.FindVolumes(ctx, f.build); return err },
		"DeleteVolume":   func() error { return f.cloud.DeleteVolume(ctx, volume) },
		"Attach":         func() error { return f.cloud.Attach(ctx, volume, f.host.ID, device) },
		"Detach":         func() error { return f.cloud.Detach(ctx, volume, f.host.ID) },
		"CreateSnapshot": func() error { _, err := f.cloud.CreateSnapshot(ctx, f.snapshotSpec(volume)); return err },
		"Snapshot":       func() error { _, err := f.cloud.Snapshot(ctx, snapshot); return err },
		"FindSnapshots":  func() error { _, err := f.cloud.FindSnapshots(ctx, volume); return err },
		"DeleteSnapshot": func() error { return f.cloud.DeleteSnapshot(ctx, snapshot) },
		"Register":       func() error { _, err := f.cloud.Register(ctx, f.imageSpec(snapshot)); return err },
		"Image":          func() error { _, err := f.cloud.Image(ctx, image); return err },
		"FindImages":     func() error { _, err := f.cloud.FindImages(ctx, snapshot); return err },
		"Deregister":     func() error { return f.cloud.Deregister(ctx, image) },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", name, err)
		}
	}
	f.imageIs(image, usable)
}

// unique returns a word that no earlier test used.
func unique() string { return strings.ToLower(rand.Text()[:10]) }
