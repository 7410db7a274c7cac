package bake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// inTheWay records the images that have the name where the image is to be had; here
// are those in the build's own region. It fails when the user does not want them
// replaced, or when they cannot be.
func (b *build) inTheWay(ctx context.Context, from basis, here []ImageID) (map[string][]Record, error) {
	var mu sync.Mutex
	all := map[string][]Record{}
	ask, ctx := errgroup.WithContext(ctx)
	for _, region := range from.regions() {
		ask.Go(func() error {
			ids := here
			if region != from.Host.Region {
				var err error
				if ids, err = b.cloud.In(region).Named(ctx, b.plan.ImageName); err != nil {
					return err
				}
			}
			records, err := b.record(ctx, region, ids)
			mu.Lock()
			defer mu.Unlock()
			all[region] = records
			return err
		})
	}
	return all, ask.Wait()
}

// regions are where an image of the plan's name will be.
func (from basis) regions() []string {
	var regions []string
	if !from.publication.Passing {
		regions = append(regions, from.Host.Region)
	}
	for _, wanted := range from.publication.Copies {
		regions = append(regions, wanted.Region)
	}
	return regions
}

// record reads what is needed to have replaced images back.
func (b *build) record(ctx context.Context, region string, ids []ImageID) ([]Record, error) {
	var records []Record
	for _, id := range ids {
		if !b.plan.Replace {
			return nil, fmt.Errorf("the image name %q is in use by %s in region %s: choose another, or have that image replaced with force_deregister",
				b.plan.ImageName, id, region)
		}
		record, err := b.cloud.In(region).Record(ctx, id)
		if errors.Is(err, ErrNotFound) { // another build has replaced it meanwhile
			b.report.Detail("image %s in %s is gone by now", id, region)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("force_deregister cannot replace image %s in region %s: %w", id, region, err)
		}
		b.report.Detail("image %s in %s will be replaced", id, region)
		records = append(records, record)
	}
	return records, nil
}

// replace has images in a region make way. Deregistering one comes back if what
// follows fails: until then its snapshots stay.
func (b *build) replace(ctx context.Context, stack *undo.Stack, region string, records []Record) error {
	cloud := b.cloud.In(region)
	for _, record := range records {
		b.report.Step("Deregistering %s in %s, which has the name %q", record.Image, region, record.Name)
		gone, err := b.arm(stack, act{Kind: actReplaced, Region: region, Image: record.Image, Record: &record})
		if err != nil {
			return err
		}
		if err := cloud.Deregister(ctx, record.Image); err != nil {
			return err
		}
		gone.answered(func(*act) {})
		if err := b.gone(ctx, cloud, record.Image); err != nil {
			return err
		}
	}
	return nil
}

// restorations is how often an image is registered again that the cloud then fails to
// make.
const restorations = 3

// restore undoes a replacement: the old image is registered again, unless it never
// went, and is available. What had its name meanwhile is gone, for it came later.
func (b *build) restore(ctx context.Context, a act) error {
	if a.Record == nil {
		return fmt.Errorf("cannot register %s again: what it was is not recorded", a.Image)
	}
	cloud := b.cloud.In(a.Region)
	if err := cloud.CheckRecord(*a.Record); err != nil {
		return err
	}
	stands, err := b.stands(ctx, cloud, a)
	if err != nil || stands {
		return err
	}
	for n := 1; ; n++ {
		failed, err := b.registerAgain(ctx, cloud, a)
		if err == nil {
			return nil
		}
		if !failed || n == restorations {
			return fmt.Errorf("image %s in %s is deregistered, and its snapshots %v are there, but it cannot be registered again: %w",
				a.Image, a.Region, a.Record.Snapshots, err)
		}
		b.report.Detail("trying again: %v", err)
	}
}

// registerAgain registers a replaced image again, or finds that this was done before, and
// waits until it is available. One that the cloud has failed to make is removed, so that
// it can be tried again.
func (b *build) registerAgain(ctx context.Context, cloud Cloud, a act) (failed bool, err error) {
	id, err := sound(cloud.Restore(ctx, *a.Record))
	if err != nil {
		return false, err
	}
	unlike := func(i Image) error { return b.unlikeRestored(*a.Record, i) }
	img, err := b.imageAvailable(ctx, cloud, id, unlike)
	if img.State == ImageFailed && img.told() && unlike(img) == nil {
		if left := b.deregister(ctx, cloud, id); left != nil {
			return false, errors.Join(err, left)
		}
		return true, err
	}
	if err != nil {
		return false, err
	}
	if lacks := cloud.Regain(ctx, *a.Record, id); lacks != nil { // it is there, and trying again would give it no more
		b.report.Warn("%q in %s is registered again as %s, which was %s, but without all that it had: %v", a.Record.Name, a.Region, id, a.Image, lacks)
		return false, nil
	}
	b.report.Detail("%q in %s is registered again as %s, which was %s", a.Record.Name, a.Region, id, a.Image)
	return false, nil
}

// unlikeRestored returns why an image cannot be one that was registered again.
func (b *build) unlikeRestored(r Record, i Image) error {
	if err := b.unlike(i, r.Name, time.Time{}); err != nil || !i.told() {
		return err
	}
	if len(r.Snapshots) > 0 && i.Root.Snapshot != r.Snapshots[0] {
		return foreign(i.ID, "is of %q, and not of %s", i.Root.Snapshot, r.Snapshots[0])
	}
	return nil
}

// stands tells whether the image that was to be replaced is there, or another of its
// name, for somebody else has replaced it. What the old one was made of is left then:
// who has the name may need it, to have the old one back.
func (b *build) stands(ctx context.Context, cloud Cloud, a act) (bool, error) {
	if stays, err := b.stays(ctx, cloud, a); err != nil || stays {
		return stays, err
	}
	named, err := b.hasName(ctx, cloud, a)
	if named {
		b.report.Detail("%s in %s is not registered again: another image is named %q by now; its snapshots %v are left as they are",
			a.Image, a.Region, a.Record.Name, a.Record.Snapshots)
	}
	return named, err
}

// hasName tells whether another image has the name of one that was deregistered, and not
// that one itself, registered again: a killed process may have done so. Either may not be
// seen at once.
func (b *build) hasName(ctx context.Context, cloud Cloud, a act) (bool, error) {
	ids, err := lost(ctx, b.waits.Lost, func(ctx context.Context) ([]ImageID, error) {
		ids, err := cloud.Named(ctx, a.Record.Name)
		return slices.DeleteFunc(ids, func(id ImageID) bool {
			img, gone := cloud.Image(ctx, id) // lists lag behind: they may tell of what is gone
			return id == a.Image || errors.Is(gone, ErrNotFound) || isRestored(img, *a.Record)
		}), err
	})
	return len(ids) > 0, err
}

// isRestored tells whether an image was registered of the snapshots of an older one.
func isRestored(img Image, of Record) bool {
	return len(of.Snapshots) > 0 && slices.Contains(img.Snapshots, of.Snapshots[0])
}

// rescue restores replaced images where undoing has failed before their turn came,
// and nothing has their name: nobody is to be left without the old image and the new
// one. Where something has it, the act stays to be undone.
func (b *build) rescue(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.waits.Release)
	defer cancel()
	for _, it := range slices.Backward(b.allPending()) {
		a := it.value()
		if a.Kind != actReplaced {
			continue
		}
		named, err := b.hasName(ctx, b.cloud.In(a.Region), a)
		if err == nil && !named {
			err = it.Undo(ctx)
		}
		if err != nil {
			b.report.Warn("the %s is not undone: %v", a, err)
		}
	}
}

// stays tells whether an image was not deregistered. When the cloud has not answered
// the request for it, what it shows may lag behind, and is believed only after a while.
func (b *build) stays(ctx context.Context, cloud Cloud, a act) (bool, error) {
	if a.Answered && b.reaping == nil {
		return false, b.gone(ctx, cloud, a.Image)
	}
	limit := b.patience(a)
	if a.Answered { // it was there when the journal said that it had gone
		limit = max(limit, b.waits.Unseen)
	}
	for begun := time.Now(); ; {
		_, err := cloud.Image(ctx, a.Image)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err != nil || time.Since(begun) >= limit {
			return err == nil, err
		}
		if err := sleep(ctx, min(b.waits.Lost/4, mostBetween)); err != nil {
			return false, err
		}
	}
}

// armReplaced has the snapshots of replaced images deleted once the build has
// succeeded, if the user wants that. kept are the acts that are then not undone.
func (b *build) armReplaced(kept []act) []*armed {
	if !b.plan.DeleteReplaced {
		return nil
	}
	var all []*armed
	for _, a := range kept {
		if a.Kind != actReplaced {
			continue
		}
		for _, id := range a.Record.Snapshots {
			old := act{Kind: actOldSnapshot, Answered: true, Region: a.Region, Image: a.Image, Snapshot: id}
			it, err := b.arm(b.replaced, old)
			if err != nil {
				b.report.Warn("the image is made, but the %s stays: %v", old, err)
				continue
			}
			all = append(all, it)
		}
	}
	return all
}

// dropReplaced deletes the snapshots of replaced images. A failure is only told: the
// new image is there.
func (b *build) dropReplaced(ctx context.Context, old []*armed) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.waits.Release)
	defer cancel()
	for _, it := range old {
		if err := it.Undo(ctx); err != nil {
			b.report.Warn("the image is made, but the %s could not be deleted: %v", it.value(), err)
		}
	}
}

// deleteOld deletes a snapshot of an image that made way, unless another image uses it
// too.
func (b *build) deleteOld(ctx context.Context, a act) error {
	if err := b.ownOld(ctx, a); err != nil {
		return ignoreGone(err)
	}
	users, err := b.deleteUnused(ctx, b.cloudOf(a), a.Image, a.Snapshot)
	b.tellUsers(a, users)
	return err
}

// tellUsers tells that other images use a snapshot, which therefore stays.
func (b *build) tellUsers(a act, users []ImageID) {
	if len(users) > 0 {
		b.report.Detail("the %s is left: %v uses it too", a, users)
	}
}

// ownOld returns nil if a snapshot is one of an image that this build has replaced. A
// build itself knows; of another one the cloud must show that the old image is gone,
// that the snapshot was there before the build, and that an image which is shown to be
// the build's has the old one's name.
func (b *build) ownOld(ctx context.Context, a act) error {
	if b.reaping == nil {
		return nil
	}
	replaced, ok := b.actOf(actReplaced, func(r act) bool {
		return r.Region == a.Region && r.Image == a.Image && r.Record != nil && slices.Contains(r.Record.Snapshots, a.Snapshot)
	})
	if !ok {
		return foreign(a.Snapshot, "is of no image that build %s is known to have replaced", b.plan.Build)
	}
	cloud := b.cloudOf(a)
	if _, err := cloud.Image(ctx, a.Image); !errors.Is(err, ErrNotFound) {
		return cmp.Or(err, foreign(a.Snapshot, "is of %s, which is there", a.Image))
	}
	if err := cloud.CheckRecord(*replaced.Record); err != nil {
		return foreign(a.Snapshot, "is of an image whose record is wrong (%v)", err)
	}
	s, err := cloud.Snapshot(ctx, a.Snapshot)
	if err != nil {
		return err
	}
	if s.Begun.After(b.since.Add(clocksDiffer)) {
		return foreign(a.Snapshot, "was begun at %s, after build %s", s.Begun.UTC().Format(time.RFC3339), b.plan.Build)
	}
	return b.succeeded(ctx, a, replaced.Record.Name)
}

// succeeded returns nil if an image that is shown to be the build's has a name in the
// region of an act.
func (b *build) succeeded(ctx context.Context, a act, name string) error {
	ids, err := b.cloudOf(a).Named(ctx, name)
	if err != nil {
		return err
	}
	for _, made := range b.acts() {
		for _, id := range ids {
			switch {
			case made.Kind == actImage && (made.Image == id || made.Image == ""):
				err = b.ownImage(ctx, made, id)
			case made.Kind == actCopy && made.Region == a.Region && (made.Image == id || made.Image == ""):
				err = b.ownCopy(ctx, made, id)
			default:
				continue
			}
			if err == nil || !errors.Is(err, errForeign) && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	return foreign(a.Snapshot, "is of a replaced image, and no image named %q in %s is shown to be of build %s", name, a.Region, b.plan.Build)
}
