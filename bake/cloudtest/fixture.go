package cloudtest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

const (
	// stateTimeout bounds a wait for a state. It is long, because clouds can be slow.
	stateTimeout = 5 * time.Minute
	// A wait looks again after firstLook, and doubles up to longestLook.
	firstLook   = 2 * time.Millisecond
	longestLook = 2 * time.Second
)

// fixture is a cloud with the host and the source image of a build.
type fixture struct {
	t      *testing.T
	ctx    context.Context
	cloud  bake.Cloud
	host   bake.Host
	source bake.Image
	build  bake.BuildID
}

func newFixture(t *testing.T, env Env) *fixture {
	t.Helper()
	f := &fixture{t: t, ctx: t.Context(), cloud: env.New(t), build: bake.BuildID("conform-" + unique())}
	var err error
	if f.host, err = f.cloud.Host(f.ctx); err != nil {
		t.Fatalf("host: %v", err)
	}
	if f.source, err = f.cloud.Source(f.ctx); err != nil {
		t.Fatalf("source: %v", err)
	}
	if f.source.State != bake.ImageAvailable || f.source.Root.Snapshot == "" || f.source.Root.SizeGiB == 0 || f.source.RootDevice == "" {
		t.Fatalf("the source image cannot be built from: %+v", f.source)
	}
	return f
}

func (f *fixture) volumeSpec() bake.VolumeSpec {
	return bake.VolumeSpec{
		Build:    f.build,
		Zone:     f.host.Zone,
		Snapshot: f.source.Root.Snapshot,
		SizeGiB:  f.source.Root.SizeGiB,
		Type:     f.source.Root.Type,
		Tags:     map[string]string{"purpose": "conformance"},
	}
}

func (f *fixture) snapshotSpec(volume bake.VolumeID) bake.SnapshotSpec {
	return bake.SnapshotSpec{
		Build:       f.build,
		Volume:      volume,
		Description: "made by a conformance test",
		Tags:        map[string]string{"purpose": "conformance", "kind": "snapshot"},
	}
}

func (f *fixture) imageSpec(snapshot bake.SnapshotID) bake.ImageSpec {
	return bake.ImageSpec{
		Build:       f.build,
		Name:        "conform-" + unique(),
		Description: "made by a conformance test",
		Tags:        map[string]string{"purpose": "conformance", "kind": "image"},
		Snapshot:    snapshot,
		Source:      &f.source,
		SizeGiB:     f.source.Root.SizeGiB,
		VolumeType:  f.source.Root.Type,
	}
}

// volume creates a volume and waits for it; the end of the test deletes it.
func (f *fixture) volume() bake.VolumeID { return f.volumeLike(f.volumeSpec()) }

// otherVolume creates a blank volume, which has another specification.
func (f *fixture) otherVolume() bake.VolumeID {
	spec := f.volumeSpec()
	spec.Snapshot = ""
	return f.volumeLike(spec)
}

func (f *fixture) volumeLike(spec bake.VolumeSpec) bake.VolumeID {
	f.t.Helper()
	id, err := f.cloud.CreateVolume(f.ctx, spec)
	if err != nil {
		f.t.Fatalf("create volume: %v", err)
	}
	f.atEnd("delete the volume", func(ctx context.Context) error { return f.cloud.DeleteVolume(ctx, id) })
	f.volumeIs(id, available)
	return id
}

// attach attaches a volume and waits for it; the end of the test detaches it.
func (f *fixture) attach(volume bake.VolumeID, device bake.DeviceName) {
	f.t.Helper()
	if err := f.cloud.Attach(f.ctx, volume, f.host.ID, device); err != nil {
		f.t.Fatalf("attach: %v", err)
	}
	f.atEnd("detach", func(ctx context.Context) error {
		err := f.cloud.Detach(ctx, volume, f.host.ID)
		await(ctx, f.t, "detached", func() (bake.Volume, error) { return f.cloud.Volume(ctx, volume) }, available)
		return err
	})
	f.volumeIs(volume, attached)
}

// snapshot creates a snapshot and waits for it; the end of the test deletes it.
func (f *fixture) snapshot(volume bake.VolumeID) bake.SnapshotID {
	f.t.Helper()
	id, err := f.cloud.CreateSnapshot(f.ctx, f.snapshotSpec(volume))
	if err != nil {
		f.t.Fatalf("create snapshot: %v", err)
	}
	f.atEnd("delete the snapshot", func(ctx context.Context) error { return f.cloud.DeleteSnapshot(ctx, id) })
	f.snapshotIs(id, completed)
	return id
}

func (f *fixture) anotherSnapshot() bake.SnapshotID {
	f.t.Helper()
	return f.snapshot(f.otherVolume())
}

// image registers an image and waits for it; the end of the test deregisters it.
func (f *fixture) image(spec bake.ImageSpec) bake.ImageID {
	f.t.Helper()
	id, err := f.cloud.Register(f.ctx, spec)
	if err != nil {
		f.t.Fatalf("register: %v", err)
	}
	f.atEnd("deregister", func(ctx context.Context) error { return f.cloud.Deregister(ctx, id) })
	f.imageIs(id, usable)
	f.tag(f.cloud, string(id), spec.Tags)
	return id
}

// atEnd undoes a step at the end of the test, in its own context.
func (f *fixture) atEnd(what string, undo func(context.Context) error) {
	f.t.Cleanup(func() {
		if err := undo(context.WithoutCancel(f.ctx)); err != nil {
			f.t.Errorf("cannot %s at the end: %v", what, err)
		}
	})
}

// freeDevice returns the best device name that is not taken.
func (f *fixture) freeDevice() bake.DeviceName {
	f.t.Helper()
	host, err := f.cloud.Host(f.ctx)
	if err != nil {
		f.t.Fatalf("host: %v", err)
	}
	for _, name := range f.cloud.DeviceNames() {
		if !slices.Contains(host.Taken, name) {
			return name
		}
	}
	f.t.Fatal("all device names are taken")
	return ""
}

// The states that tests wait for. A function returns an error if the resource cannot reach the state.

func available(v bake.Volume) (bool, error) {
	if v.State == bake.VolumeError || v.State == bake.VolumeDeleting {
		return false, errors.New("volume is " + string(v.State))
	}
	return v.State == bake.VolumeAvailable && v.Attach == bake.Detached, nil
}

func attached(v bake.Volume) (bool, error) {
	if v.State == bake.VolumeError || v.State == bake.VolumeDeleting {
		return false, errors.New("volume is " + string(v.State))
	}
	return v.State == bake.VolumeInUse && v.Attach == bake.Attached, nil
}

func completed(s bake.Snapshot) (bool, error) {
	if s.State == bake.SnapshotError {
		return false, errors.New("snapshot failed: " + s.Reason)
	}
	return s.State == bake.SnapshotCompleted, nil
}

func usable(i bake.Image) (bool, error) {
	if i.State == bake.ImageFailed {
		return false, errors.New("image failed: " + i.Reason)
	}
	return i.State == bake.ImageAvailable, nil
}

func (f *fixture) volumeIs(id bake.VolumeID, is func(bake.Volume) (bool, error)) bake.Volume {
	f.t.Helper()
	return await(f.ctx, f.t, "volume "+string(id), func() (bake.Volume, error) { return f.cloud.Volume(f.ctx, id) }, is)
}

func (f *fixture) snapshotIs(id bake.SnapshotID, is func(bake.Snapshot) (bool, error)) bake.Snapshot {
	f.t.Helper()
	got := await(f.ctx, f.t, "snapshot "+string(id), func() (bake.Snapshot, error) { return f.cloud.Snapshot(f.ctx, id) }, is)
	if got.Percent < -1 || got.Percent > 100 {
		f.t.Errorf("snapshot %s is at %d percent", id, got.Percent)
	}
	return got
}

func (f *fixture) imageIs(id bake.ImageID, is func(bake.Image) (bool, error)) bake.Image {
	f.t.Helper()
	return f.imageIsIn(f.cloud, id, is)
}

func (f *fixture) imageIsIn(cloud bake.Cloud, id bake.ImageID, is func(bake.Image) (bool, error)) bake.Image {
	f.t.Helper()
	return await(f.ctx, f.t, "image "+string(id), func() (bake.Image, error) { return cloud.Image(f.ctx, id) }, is)
}

func (f *fixture) volumeIsGone(id bake.VolumeID) {
	f.t.Helper()
	isGone(f, "volume "+string(id), func() (bool, error) {
		v, err := f.cloud.Volume(f.ctx, id)
		return v.State == bake.VolumeDeleting, err
	})
}

func (f *fixture) snapshotIsGone(id bake.SnapshotID) {
	f.t.Helper()
	f.snapshotIsGoneFrom(f.cloud, id)
}

func (f *fixture) snapshotIsGoneFrom(cloud bake.Cloud, id bake.SnapshotID) {
	f.t.Helper()
	isGone(f, "snapshot "+string(id), func() (bool, error) { _, err := cloud.Snapshot(f.ctx, id); return false, err })
}

func (f *fixture) imageIsGone(id bake.ImageID) {
	f.t.Helper()
	f.imageIsGoneFrom(f.cloud, id)
}

func (f *fixture) imageIsGoneFrom(cloud bake.Cloud, id bake.ImageID) {
	f.t.Helper()
	isGone(f, "image "+string(id), func() (bool, error) { _, err := cloud.Image(f.ctx, id); return false, err })
}

// isGone waits until the cloud does not know a resource, or shows that it is being deleted,
// as some clouds do for an hour.
func isGone(f *fixture, what string, read func() (deleting bool, err error)) {
	f.t.Helper()
	await(f.ctx, f.t, "end of "+what, func() (bool, error) {
		deleting, err := read()
		if errors.Is(err, bake.ErrNotFound) {
			return true, nil
		}
		return deleting, err
	}, func(gone bool) (bool, error) { return gone, nil })
}

// removed checks the response to a removing call.
func (f *fixture) removed(what string, err error) {
	f.t.Helper()
	if err != nil {
		f.t.Errorf("removing the %s: %v", what, err)
	}
}

// skew is how far the clocks of the test and of the cloud may be apart.
const skew = 20 * time.Minute

// recent checks the creation time of a resource of this test.
func (f *fixture) recent(what string, created time.Time) {
	f.t.Helper()
	if age := time.Since(created); age < -skew || age > skew+stateTimeout {
		f.t.Errorf("the %s says that it was created at %s", what, created)
	}
}

// checkVolume checks the properties that show that a volume is a build's.
func (f *fixture) checkVolume(got bake.Volume, spec bake.VolumeSpec) {
	f.t.Helper()
	if got.SizeGiB != spec.SizeGiB || got.Snapshot != spec.Snapshot || got.Zone != spec.Zone || got.Build != spec.Build {
		f.t.Errorf("volume %+v of the specification %+v", got, spec)
	}
	f.recent("volume", got.Created)
}

// checkSnapshot checks the properties that show that a snapshot is a build's.
func (f *fixture) checkSnapshot(got bake.Snapshot, spec bake.SnapshotSpec) {
	f.t.Helper()
	if got.Volume != spec.Volume || got.Description != spec.Description {
		f.t.Errorf("snapshot %+v of the specification %+v", got, spec)
	}
	f.recent("snapshot", got.Begun)
}

// tag gives a resource the tags that creating it could not.
func (f *fixture) tag(cloud bake.Cloud, id string, tags map[string]string) {
	f.t.Helper()
	for range 2 {
		if err := cloud.Tag(f.ctx, id, tags); err != nil {
			f.t.Errorf("tag %s: %v", id, err)
		}
	}
}

// checkImage compares an image with its specification.
func (f *fixture) checkImage(got bake.Image, spec bake.ImageSpec) {
	f.t.Helper()
	if got.Name != spec.Name || got.Root.Snapshot != spec.Snapshot || got.RootDevice == "" {
		f.t.Errorf("image %+v of the specification %+v", got, spec)
	}
	if got.Owner != f.host.Account || len(got.Snapshots) == 0 || got.Snapshots[0] != spec.Snapshot {
		f.t.Errorf("image %+v of account %s, asked for as %+v", got, f.host.Account, spec)
	}
	f.recent("image", got.Begun)
	f.tagged(got, spec.Tags)
	if got.Architecture != f.source.Architecture {
		f.t.Errorf("image for %q made of one for %q", got.Architecture, f.source.Architecture)
	}
}

// tagged checks that an image has the tags.
func (f *fixture) tagged(got bake.Image, tags map[string]string) {
	f.t.Helper()
	for key, value := range tags {
		if got.Tags[key] != value {
			f.t.Errorf("tag %s of image %s is %q, want %q", key, got.ID, got.Tags[key], value)
		}
	}
}

// await reads a resource until it is in the expected state.
func await[T any](ctx context.Context, t *testing.T, what string, read func() (T, error), is func(T) (bool, error)) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	for look := firstLook; ; look = min(2*look, longestLook) {
		got, err := read()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		ok, err := is(got)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if ok {
			return got
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: still %+v", what, got)
		case <-time.After(look):
		}
	}
}

// only returns a check that a list holds these resources and no more.
func only[T comparable](t *testing.T, what string, want ...T) func([]T, error) {
	t.Helper()
	return func(got []T, err error) {
		t.Helper()
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v alone", what, got, err, want)
		}
	}
}
