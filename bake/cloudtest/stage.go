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
	// stateTimeout bounds a wait for a state. Clouds take as long as they take.
	stateTimeout = 5 * time.Minute
	// A wait looks again after firstLook, and doubles up to longestLook.
	firstLook   = 2 * time.Millisecond
	longestLook = 2 * time.Second
)

// stage is a cloud with the host and the source image of a build.
type stage struct {
	t      *testing.T
	ctx    context.Context
	cloud  bake.Cloud
	host   bake.Host
	source bake.Image
	build  bake.BuildID
}

func newStage(t *testing.T, env Env) *stage {
	t.Helper()
	s := &stage{t: t, ctx: t.Context(), cloud: env.New(t), build: bake.BuildID("conform-" + unique())}
	var err error
	if s.host, err = s.cloud.Host(s.ctx); err != nil {
		t.Fatalf("host: %v", err)
	}
	if s.source, err = s.cloud.Source(s.ctx); err != nil {
		t.Fatalf("source: %v", err)
	}
	if s.source.State != bake.ImageAvailable || s.source.Root.Snapshot == "" || s.source.Root.SizeGiB == 0 || s.source.RootDevice == "" {
		t.Fatalf("the source image cannot be built from: %+v", s.source)
	}
	return s
}

func (s *stage) volumeSpec() bake.VolumeSpec {
	return bake.VolumeSpec{
		Build:    s.build,
		Zone:     s.host.Zone,
		Snapshot: s.source.Root.Snapshot,
		SizeGiB:  s.source.Root.SizeGiB,
		Type:     s.source.Root.Type,
		Tags:     map[string]string{"purpose": "conformance"},
	}
}

func (s *stage) snapshotSpec(volume bake.VolumeID) bake.SnapshotSpec {
	return bake.SnapshotSpec{
		Build:       s.build,
		Volume:      volume,
		Description: "made by a conformance test",
		Tags:        map[string]string{"purpose": "conformance", "kind": "snapshot"},
	}
}

func (s *stage) imageSpec(snapshot bake.SnapshotID) bake.ImageSpec {
	return bake.ImageSpec{
		Build:       s.build,
		Name:        "conform-" + unique(),
		Description: "made by a conformance test",
		Tags:        map[string]string{"purpose": "conformance", "kind": "image"},
		Snapshot:    snapshot,
		Source:      &s.source,
		SizeGiB:     s.source.Root.SizeGiB,
		VolumeType:  s.source.Root.Type,
	}
}

// volume makes a volume and waits for it; it goes with the test.
func (s *stage) volume() bake.VolumeID { return s.volumeLike(s.volumeSpec()) }

// otherVolume makes a volume of another specification: a blank one.
func (s *stage) otherVolume() bake.VolumeID {
	spec := s.volumeSpec()
	spec.Snapshot = ""
	return s.volumeLike(spec)
}

func (s *stage) volumeLike(spec bake.VolumeSpec) bake.VolumeID {
	s.t.Helper()
	id, err := s.cloud.CreateVolume(s.ctx, spec)
	if err != nil {
		s.t.Fatalf("create volume: %v", err)
	}
	s.atEnd("delete the volume", func(ctx context.Context) error { return s.cloud.DeleteVolume(ctx, id) })
	s.volumeIs(id, available)
	return id
}

// attach attaches a volume and waits for it; the test's end detaches it.
func (s *stage) attach(volume bake.VolumeID, device bake.DeviceName) {
	s.t.Helper()
	if err := s.cloud.Attach(s.ctx, volume, s.host.ID, device); err != nil {
		s.t.Fatalf("attach: %v", err)
	}
	s.atEnd("detach", func(ctx context.Context) error {
		err := s.cloud.Detach(ctx, volume, s.host.ID)
		await(ctx, s.t, "detached", func() (bake.Volume, error) { return s.cloud.Volume(ctx, volume) }, available)
		return err
	})
	s.volumeIs(volume, attached)
}

// snapshot makes a snapshot and waits for it; it goes with the test.
func (s *stage) snapshot(volume bake.VolumeID) bake.SnapshotID {
	s.t.Helper()
	id, err := s.cloud.CreateSnapshot(s.ctx, s.snapshotSpec(volume))
	if err != nil {
		s.t.Fatalf("create snapshot: %v", err)
	}
	s.atEnd("delete the snapshot", func(ctx context.Context) error { return s.cloud.DeleteSnapshot(ctx, id) })
	s.snapshotIs(id, completed)
	return id
}

func (s *stage) anotherSnapshot() bake.SnapshotID {
	s.t.Helper()
	return s.snapshot(s.otherVolume())
}

// image registers an image and waits for it; it goes with the test.
func (s *stage) image(spec bake.ImageSpec) bake.ImageID {
	s.t.Helper()
	id, err := s.cloud.Register(s.ctx, spec)
	if err != nil {
		s.t.Fatalf("register: %v", err)
	}
	s.atEnd("deregister", func(ctx context.Context) error { return s.cloud.Deregister(ctx, id) })
	s.imageIs(id, usable)
	s.tag(s.cloud, string(id), spec.Tags)
	return id
}

// atEnd undoes a step when the test has ended, on a context that has not.
func (s *stage) atEnd(what string, undo func(context.Context) error) {
	s.t.Cleanup(func() {
		if err := undo(context.WithoutCancel(s.ctx)); err != nil {
			s.t.Errorf("cannot %s at the end: %v", what, err)
		}
	})
}

// freeDevice returns the best device name that is not taken.
func (s *stage) freeDevice() bake.DeviceName {
	s.t.Helper()
	host, err := s.cloud.Host(s.ctx)
	if err != nil {
		s.t.Fatalf("host: %v", err)
	}
	for _, name := range s.cloud.DeviceNames() {
		if !slices.Contains(host.Taken, name) {
			return name
		}
	}
	s.t.Fatal("all device names are taken")
	return ""
}

// The states that tests wait for. Those that cannot come to them answer an
// error.

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

func (s *stage) volumeIs(id bake.VolumeID, is func(bake.Volume) (bool, error)) bake.Volume {
	s.t.Helper()
	return await(s.ctx, s.t, "volume "+string(id), func() (bake.Volume, error) { return s.cloud.Volume(s.ctx, id) }, is)
}

func (s *stage) snapshotIs(id bake.SnapshotID, is func(bake.Snapshot) (bool, error)) bake.Snapshot {
	s.t.Helper()
	got := await(s.ctx, s.t, "snapshot "+string(id), func() (bake.Snapshot, error) { return s.cloud.Snapshot(s.ctx, id) }, is)
	if got.Percent < -1 || got.Percent > 100 {
		s.t.Errorf("snapshot %s is at %d percent", id, got.Percent)
	}
	return got
}

func (s *stage) imageIs(id bake.ImageID, is func(bake.Image) (bool, error)) bake.Image {
	s.t.Helper()
	return s.imageIsIn(s.cloud, id, is)
}

func (s *stage) imageIsIn(cloud bake.Cloud, id bake.ImageID, is func(bake.Image) (bool, error)) bake.Image {
	s.t.Helper()
	return await(s.ctx, s.t, "image "+string(id), func() (bake.Image, error) { return cloud.Image(s.ctx, id) }, is)
}

func (s *stage) volumeIsGone(id bake.VolumeID) {
	s.t.Helper()
	isGone(s, "volume "+string(id), func() (bool, error) {
		v, err := s.cloud.Volume(s.ctx, id)
		return v.State == bake.VolumeDeleting, err
	})
}

func (s *stage) snapshotIsGone(id bake.SnapshotID) {
	s.t.Helper()
	s.snapshotIsGoneFrom(s.cloud, id)
}

func (s *stage) snapshotIsGoneFrom(cloud bake.Cloud, id bake.SnapshotID) {
	s.t.Helper()
	isGone(s, "snapshot "+string(id), func() (bool, error) { _, err := cloud.Snapshot(s.ctx, id); return false, err })
}

func (s *stage) imageIsGone(id bake.ImageID) {
	s.t.Helper()
	s.imageIsGoneFrom(s.cloud, id)
}

func (s *stage) imageIsGoneFrom(cloud bake.Cloud, id bake.ImageID) {
	s.t.Helper()
	isGone(s, "image "+string(id), func() (bool, error) { _, err := cloud.Image(s.ctx, id); return false, err })
}

// isGone waits until the cloud does not know a resource, or shows that it is being deleted,
// as some clouds do for an hour.
func isGone(s *stage, what string, read func() (deleting bool, err error)) {
	s.t.Helper()
	await(s.ctx, s.t, "end of "+what, func() (bool, error) {
		deleting, err := read()
		if errors.Is(err, bake.ErrNotFound) {
			return true, nil
		}
		return deleting, err
	}, func(gone bool) (bool, error) { return gone, nil })
}

// removed checks the answer to a removing call.
func (s *stage) removed(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Errorf("removing the %s: %v", what, err)
	}
}

// skew is how far the clocks of the test and of the cloud may be apart.
const skew = 20 * time.Minute

// recent checks the creation time of a resource of this test.
func (s *stage) recent(what string, created time.Time) {
	s.t.Helper()
	if age := time.Since(created); age < -skew || age > skew+stateTimeout {
		s.t.Errorf("the %s says that it was created at %s", what, created)
	}
}

// checkVolume checks the properties that show that a volume is a build's.
func (s *stage) checkVolume(got bake.Volume, spec bake.VolumeSpec) {
	s.t.Helper()
	if got.SizeGiB != spec.SizeGiB || got.Snapshot != spec.Snapshot || got.Zone != spec.Zone || got.Build != spec.Build {
		s.t.Errorf("volume %+v of the specification %+v", got, spec)
	}
	s.recent("volume", got.Created)
}

// checkSnapshot checks the properties that show that a snapshot is a build's.
func (s *stage) checkSnapshot(got bake.Snapshot, spec bake.SnapshotSpec) {
	s.t.Helper()
	if got.Volume != spec.Volume || got.Description != spec.Description {
		s.t.Errorf("snapshot %+v of the specification %+v", got, spec)
	}
	s.recent("snapshot", got.Begun)
}

// tag gives a resource the tags that creating it could not.
func (s *stage) tag(cloud bake.Cloud, id string, tags map[string]string) {
	s.t.Helper()
	for range 2 {
		if err := cloud.Tag(s.ctx, id, tags); err != nil {
			s.t.Errorf("tag %s: %v", id, err)
		}
	}
}

// checkImage compares an image with its specification.
func (s *stage) checkImage(got bake.Image, spec bake.ImageSpec) {
	s.t.Helper()
	if got.Name != spec.Name || got.Root.Snapshot != spec.Snapshot || got.RootDevice == "" {
		s.t.Errorf("image %+v of the specification %+v", got, spec)
	}
	if got.Owner != s.host.Account || len(got.Snapshots) == 0 || got.Snapshots[0] != spec.Snapshot {
		s.t.Errorf("image %+v of account %s, asked for as %+v", got, s.host.Account, spec)
	}
	s.recent("image", got.Begun)
	s.tagged(got, spec.Tags)
	if got.Architecture != s.source.Architecture {
		s.t.Errorf("image for %q made of one for %q", got.Architecture, s.source.Architecture)
	}
}

// tagged checks that an image has the tags.
func (s *stage) tagged(got bake.Image, tags map[string]string) {
	s.t.Helper()
	for key, value := range tags {
		if got.Tags[key] != value {
			s.t.Errorf("tag %s of image %s is %q, want %q", key, got.ID, got.Tags[key], value)
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
