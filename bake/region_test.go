package bake_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// home is the build's own region. Acts and events of another begin with its name.
const home = "here"

// again is the suffix of the ID of a restored image.
const again = "-again"

// furtherDevice is the snapshot that the copy of a locked source has beside its root's.
const furtherDevice = "snap-data-unlocked"

// addImage adds an image that existed before the build.
func (w *fake) addImage(region string, id bake.ImageID, name string, snapshots ...bake.SnapshotID) {
	w.images[id] = &fakeImage{region: region, name: name, snapshots: snapshots, born: time.Now().Add(-time.Hour), takes: time.Second}
	for _, s := range snapshots {
		w.snapshots[s] = &fakeSnapshot{region: region, born: time.Now().Add(-time.Hour)}
	}
	w.before = w.left()
}

// existed reports whether a resource existed before the build.
func (w *fake) existed(id string) bool { return slices.Contains(w.before, original(id)) }

// original returns the ID of a restored image before it was replaced.
func original(id string) string {
	first, _, _ := strings.Cut(id, again)
	return first
}

// named fails if an image has the name, which is an error unless others create images.
func (w *fake) named(region, name string) error {
	for id, img := range w.images {
		if img.region == region && img.name == name {
			if w.sharedName {
				return bake.NameTaken(fmt.Errorf("%s is in use", name))
			}
			w.violation("a second image is to be named %s in %s, beside %s", name, region, id)
		}
	}
	return nil
}

// region is the cloud of the fake as seen in one region.
type region struct {
	*fake
	name string
}

func (r region) is(act string) string {
	if r.name == home {
		return act
	}
	return r.name + ": " + act
}

func (w *fake) In(name string) bake.Cloud {
	if name == home {
		return w
	}
	return region{w, name}
}

// Operations on snapshots and images take place in the region of the receiver.

func (w *fake) home() region { return region{w, home} }

func (w *fake) Snapshot(ctx context.Context, id bake.SnapshotID) (bake.Snapshot, error) {
	return w.home().Snapshot(ctx, id)
}

func (w *fake) DeleteSnapshot(ctx context.Context, id bake.SnapshotID) error {
	return w.home().DeleteSnapshot(ctx, id)
}

func (w *fake) Image(ctx context.Context, id bake.ImageID) (bake.Image, error) {
	return w.home().Image(ctx, id)
}

func (w *fake) FindImages(ctx context.Context, id bake.SnapshotID) ([]bake.ImageID, error) {
	return w.home().FindImages(ctx, id)
}

func (w *fake) Deregister(ctx context.Context, id bake.ImageID) error {
	return w.home().Deregister(ctx, id)
}

func (w *fake) Named(ctx context.Context, name string) ([]bake.ImageID, error) {
	return w.home().Named(ctx, name)
}

func (w *fake) Copy(ctx context.Context, spec bake.CopySpec) (bake.ImageID, error) {
	return w.home().Copy(ctx, spec)
}

func (w *fake) FindCopies(ctx context.Context, of bake.ImageID, name string) ([]bake.ImageID, error) {
	return w.home().FindCopies(ctx, of, name)
}

func (w *fake) FindCopied(ctx context.Context, id bake.ImageID) ([]bake.SnapshotID, error) {
	return w.home().FindCopied(ctx, id)
}

func (w *fake) Publish(ctx context.Context, spec bake.PublishSpec) error {
	return w.home().Publish(ctx, spec)
}

func (w *fake) Unguard(ctx context.Context, id bake.ImageID) error {
	return w.home().Unguard(ctx, id)
}

func (w *fake) Record(ctx context.Context, id bake.ImageID) (bake.Record, error) {
	return w.home().Record(ctx, id)
}

func (w *fake) Restore(ctx context.Context, r bake.Record) (bake.ImageID, error) {
	return w.home().Restore(ctx, r)
}

func (w *fake) Regain(ctx context.Context, r bake.Record, id bake.ImageID) error {
	return w.home().Regain(ctx, r, id)
}

func (w *fake) Publication(ctx context.Context, _ bake.Facts) (bake.Publication, error) {
	return w.publication, w.act(ctx, "publication", func() error { return nil })
}

// looksAt returns the name of a poll: of a snapshot, or of the progress of an image that
// is being copied.
func (r region) looksAt(id bake.SnapshotID) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, img := range r.images {
		if img.of != "" && slices.Contains(img.snapshots, id) && time.Since(img.born) <= img.takes {
			return "look at progress"
		}
	}
	return "look at snapshot"
}

func (r region) Snapshot(ctx context.Context, id bake.SnapshotID) (s bake.Snapshot, err error) {
	err = r.act(ctx, r.is(r.looksAt(id)), func() error {
		known, ok := r.snapshots[id]
		if !ok || known.region != r.name || time.Since(known.born) < r.lag {
			return fmt.Errorf("%s: %w", id, bake.ErrNotFound)
		}
		s = bake.Snapshot{
			ID: id, Begun: known.born, State: bake.SnapshotPending, Percent: int(100 * time.Since(known.born) / cmp.Or(known.takes, r.snapshotTakes)),
			Volume: known.volume, Description: known.description, Build: known.build,
		}
		if known.takes > 0 && r.stalled {
			s.Percent = 3
		}
		if known.open {
			s.Percent = 0
		}
		if s.Percent >= 100 {
			s.State, s.Percent = bake.SnapshotCompleted, 100
			if r.snapshotState != "" {
				s.State, s.Reason = r.snapshotState, "internal error"
			}
		}
		return nil
	})
	return s, err
}

func (r region) DeleteSnapshot(ctx context.Context, id bake.SnapshotID) error {
	return r.act(ctx, r.is("~snapshot"), func() error {
		known, ok := r.snapshots[id]
		if !ok {
			return nil
		}
		if known.region != r.name {
			r.violation("%s of %s is deleted in %s", id, known.region, r.name)
		}
		for img, i := range r.images {
			if slices.Contains(i.snapshots, id) {
				r.violation("%s is deleted while %s uses it", id, img)
			}
		}
		if r.keepsPending && time.Since(known.born) < r.snapshotTakes {
			return fmt.Errorf("%s is pending", id)
		}
		r.happened("%s", r.is(r.event("~snapshot", string(id))))
		delete(r.snapshots, id)
		return nil
	})
}

// event distinguishes events of resources that existed before from those of the build's own.
func (r region) event(what, id string) string {
	if r.existed(id) {
		return what + " " + id
	}
	return what
}

// seen returns images as reading calls show them.
func (r region) seen(which func(*fakeImage) bool) (ids []bake.ImageID) {
	for id, known := range r.images {
		if known.region == r.name && time.Since(known.born) >= r.lag && which(known) {
			ids = append(ids, id)
		}
	}
	for id, known := range r.lingering {
		if known.region == r.name && time.Since(known.gone) < r.lag && which(known) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (r region) Image(ctx context.Context, id bake.ImageID) (img bake.Image, err error) {
	err = r.act(ctx, r.is("look at image"), func() error {
		known := r.images[id]
		if known == nil {
			known = r.lingering[id]
		}
		if !slices.Contains(r.seen(func(i *fakeImage) bool { return i == known }), id) {
			return fmt.Errorf("%s: %w", id, bake.ErrNotFound)
		}
		img = bake.Image{ID: id, Name: known.name, State: bake.ImagePending, Owner: me, Begun: known.born, CopyOf: known.of}
		// The snapshots of a copy are shown after it.
		done := time.Since(known.born) > known.takes
		if time.Since(known.born) > r.lag+200*time.Millisecond && (done || known.of == "" || !r.hidesSnapshots) {
			img.Snapshots = known.snapshots
			img.Root.Snapshot = known.snapshots[0]
		}
		if time.Since(known.born) > known.takes {
			img.State = bake.ImageAvailable
			if r.imageState != "" && !r.existed(string(id)) {
				img.State, img.Reason = r.imageState, "no capacity"
			}
			if known.fails {
				img.State, img.Reason = bake.ImageFailed, "no capacity for a restore"
			}
		}
		return nil
	})
	return img, err
}

func (r region) FindImages(ctx context.Context, id bake.SnapshotID) (ids []bake.ImageID, err error) {
	err = r.act(ctx, r.is("find images"), func() error {
		ids = r.seen(func(i *fakeImage) bool { return slices.Contains(i.snapshots, id) })
		return nil
	})
	return ids, err
}

func (r region) Deregister(ctx context.Context, id bake.ImageID) error {
	return r.act(ctx, r.is("~image"), func() error {
		img, ok := r.images[id]
		if !ok {
			return nil
		}
		if img.region != r.name {
			r.violation("%s of %s is deregistered in %s", id, img.region, r.name)
		}
		if img.guarded {
			return fmt.Errorf("%s is guarded", id)
		}
		if s := r.snapshots["snap-1"]; r.existed(string(id)) && (s == nil || time.Since(s.born) < r.snapshotTakes) {
			r.violation("%s is deregistered before its replacement is complete", id)
		}
		r.happened("%s", r.is(r.event("~image", string(id))))
		img.gone = time.Now()
		r.lingering[id] = img
		delete(r.images, id)
		return nil
	})
}

func (r region) Named(ctx context.Context, name string) (ids []bake.ImageID, err error) {
	err = r.act(ctx, r.is("name"), func() error {
		ids = r.seen(func(i *fakeImage) bool { return i.name == name })
		return nil
	})
	return ids, err
}

func (r region) Copy(ctx context.Context, spec bake.CopySpec) (id bake.ImageID, err error) {
	err = r.act(ctx, r.is("copy"), func() error {
		from := r.images[spec.Source]
		if spec.Source != r.source.ID && (from == nil || time.Since(from.born) < from.takes || from.region != spec.SourceRegion) {
			r.violation("%s of %s is copied before it is available there", spec.Source, spec.SourceRegion)
		}
		if err := r.named(r.name, spec.Name); err != nil {
			return err
		}
		suffix := r.name
		if strings.HasPrefix(spec.Name, "packer-chroot-source-") {
			suffix = "unlocked"
		}
		r.happened("%s", r.is("copy"))
		r.copySpecs = append(r.copySpecs, spec)
		id = bake.ImageID("ami-" + suffix)
		snapshots := []bake.SnapshotID{bake.SnapshotID("snap-" + suffix), bake.SnapshotID("snap-data-" + suffix)}
		r.images[id] = &fakeImage{region: r.name, name: spec.Name, snapshots: snapshots, of: spec.Source, born: time.Now(), takes: r.copyTakes}
		for _, s := range snapshots {
			r.snapshots[s] = &fakeSnapshot{region: r.name, born: time.Now(), description: "Copied for DestinationAmi " + string(id), takes: r.copyTakes}
		}
		if r.shares {
			r.snapshots[snapshots[1]].born = time.Now().Add(-time.Hour)
		}
		return nil
	})
	id = returnedID(r.fake, "copy", id)
	if err != nil {
		id = ""
	}
	return id, err
}

func (r region) FindCopies(ctx context.Context, of bake.ImageID, name string) (ids []bake.ImageID, err error) {
	err = r.act(ctx, r.is("find copies"), func() error {
		ids = r.seen(func(i *fakeImage) bool { return i.of == of && i.name == name })
		return nil
	})
	return ids, err
}

func (r region) FindCopied(ctx context.Context, id bake.ImageID) (ids []bake.SnapshotID, err error) {
	err = r.act(ctx, r.is("find copied"), func() error {
		for snapshot, known := range r.snapshots {
			if known.region == r.name && strings.HasSuffix(known.description, " "+string(id)) {
				ids = append(ids, snapshot)
			}
		}
		slices.Sort(ids)
		return nil
	})
	return ids, err
}

func (r region) Publish(ctx context.Context, spec bake.PublishSpec) error {
	return r.act(ctx, r.is("publish"), func() error {
		img := r.images[spec.Image]
		if img == nil || img.region != r.name || time.Since(img.born) < img.takes || !slices.Equal(img.snapshots, spec.Snapshots) && !r.shares {
			r.violation("%v is published in %s, where %+v is", spec, r.name, img)
		}
		if r.users {
			r.happened("%s", r.is("publish"))
		}
		r.published = append(r.published, spec)
		img.guarded = r.publication.Guarded
		return nil
	})
}

func (r region) Unguard(ctx context.Context, id bake.ImageID) error {
	return r.act(ctx, r.is("unguard"), func() error {
		if img := r.images[id]; img != nil {
			if r.existed(string(id)) || !r.publication.Guarded {
				r.violation("%s is unguarded, which the build had not guarded", id)
			}
			img.guarded = false
		}
		return nil
	})
}

// fakeRecord is the content of a record of the fake.
type fakeRecord struct {
	Region    string
	Snapshots []bake.SnapshotID
}

func (w *fake) CheckRecord(r bake.Record) error {
	var data fakeRecord
	if err := json.Unmarshal(r.Data, &data); err != nil {
		return err
	}
	if !slices.Equal(data.Snapshots, r.Snapshots) {
		return fmt.Errorf("the record of %s is of %v and %v", r.Image, data.Snapshots, r.Snapshots)
	}
	return nil
}

func (r region) Record(ctx context.Context, id bake.ImageID) (record bake.Record, err error) {
	err = r.act(ctx, r.is("record"), func() error {
		img := r.images[id]
		if r.sharedName && time.Since(img.born) < img.takes {
			return fmt.Errorf("%s is pending", id)
		}
		data, err := json.Marshal(fakeRecord{r.name, img.snapshots})
		record = bake.Record{Image: id, Name: img.name, Snapshots: img.snapshots, Data: data}
		return err
	})
	return record, err
}

func (r region) Restore(ctx context.Context, record bake.Record) (id bake.ImageID, err error) {
	err = r.act(ctx, r.is("restore"), func() error {
		var data fakeRecord
		if err := json.Unmarshal(record.Data, &data); err != nil {
			return err
		}
		if data.Region != r.name {
			r.violation("an image of %s is restored in %s", data.Region, r.name)
		}
		for _, s := range record.Snapshots {
			if r.snapshots[s] == nil {
				r.violation("%s is restored without %s", record.Image, s)
			}
		}
		for there, img := range r.images {
			if img.region == r.name && img.name == record.Name && img.snapshots[0] == record.Snapshots[0] {
				id = there
				return nil
			}
		}
		if err := r.named(r.name, record.Name); err != nil {
			return err
		}
		r.happened("%s", r.is("restore "+string(record.Image)))
		for id = record.Image + again; r.lingering[id] != nil; id += again {
		}
		r.images[id] = &fakeImage{
			region: r.name, name: record.Name, snapshots: record.Snapshots, born: time.Now(), takes: time.Second, fails: r.failingRestores > 0,
		}
		r.failingRestores--
		return nil
	})
	id = returnedID(r.fake, "restore", id)
	if err != nil {
		return "", err
	}
	return id, nil
}

func (r region) Regain(ctx context.Context, _ bake.Record, id bake.ImageID) error {
	return cmp.Or(r.act(ctx, r.is("regain"), func() error {
		if !strings.Contains(string(id), again) {
			r.violation("%s is given what another image had", id)
		}
		return nil
	}), r.regainErr)
}

// names returns the images of a name by region.
func (w *fake) names(name string) map[string]bake.ImageID {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := map[string]bake.ImageID{}
	for _, id := range slices.Sorted(maps.Keys(w.images)) {
		if img := w.images[id]; img.name == name {
			ids[img.region] = id
		}
	}
	return ids
}
