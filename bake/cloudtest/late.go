package cloudtest

import (
	"errors"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Late makes the changing calls of a cloud ignore the result of the next action, by EC2's
// name of it, until they have been refused that many times, although the reading calls show
// it.
type Late func(act string, refusals int)

// lateRefusals is more than an implementation tries by itself, so that the error is seen.
const lateRefusals = 60

// laggingChanges tests that the refusals of changing calls which lag behind reading calls wrap
// bake.ErrUnsettled, and that no resource counts as deleted because of them.
func laggingChanges(t *testing.T, env Env) {
	for name, test := range map[string]func(*lateStage){
		"a new volume":            lateVolume,
		"a new volume, deleted":   lateVolumeDeleted,
		"an attachment":           lateAttachment,
		"a detachment":            lateDetachment,
		"a new snapshot":          lateSnapshot,
		"a new snapshot, deleted": lateSnapshotDeleted,
		"a new image":             lateImage,
		"a deregistered image":    lateDeregistration,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, env)
			test(&lateStage{f, env.Late(f.cloud)})
		})
	}
}

type lateStage struct {
	*fixture
	late Late
}

// unsettled repeats a call until it succeeds. The first attempt must be refused.
func (s *lateStage) unsettled(what string, call func() error) {
	s.t.Helper()
	var refused error
	err := call()
	for ; errors.Is(err, bake.ErrUnsettled); err = call() {
		refused = err
	}
	if err != nil || refused == nil {
		s.t.Errorf("%s: refused with %v, and then with %v", what, refused, err)
	}
}

func lateVolume(s *lateStage) {
	if tags := map[string]string{"purpose": "conformance"}; s.tagsLater() {
		s.late("CreateVolume", lateRefusals)
		id := s.volume()
		s.unsettled("tag a new volume", func() error { return s.cloud.Tag(s.ctx, string(id), tags) })
	}
	s.late("CreateVolume", lateRefusals)
	id := s.otherVolume()
	device := s.freeDevice()
	s.unsettled("attach a new volume", func() error { return s.cloud.Attach(s.ctx, id, s.host.ID, device) })
	s.volumeIs(id, attached)
	s.removed("attachment", s.cloud.Detach(s.ctx, id, s.host.ID))
	s.volumeIs(id, available)
}

// tagsLater reports whether resources are tagged by a separate call.
func (s *lateStage) tagsLater() bool {
	return s.cloud.Tag(s.ctx, "vol-00000000", map[string]string{"a": "b"}) != nil
}

func lateVolumeDeleted(s *lateStage) {
	s.late("CreateVolume", lateRefusals)
	id := s.volume()
	s.unsettled("delete a new volume", func() error { return s.cloud.DeleteVolume(s.ctx, id) })
	s.volumeIsGone(id)
}

func lateAttachment(s *lateStage) {
	id := s.volume()
	s.late("AttachVolume", lateRefusals)
	s.attach(id, s.freeDevice())
	s.unsettled("detach", func() error { return s.cloud.Detach(s.ctx, id, s.host.ID) })
	s.volumeIs(id, available)
}

func lateDetachment(s *lateStage) {
	id := s.volume()
	if err := s.cloud.Attach(s.ctx, id, s.host.ID, s.freeDevice()); err != nil {
		s.t.Fatal(err)
	}
	s.volumeIs(id, attached)
	s.late("DetachVolume", lateRefusals)
	s.removed("attachment", s.cloud.Detach(s.ctx, id, s.host.ID))
	s.volumeIs(id, available)
	s.unsettled("delete a detached volume", func() error { return s.cloud.DeleteVolume(s.ctx, id) })
	s.volumeIsGone(id)
}

func lateSnapshot(s *lateStage) {
	s.late("CreateSnapshot", lateRefusals)
	spec := s.imageSpec(s.anotherSnapshot())
	var image bake.ImageID
	s.unsettled("register a new snapshot", func() (err error) {
		image, err = s.cloud.Register(s.ctx, spec)
		return err
	})
	s.imageIs(image, usable)
	s.removed("image", s.cloud.Deregister(s.ctx, image))
	s.imageIsGone(image)
}

func lateSnapshotDeleted(s *lateStage) {
	s.late("CreateSnapshot", lateRefusals)
	id := s.anotherSnapshot()
	s.unsettled("delete a new snapshot", func() error { return s.cloud.DeleteSnapshot(s.ctx, id) })
	s.snapshotIsGone(id)
}

func lateImage(s *lateStage) {
	snapshot := s.anotherSnapshot()
	s.late("RegisterImage", lateRefusals)
	id, err := s.cloud.Register(s.ctx, s.imageSpec(snapshot))
	if err != nil {
		s.t.Fatal(err)
	}
	s.imageIs(id, usable)
	s.unsettled("deregister a new image", func() error { return s.cloud.Deregister(s.ctx, id) })
	s.imageIsGone(id)
}

func lateDeregistration(s *lateStage) {
	snapshot := s.anotherSnapshot()
	spec := s.imageSpec(snapshot)
	id := s.image(spec)
	s.late("DeregisterImage", lateRefusals)
	s.removed("image", s.cloud.Deregister(s.ctx, id))
	s.imageIsGone(id)
	s.unsettled("register an image of the same name", func() (err error) {
		id, err = s.cloud.Register(s.ctx, spec)
		return err
	})
	s.imageIs(id, usable)
	s.late("DeregisterImage", lateRefusals)
	s.removed("image", s.cloud.Deregister(s.ctx, id))
	s.imageIsGone(id)
	s.unsettled("delete the snapshot of an image that is gone", func() error { return s.cloud.DeleteSnapshot(s.ctx, snapshot) })
	s.snapshotIsGone(snapshot)
}
