// Package cloudtest tests implementations of bake.Cloud. A cloud that passes Conform can be
// used for builds. Each cloud's own tests check the form of its requests.
//
// Wire, Throttle and Falsifier stand before the HTTP handler of a cloud: they lose or refuse
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

// Fault is a way in which a request fails that an implementation must bear by
// itself.
type Fault string

const (
	// Throttled refuses a request as one too many; it has no effect.
	Throttled Fault = "throttled"
	// Lost carries a request out, and loses its answer.
	Lost Fault = "lost"
)

// Conform tests a cloud against the contract of bake.Cloud.
func Conform(t *testing.T, env Env) {
	t.Run("every call made once", func(t *testing.T) { inManner(t, env, once) })
	t.Run("every call made twice", func(t *testing.T) { inManner(t, env, twice) })
	for _, fault := range []Fault{Throttled, Lost} {
		if env.Fail != nil {
			t.Run("every call "+string(fault), func(t *testing.T) { inManner(t, env, failing(env, fault)) })
		}
	}
	if env.Late != nil {
		t.Run("changing calls that lag behind", func(t *testing.T) { changingLags(t, env) })
	}
	t.Run("names", func(t *testing.T) { namesAreExact(t, env) })
	t.Run("publication", func(t *testing.T) { publication(t, env) })
	t.Run("regions", func(t *testing.T) { regionsApart(t, env) })
	t.Run("records", func(t *testing.T) { recordsOfNothing(t, env) })
	t.Run("host", func(t *testing.T) { hostKnowsWhatIsTaken(t, env) })
	t.Run("device names", func(t *testing.T) { deviceNames(t, env) })
	t.Run("device taken", func(t *testing.T) { deviceTaken(t, env) })
	t.Run("image name taken", func(t *testing.T) { imageNameTaken(t, env) })
	t.Run("in use", func(t *testing.T) { inUse(t, env) })
	t.Run("builds apart", func(t *testing.T) { buildsApart(t, env) })
	t.Run("specifications apart", func(t *testing.T) { specificationsApart(t, env) })
	t.Run("removed", func(t *testing.T) { removedIsUnknown(t, env) })
	t.Run("cancelled", func(t *testing.T) { cancelled(t, env) })
}

// inManner makes calls in a manner.
func inManner(t *testing.T, env Env, how manner) {
	t.Run("life", func(t *testing.T) { life(t, env, how) })
	t.Run("copy", func(t *testing.T) { lifeOfCopy(t, env, how, newStage(t, env).host.Region) })
	if env.Elsewhere != "" {
		t.Run("copy elsewhere", func(t *testing.T) { lifeOfCopy(t, env, how, env.Elsewhere) })
	}
	t.Run("replacement", func(t *testing.T) { replacement(t, env, how) })
}

// life makes the calls of a whole build. The manner is the way in which each call is made;
// the outcome must be the same for all of them.
func life(t *testing.T, env Env, how manner) {
	s := newStage(t, env)

	volume := create(s, how, "create volume", func() (bake.VolumeID, error) {
		return s.cloud.CreateVolume(s.ctx, s.volumeSpec())
	})
	got := s.volumeIs(volume, available)
	s.checkVolume(got, s.volumeSpec())
	only(t, "volumes of the build", volume)(s.cloud.FindVolumes(s.ctx, s.build))

	device := s.freeDevice()
	act(s, how, "attach", func() error { return s.cloud.Attach(s.ctx, volume, s.host.ID, device) })
	got = s.volumeIs(volume, attached)
	if got.Host != s.host.ID || got.Device != device {
		t.Errorf("attached to %q as %q, want %q as %q", got.Host, got.Device, s.host.ID, device)
	}
	act(s, how, "detach", func() error { return s.cloud.Detach(s.ctx, volume, s.host.ID) })
	s.volumeIs(volume, available)

	snapshot := create(s, how, "create snapshot", func() (bake.SnapshotID, error) {
		return s.cloud.CreateSnapshot(s.ctx, s.snapshotSpec(volume))
	})
	s.checkSnapshot(s.snapshotIs(snapshot, completed), s.snapshotSpec(volume))
	only(t, "snapshots of the volume", snapshot)(s.cloud.FindSnapshots(s.ctx, volume))
	act(s, how, "delete volume", func() error { return s.cloud.DeleteVolume(s.ctx, volume) })
	s.volumeIsGone(volume)

	lifeOfImage(s, how, snapshot)
}

// lifeOfImage is the part of life after the volume was deleted.
func lifeOfImage(s *stage, how manner, snapshot bake.SnapshotID) {
	s.t.Helper()
	spec := s.imageSpec(snapshot)
	only[bake.ImageID](s.t, "images of a free name")(s.cloud.Named(s.ctx, spec.Name))
	image := create(s, how, "register", func() (bake.ImageID, error) { return s.cloud.Register(s.ctx, spec) })
	s.imageIs(image, usable)
	s.tag(s.cloud, string(image), spec.Tags)
	s.checkImage(s.imageIs(image, usable), spec)
	only(s.t, "images of the snapshot", image)(s.cloud.FindImages(s.ctx, snapshot))
	act(s, how, "publish", func() error {
		return s.cloud.Publish(s.ctx, bake.PublishSpec{Image: image, Snapshots: []bake.SnapshotID{snapshot}})
	})

	act(s, how, "deregister", func() error { return s.cloud.Deregister(s.ctx, image) })
	s.imageIsGone(image)
	act(s, how, "delete snapshot", func() error { return s.cloud.DeleteSnapshot(s.ctx, snapshot) })
	s.snapshotIsGone(snapshot)
	only[bake.ImageID](s.t, "images of the snapshot")(s.cloud.FindImages(s.ctx, snapshot))
}

// hostKnowsWhatIsTaken: a device name in use is in the list of them.
func hostKnowsWhatIsTaken(t *testing.T, env Env) {
	s := newStage(t, env)
	if s.host.ID == "" || s.host.Region == "" || s.host.Zone == "" {
		t.Errorf("an incomplete host: %+v", s.host)
	}
	volume, device := s.volume(), s.freeDevice()
	s.attach(volume, device)
	host, err := s.cloud.Host(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(host.Taken, device) {
		t.Errorf("%s is attached, but taken is %v", device, host.Taken)
	}
}

// deviceNames: there are some, each once, the same every time.
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

// deviceTaken: a second volume under one name is refused in the agreed way, and
// another name works.
func deviceTaken(t *testing.T, env Env) {
	s := newStage(t, env)
	first, second, device := s.volume(), s.otherVolume(), s.freeDevice()
	s.attach(first, device)
	if err := s.cloud.Attach(s.ctx, second, s.host.ID, device); !errors.Is(err, bake.ErrDeviceTaken) {
		t.Fatalf("attaching a second volume as %s: %v, want %v", device, err, bake.ErrDeviceTaken)
	}
	s.attach(second, s.freeDevice())
}

// imageNameTaken: an own image in the way is known, and a second one of its name is
// refused.
func imageNameTaken(t *testing.T, env Env) {
	s := newStage(t, env)
	snapshot := s.snapshot(s.volume())
	spec := s.imageSpec(snapshot)
	image := s.image(spec)
	only(t, "images of the name", image)(s.cloud.Named(s.ctx, spec.Name))
	other := s.imageSpec(s.anotherSnapshot())
	other.Name = spec.Name
	if id, err := s.cloud.Register(s.ctx, other); err == nil {
		t.Errorf("a second image of the name was registered: %s", id)
	}
}

// inUse: a resource that another one needs is not removed.
func inUse(t *testing.T, env Env) {
	s := newStage(t, env)
	volume := s.volume()
	snapshot := s.snapshot(volume)
	s.image(s.imageSpec(snapshot))
	if err := s.cloud.DeleteSnapshot(s.ctx, snapshot); err == nil {
		t.Error("the snapshot of an image was deleted")
	}
	s.snapshotIs(snapshot, completed)

	s.attach(volume, s.freeDevice())
	if err := s.cloud.DeleteVolume(s.ctx, volume); err == nil {
		t.Error("an attached volume was deleted")
	}
	s.volumeIs(volume, attached)
}

// buildsApart: the resources of one build are not listed for another.
func buildsApart(t *testing.T, env Env) {
	s := newStage(t, env)
	volume := s.volume()
	only[bake.VolumeID](t, "volumes of another build")(s.cloud.FindVolumes(s.ctx, "another-"+s.build))
	only[bake.SnapshotID](t, "snapshots of a volume without any")(s.cloud.FindSnapshots(s.ctx, volume))
	only[bake.ImageID](t, "images of a snapshot without any")(s.cloud.FindImages(s.ctx, s.snapshot(volume)))
}

// specificationsApart: another specification creates another resource.
func specificationsApart(t *testing.T, env Env) {
	s := newStage(t, env)
	first, second := s.volume(), s.otherVolume()
	if first == second {
		t.Errorf("two specifications made one volume, %s", first)
	}
	found, err := s.cloud.FindVolumes(s.ctx, s.build)
	if err != nil || len(found) != 2 {
		t.Errorf("volumes of the build: %v, %v; want %s and %s", found, err, first, second)
	}
}

// removedIsUnknown: a removed resource is unknown, and removing it again later is no
// error.
func removedIsUnknown(t *testing.T, env Env) {
	s := newStage(t, env)
	volume := s.volume()
	snapshot := s.snapshot(volume)
	image := s.image(s.imageSpec(snapshot))
	for _, when := range []string{"there", "gone"} {
		s.removed("image that is "+when, s.cloud.Deregister(s.ctx, image))
		s.imageIsGone(image)
		s.removed("snapshot that is "+when, s.cloud.DeleteSnapshot(s.ctx, snapshot))
		s.snapshotIsGone(snapshot)
		s.removed("attachment that is gone, of a volume that is "+when, s.cloud.Detach(s.ctx, volume, s.host.ID))
		s.removed("volume that is "+when, s.cloud.DeleteVolume(s.ctx, volume))
		s.volumeIsGone(volume)
	}
}

// cancelled: every call that asks the cloud ends with its context.
func cancelled(t *testing.T, env Env) {
	s := newStage(t, env)
	volume := s.volume()
	snapshot := s.snapshot(volume)
	image := s.image(s.imageSpec(snapshot))
	device := s.freeDevice()
	record := s.record(image)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	calls := map[string]func() error{
		"Host":           func() error { _, err := s.cloud.Host(ctx); return err },
		"Source":         func() error { _, err := s.cloud.Source(ctx); return err },
		"Named":          func() error { _, err := s.cloud.Named(ctx, "conform"); return err },
		"Copy":           func() error { _, err := s.cloud.Copy(ctx, s.copySpec()); return err },
		"FindCopies":     func() error { _, err := s.cloud.FindCopies(ctx, image, "conform"); return err },
		"Record":         func() error { _, err := s.cloud.Record(ctx, image); return err },
		"Restore":        func() error { _, err := s.cloud.Restore(ctx, record); return err },
		"CreateVolume":   func() error { _, err := s.cloud.CreateVolume(ctx, s.volumeSpec()); return err },
		"Volume":         func() error { _, err := s.cloud.Volume(ctx, volume); return err },
		"FindVolumes":    func() error { _, err := s.cloud.FindVolumes(ctx, s.build); return err },
		"DeleteVolume":   func() error { return s.cloud.DeleteVolume(ctx, volume) },
		"Attach":         func() error { return s.cloud.Attach(ctx, volume, s.host.ID, device) },
		"Detach":         func() error { return s.cloud.Detach(ctx, volume, s.host.ID) },
		"CreateSnapshot": func() error { _, err := s.cloud.CreateSnapshot(ctx, s.snapshotSpec(volume)); return err },
		"Snapshot":       func() error { _, err := s.cloud.Snapshot(ctx, snapshot); return err },
		"FindSnapshots":  func() error { _, err := s.cloud.FindSnapshots(ctx, volume); return err },
		"DeleteSnapshot": func() error { return s.cloud.DeleteSnapshot(ctx, snapshot) },
		"Register":       func() error { _, err := s.cloud.Register(ctx, s.imageSpec(snapshot)); return err },
		"Image":          func() error { _, err := s.cloud.Image(ctx, image); return err },
		"FindImages":     func() error { _, err := s.cloud.FindImages(ctx, snapshot); return err },
		"Deregister":     func() error { return s.cloud.Deregister(ctx, image) },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", name, err)
		}
	}
	s.imageIs(image, usable)
}

// unique is a word that no earlier test used.
func unique() string { return strings.ToLower(rand.Text()[:10]) }
