package cloudtest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// copyLifecycle copies the source image to a region: the copy has its own snapshots, is found there by its
// source and its name, and is deleted.
func copyLifecycle(t *testing.T, env Env, mode callMode, region string) {
	f := newFixture(t, env)
	there := f.cloud.In(region)
	spec := f.copySpec()
	id := create(f, mode, "copy", func() (bake.ImageID, error) { return there.Copy(f.ctx, spec) })
	f.tag(there, string(f.imageIsIn(there, id, usable).ID), spec.ImageTags)
	copied := f.imageIsIn(there, id, usable)
	if copied.Owner != f.host.Account || copied.CopyOf != "" && copied.CopyOf != spec.Source {
		t.Errorf("the copy of %s in account %s: %+v", spec.Source, f.host.Account, copied)
	}
	f.recent("copy", copied.Begun)
	if copied.Name != spec.Name || copied.ID == f.source.ID || copied.RootDevice != f.source.RootDevice {
		t.Errorf("a copy %+v of %+v, asked for as %+v", copied, f.source, spec)
	}
	f.tagged(copied, spec.ImageTags)
	if len(copied.Snapshots) == 0 || copied.Root.Snapshot != copied.Snapshots[0] {
		t.Fatalf("a copy with the snapshots %v and the root %q", copied.Snapshots, copied.Root.Snapshot)
	}
	for _, snapshot := range copied.Snapshots {
		if slices.Contains(f.source.Snapshots, snapshot) {
			t.Errorf("the copy uses the source's %s", snapshot)
		}
	}
	// a cloud whose pending images list their snapshots finds none otherwise
	if found, err := there.FindCopied(f.ctx, id); err != nil || len(found) > 0 && !slices.Equal(slices.Sorted(slices.Values(found)), slices.Sorted(slices.Values(copied.Snapshots))) {
		t.Errorf("the snapshots of the copy are %v, %v, and not %v", found, err, copied.Snapshots)
	}
	only(t, "copies of the name", id)(there.FindCopies(f.ctx, spec.Source, spec.Name))
	only[bake.ImageID](t, "copies of another name")(there.FindCopies(f.ctx, spec.Source, spec.Name+"-2"))
	only[bake.ImageID](t, "copies of a copy")(there.FindCopies(f.ctx, id, spec.Name))
	act(f, mode, "publish the copy", func() error {
		return there.Publish(f.ctx, bake.PublishSpec{Image: id, Snapshots: copied.Snapshots})
	})

	act(f, mode, "deregister the copy", func() error { return there.Deregister(f.ctx, id) })
	f.imageIsGoneFrom(there, id)
	for _, snapshot := range copied.Snapshots {
		act(f, mode, "delete a snapshot of the copy", func() error { return there.DeleteSnapshot(f.ctx, snapshot) })
		f.snapshotIsGoneFrom(there, snapshot)
	}
	only[bake.ImageID](t, "copies that are gone")(there.FindCopies(f.ctx, spec.Source, spec.Name))
}

// replacement records an image, deregisters it, and restores it.
func replacement(t *testing.T, env Env, mode callMode) {
	f := newFixture(t, env)
	snapshot := f.snapshot(f.volume())
	spec := f.imageSpec(snapshot)
	old := f.image(spec)
	record := f.record(old)
	if record.Image != old || record.Name != spec.Name || !slices.Contains(record.Snapshots, snapshot) {
		t.Errorf("record %+v of %s, made as %+v", record, old, spec)
	}
	act(f, mode, "deregister", func() error { return f.cloud.Deregister(f.ctx, old) })
	f.imageIsGone(old)

	restored := create(f, mode, "restore", func() (bake.ImageID, error) { return f.cloud.Restore(f.ctx, record) })
	f.atEnd("deregister the restored image", func(ctx context.Context) error { return f.cloud.Deregister(ctx, restored) })
	if restored == old {
		t.Errorf("the restored image has the id of the one that is gone, %s", old)
	}
	f.imageIs(restored, usable)
	act(f, mode, "regain", func() error { return f.cloud.Regain(f.ctx, record, restored) })
	f.checkImage(f.imageIs(restored, usable), spec)
	only(t, "images of the name", restored)(f.cloud.Named(f.ctx, spec.Name))
	f.snapshotIs(snapshot, completed)
}

// namesAreExact: a pattern or a prefix of a name is not the name.
func namesAreExact(t *testing.T, env Env) {
	f := newFixture(t, env)
	spec := f.imageSpec(f.snapshot(f.volume()))
	image := f.image(spec)
	last := len(spec.Name) - 1
	for _, other := range []string{spec.Name[:last] + "*", spec.Name[:last] + "?", spec.Name[:last], spec.Name + "x", "*", ""} {
		only[bake.ImageID](t, "images named "+other)(f.cloud.Named(f.ctx, other))
	}
	only(t, "images named "+spec.Name, image)(f.cloud.Named(f.ctx, spec.Name))
}

// publication: it is returned before anything is created, and an image does not stay in the
// region of its copy.
func publication(t *testing.T, env Env) {
	f := newFixture(t, env)
	first, err := f.cloud.Publication(f.ctx, bake.Facts{Host: f.host, Source: &f.source})
	if err != nil {
		t.Fatalf("publication: %v", err)
	}
	for _, c := range first.Copies {
		if c.Region == f.host.Region && !first.Passing {
			t.Errorf("an image and its copy are to have one name in %s", c.Region)
		}
	}
	again, err := f.cloud.Publication(f.ctx, bake.Facts{Host: f.host, Source: &f.source})
	if err != nil || !slices.Equal(first.Copies, again.Copies) || first.Passing != again.Passing {
		t.Errorf("publication was %+v, now %+v, %v", first, again, err)
	}
}

// regionsAreSeparate: the own region is the cloud itself, and another does not know its
// images.
func regionsAreSeparate(t *testing.T, env Env) {
	f := newFixture(t, env)
	spec := f.imageSpec(f.snapshot(f.volume()))
	image := f.image(spec)
	only(t, "images of the name in the own region", image)(f.cloud.In(f.host.Region).Named(f.ctx, spec.Name))
	if env.Elsewhere == "" {
		return
	}
	there := f.cloud.In(env.Elsewhere)
	only[bake.ImageID](t, "images of the name elsewhere")(there.Named(f.ctx, spec.Name))
	if _, err := there.Image(f.ctx, image); !errors.Is(err, bake.ErrNotFound) {
		t.Errorf("an image of another region: %v", err)
	}
	only(t, "images of the name, from elsewhere", image)(there.In(f.host.Region).Named(f.ctx, spec.Name))
}

// missingRecords: an image that does not exist has no record, and is not restored without its
// snapshot.
func missingRecords(t *testing.T, env Env) {
	f := newFixture(t, env)
	snapshot := f.snapshot(f.volume())
	image := f.image(f.imageSpec(snapshot))
	record := f.record(image)
	other := record
	other.Name += "-2"
	if id, err := f.cloud.Restore(f.ctx, other); err == nil {
		t.Errorf("%s was restored from a record that is of %q and of %q", id, record.Name, other.Name)
	}
	f.removed("image", f.cloud.Deregister(f.ctx, image))
	f.imageIsGone(image)
	if got, err := f.cloud.Record(f.ctx, image); !errors.Is(err, bake.ErrNotFound) {
		t.Errorf("an image that is gone has the record %+v, %v", got, err)
	}
	f.removed("snapshot", f.cloud.DeleteSnapshot(f.ctx, snapshot))
	f.snapshotIsGone(snapshot)
	if id, err := f.cloud.Restore(f.ctx, record); err == nil {
		t.Errorf("%s was restored without its snapshot", id)
	}
}

// copySpec returns the specification of a copy of the source image.
func (f *fixture) copySpec() bake.CopySpec {
	return bake.CopySpec{
		Build: f.build, Source: f.source.ID, SourceRegion: f.host.Region, Name: "conform-" + unique(),
		Description:  "made by a conformance test",
		ImageTags:    map[string]string{"purpose": "conformance", "kind": "copy"},
		SnapshotTags: map[string]string{"purpose": "conformance", "kind": "snapshot"},
	}
}

// record returns an image's record after it was encoded and decoded.
func (f *fixture) record(image bake.ImageID) (record bake.Record) {
	f.t.Helper()
	fresh, err := f.cloud.Record(f.ctx, image)
	if err != nil {
		f.t.Fatalf("record: %v", err)
	}
	written, err := json.Marshal(fresh)
	if err == nil {
		err = json.Unmarshal(written, &record)
	}
	if err != nil {
		f.t.Fatalf("a record that is written down: %v", err)
	}
	return record
}
