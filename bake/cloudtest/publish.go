package cloudtest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// lifeOfCopy copies the source image to a region: the copy has snapshots of its own,
// is found there by its source and its name, and is deleted.
func lifeOfCopy(t *testing.T, env Env, how manner, region string) {
	s := newStage(t, env)
	there := s.cloud.In(region)
	spec := s.copySpec()
	id := create(s, how, "copy", func() (bake.ImageID, error) { return there.Copy(s.ctx, spec) })
	s.tag(there, string(s.imageIsIn(there, id, usable).ID), spec.ImageTags)
	copied := s.imageIsIn(there, id, usable)
	if copied.Owner != s.host.Account || copied.CopyOf != "" && copied.CopyOf != spec.Source {
		t.Errorf("the copy of %s in account %s: %+v", spec.Source, s.host.Account, copied)
	}
	s.recent("copy", copied.Begun)
	if copied.Name != spec.Name || copied.ID == s.source.ID || copied.RootDevice != s.source.RootDevice {
		t.Errorf("a copy %+v of %+v, asked for as %+v", copied, s.source, spec)
	}
	s.tagged(copied, spec.ImageTags)
	if len(copied.Snapshots) == 0 || copied.Root.Snapshot != copied.Snapshots[0] {
		t.Fatalf("a copy with the snapshots %v and the root %q", copied.Snapshots, copied.Root.Snapshot)
	}
	for _, snapshot := range copied.Snapshots {
		if slices.Contains(s.source.Snapshots, snapshot) {
			t.Errorf("the copy uses the source's %s", snapshot)
		}
	}
	// a cloud whose pending images list their snapshots finds none otherwise
	if found, err := there.FindCopied(s.ctx, id); err != nil || len(found) > 0 && !slices.Equal(slices.Sorted(slices.Values(found)), slices.Sorted(slices.Values(copied.Snapshots))) {
		t.Errorf("the snapshots of the copy are %v, %v, and not %v", found, err, copied.Snapshots)
	}
	only(t, "copies of the name", id)(there.FindCopies(s.ctx, spec.Source, spec.Name))
	only[bake.ImageID](t, "copies of another name")(there.FindCopies(s.ctx, spec.Source, spec.Name+"-2"))
	only[bake.ImageID](t, "copies of a copy")(there.FindCopies(s.ctx, id, spec.Name))
	act(s, how, "publish the copy", func() error {
		return there.Publish(s.ctx, bake.PublishSpec{Image: id, Snapshots: copied.Snapshots})
	})

	act(s, how, "deregister the copy", func() error { return there.Deregister(s.ctx, id) })
	s.imageIsGoneFrom(there, id)
	for _, snapshot := range copied.Snapshots {
		act(s, how, "delete a snapshot of the copy", func() error { return there.DeleteSnapshot(s.ctx, snapshot) })
		s.snapshotIsGoneFrom(there, snapshot)
	}
	only[bake.ImageID](t, "copies that are gone")(there.FindCopies(s.ctx, spec.Source, spec.Name))
}

// replacement records an image, deregisters it, and has it again as it was.
func replacement(t *testing.T, env Env, how manner) {
	s := newStage(t, env)
	snapshot := s.snapshot(s.volume())
	spec := s.imageSpec(snapshot)
	old := s.image(spec)
	record := s.record(old)
	if record.Image != old || record.Name != spec.Name || !slices.Contains(record.Snapshots, snapshot) {
		t.Errorf("record %+v of %s, made as %+v", record, old, spec)
	}
	act(s, how, "deregister", func() error { return s.cloud.Deregister(s.ctx, old) })
	s.imageIsGone(old)

	restored := create(s, how, "restore", func() (bake.ImageID, error) { return s.cloud.Restore(s.ctx, record) })
	s.atEnd("deregister the restored image", func(ctx context.Context) error { return s.cloud.Deregister(ctx, restored) })
	if restored == old {
		t.Errorf("the restored image has the id of the one that is gone, %s", old)
	}
	s.imageIs(restored, usable)
	act(s, how, "regain", func() error { return s.cloud.Regain(s.ctx, record, restored) })
	s.checkImage(s.imageIs(restored, usable), spec)
	only(t, "images of the name", restored)(s.cloud.Named(s.ctx, spec.Name))
	s.snapshotIs(snapshot, completed)
}

// namesAreExact: a pattern or a prefix of a name is not the name.
func namesAreExact(t *testing.T, env Env) {
	s := newStage(t, env)
	spec := s.imageSpec(s.snapshot(s.volume()))
	image := s.image(spec)
	last := len(spec.Name) - 1
	for _, other := range []string{spec.Name[:last] + "*", spec.Name[:last] + "?", spec.Name[:last], spec.Name + "x", "*", ""} {
		only[bake.ImageID](t, "images named "+other)(s.cloud.Named(s.ctx, other))
	}
	only(t, "images named "+spec.Name, image)(s.cloud.Named(s.ctx, spec.Name))
}

// publication: it is returned before anything is created, and an image does not stay in the
// region of its copy.
func publication(t *testing.T, env Env) {
	s := newStage(t, env)
	first, err := s.cloud.Publication(s.ctx, bake.Facts{Host: s.host, Source: &s.source})
	if err != nil {
		t.Fatalf("publication: %v", err)
	}
	for _, c := range first.Copies {
		if c.Region == s.host.Region && !first.Passing {
			t.Errorf("an image and its copy are to have one name in %s", c.Region)
		}
	}
	again, err := s.cloud.Publication(s.ctx, bake.Facts{Host: s.host, Source: &s.source})
	if err != nil || !slices.Equal(first.Copies, again.Copies) || first.Passing != again.Passing {
		t.Errorf("publication was %+v, now %+v, %v", first, again, err)
	}
}

// regionsApart: the own region is the cloud itself, and another does not know its
// images.
func regionsApart(t *testing.T, env Env) {
	s := newStage(t, env)
	spec := s.imageSpec(s.snapshot(s.volume()))
	image := s.image(spec)
	only(t, "images of the name in the own region", image)(s.cloud.In(s.host.Region).Named(s.ctx, spec.Name))
	if env.Elsewhere == "" {
		return
	}
	there := s.cloud.In(env.Elsewhere)
	only[bake.ImageID](t, "images of the name elsewhere")(there.Named(s.ctx, spec.Name))
	if _, err := there.Image(s.ctx, image); !errors.Is(err, bake.ErrNotFound) {
		t.Errorf("an image of another region: %v", err)
	}
	only(t, "images of the name, from elsewhere", image)(there.In(s.host.Region).Named(s.ctx, spec.Name))
}

// recordsOfNothing: an image that is gone has no record, and is not restored without its
// snapshot.
func recordsOfNothing(t *testing.T, env Env) {
	s := newStage(t, env)
	snapshot := s.snapshot(s.volume())
	image := s.image(s.imageSpec(snapshot))
	record := s.record(image)
	other := record
	other.Name += "-2"
	if id, err := s.cloud.Restore(s.ctx, other); err == nil {
		t.Errorf("%s was restored from a record that is of %q and of %q", id, record.Name, other.Name)
	}
	s.removed("image", s.cloud.Deregister(s.ctx, image))
	s.imageIsGone(image)
	if got, err := s.cloud.Record(s.ctx, image); !errors.Is(err, bake.ErrNotFound) {
		t.Errorf("an image that is gone has the record %+v, %v", got, err)
	}
	s.removed("snapshot", s.cloud.DeleteSnapshot(s.ctx, snapshot))
	s.snapshotIsGone(snapshot)
	if id, err := s.cloud.Restore(s.ctx, record); err == nil {
		t.Errorf("%s was restored without its snapshot", id)
	}
}

// copySpec asks for a copy of the source image.
func (s *stage) copySpec() bake.CopySpec {
	return bake.CopySpec{
		Build: s.build, Source: s.source.ID, SourceRegion: s.host.Region, Name: "conform-" + unique(),
		Description:  "made by a conformance test",
		ImageTags:    map[string]string{"purpose": "conformance", "kind": "copy"},
		SnapshotTags: map[string]string{"purpose": "conformance", "kind": "snapshot"},
	}
}

// record reads an image's record, as it is when it has been written down and read
// again.
func (s *stage) record(image bake.ImageID) (record bake.Record) {
	s.t.Helper()
	fresh, err := s.cloud.Record(s.ctx, image)
	if err != nil {
		s.t.Fatalf("record: %v", err)
	}
	written, err := json.Marshal(fresh)
	if err == nil {
		err = json.Unmarshal(written, &record)
	}
	if err != nil {
		s.t.Fatalf("a record that is written down: %v", err)
	}
	return record
}
