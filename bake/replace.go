package bake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// replaceable records the images that have the image's name in its regions; here are those
// in the build's own region. It fails if the user does not want them replaced, or if they
// cannot be.
func (b *build) replaceable(ctx context.Context, from preflight, here []ImageID) (map[string][]Record, error) {
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

// regions returns the regions in which an image of the plan's name will be.
func (from preflight) regions() []string {
	var regions []string
	if !from.publication.Passing {
		regions = append(regions, from.Host.Region)
	}
	for _, wanted := range from.publication.Copies {
		regions = append(regions, wanted.Region)
	}
	return regions
}

// record reads the records by which replaced images can be restored.
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

// replaceHome replaces the images of the name in the build's own region.
func (b *build) replaceHome(ctx context.Context, from preflight) error {
	return b.replace(ctx, products, from.Host.Region, from.replaced[from.Host.Region])
}

// replace deregisters images in a region. They are restored if a later step fails: until
// then their snapshots stay.
func (b *build) replace(ctx context.Context, group undo.Group, region string, records []Record) error {
	for _, record := range records {
		err := b.perform(ctx, step{
			name: "replace image",
			heading: func() string {
				return fmt.Sprintf("Deregistering %s in %s, which has the name %q", record.Image, region, record.Name)
			},
			run: func(ctx context.Context) error { return b.replaceImage(ctx, group, region, record) },
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *build) replaceImage(ctx context.Context, group undo.Group, region string, record Record) error {
	cloud := b.cloud.In(region)
	replaced, err := arm(b.undoer, group, replacedAct{Region: region, Image: record.Image, Record: &record})
	if err != nil {
		return err
	}
	if err := cloud.Deregister(ctx, record.Image); err != nil {
		return err
	}
	replaced.settle(func(a *replacedAct) { a.Answered = true })
	return b.imageGone(ctx, cloud, record.Image)
}

// replacedAct is the deregistration of an image that has the new image's name. To undo it
// is to register the image again.
type replacedAct struct {
	call
	Image  ImageID `json:"image,omitempty"`
	Region string  `json:"region,omitempty"`
	// Record is the record to restore the image from.
	Record *Record `json:"record,omitempty"`
}

func (replacedAct) kind() string { return "replaced" }

// fate returns the fate of the replaced image.
func (replacedAct) fate(of event.Fate) event.Fate {
	switch of {
	case event.Kept:
		return event.Removed
	case event.Removed:
		return event.Restored
	}
	return of
}

// String implements act.
func (a replacedAct) String() string {
	return fmt.Sprintf("deregistration of image %s in %s", a.Image, a.Region)
}

func (a replacedAct) check(BuildID) error {
	if a.Image == "" || a.Record == nil || a.Record.Image != a.Image {
		return errors.New("it does not say how the image was")
	}
	return nil
}

func (a replacedAct) removal([]act) string {
	return fmt.Sprintf("register %q in %s again, as %s was, of %s", a.Record.Name, a.Region, a.Image, snapshotList(a.Record.Snapshots))
}

// undo restores the image, unless it was not deregistered. If the request was answered, the
// image is gone.
func (a replacedAct) undo(ctx context.Context, u *undoer, _ *entry) error {
	return a.restore(ctx, u, func(ctx context.Context, cloud Cloud) (bool, error) {
		if a.Answered {
			return false, u.imageGone(ctx, cloud, a.Image)
		}
		return a.stays(ctx, u, cloud, u.searchLimit(a.call, a.String()))
	})
}

// undoInherited restores the image as undo does, but does not trust the journal that it is
// gone.
func (a replacedAct) undoInherited(ctx context.Context, u *undoer, _ *entry) error {
	return a.restore(ctx, u, func(ctx context.Context, cloud Cloud) (bool, error) {
		limit := u.searchLimit(a.call, a.String())
		if a.Answered {
			limit = max(limit, u.waits.Unseen)
		}
		return a.stays(ctx, u, cloud, limit)
	})
}

// stays reports whether an image was not deregistered. An image that the cloud shows may
// be gone all the same, so that it must be shown until the limit.
func (a replacedAct) stays(ctx context.Context, u *undoer, cloud Cloud, limit time.Duration) (bool, error) {
	for begun := time.Now(); ; {
		_, err := cloud.Image(ctx, a.Image)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err != nil || time.Since(begun) >= limit {
			return err == nil, err
		}
		if err := sleep(ctx, min(u.waits.Lost/4, longestInterval)); err != nil {
			return false, err
		}
	}
}

// restorations is how often an image is registered again that the cloud then fails to
// create.
const restorations = 3

// restore registers the image again, unless stays reports that it is still registered, or
// another image has its name, and waits until it is available. The new image that had its
// name is gone, because it was created later.
func (a replacedAct) restore(ctx context.Context, u *undoer, stays func(context.Context, Cloud) (bool, error)) error {
	if a.Record == nil {
		return fmt.Errorf("cannot register %s again: what it was is not recorded", a.Image)
	}
	cloud := u.cloud.In(a.Region)
	if err := cloud.CheckRecord(*a.Record); err != nil {
		return err
	}
	if there, err := stays(ctx, cloud); err != nil || there {
		return err
	}
	if named, err := a.nameTaken(ctx, u, cloud); err != nil || named {
		return err
	}
	for n := 1; ; n++ {
		failed, err := a.register(ctx, u, cloud)
		if err == nil {
			return nil
		}
		if !failed || n == restorations {
			return fmt.Errorf("image %s in %s is deregistered, and its snapshots %v are there, but it cannot be registered again: %w",
				a.Image, a.Region, a.Record.Snapshots, err)
		}
		u.report.Detail("trying again: %v", err)
	}
}

// nameTaken reports whether another image has the name, because another build has replaced
// it. The snapshots of the old image are left then: that build may need them to restore it.
func (a replacedAct) nameTaken(ctx context.Context, u *undoer, cloud Cloud) (bool, error) {
	named, err := a.hasName(ctx, u, cloud)
	if named {
		u.report.Detail("%s in %s is not registered again: another image is named %q by now; its snapshots %v are left as they are",
			a.Image, a.Region, a.Record.Name, a.Record.Snapshots)
	}
	return named, err
}

// register registers the image again, or finds that this was done before, and waits until
// it is available. An image that the cloud has failed to create is removed, so that it can
// be tried again.
func (a replacedAct) register(ctx context.Context, u *undoer, cloud Cloud) (failed bool, err error) {
	id, err := validID(cloud.Restore(ctx, *a.Record))
	if err != nil {
		return false, err
	}
	mismatch := func(i Image) error { return a.mismatch(u, i) }
	img, err := u.imageAvailable(ctx, cloud, id, mismatch)
	if img.State == ImageFailed && img.described() && mismatch(img) == nil {
		if left := u.deregister(ctx, cloud, id); left != nil {
			return false, errors.Join(err, left)
		}
		return true, err
	}
	if err != nil {
		return false, err
	}
	if lacks := cloud.Regain(ctx, *a.Record, id); lacks != nil { // the image is there; trying again would give it no more
		u.report.Warn("%q in %s is registered again as %s, which was %s, but without all that it had: %v", a.Record.Name, a.Region, id, a.Image, lacks)
		return false, nil
	}
	u.report.Detail("%q in %s is registered again as %s, which was %s", a.Record.Name, a.Region, id, a.Image)
	return false, nil
}

// mismatch returns why an image cannot be the one that was registered again.
func (a replacedAct) mismatch(u *undoer, i Image) error {
	if err := u.imageMismatch(i, a.Record.Name, time.Time{}); err != nil || !i.described() {
		return err
	}
	if len(a.Record.Snapshots) > 0 && i.Root.Snapshot != a.Record.Snapshots[0] {
		return foreign(i.ID, "is of %q, and not of %s", i.Root.Snapshot, a.Record.Snapshots[0])
	}
	return nil
}

// hasName reports whether another image has the name, other than the old image itself,
// registered again by a process that was killed. Either may be shown late.
func (a replacedAct) hasName(ctx context.Context, u *undoer, cloud Cloud) (bool, error) {
	ids, err := search(ctx, u.waits.Lost, func(ctx context.Context) ([]ImageID, error) {
		ids, err := cloud.Named(ctx, a.Record.Name)
		return slices.DeleteFunc(ids, func(id ImageID) bool {
			img, gone := cloud.Image(ctx, id) // lists lag behind: they may show images that are gone
			return id == a.Image || errors.Is(gone, ErrNotFound) || isRestored(img, *a.Record)
		}), err
	})
	return len(ids) > 0, err
}

// isRestored reports whether an image was registered of the snapshots of an older one.
func isRestored(img Image, of Record) bool {
	return len(of.Snapshots) > 0 && slices.Contains(img.Snapshots, of.Snapshots[0])
}

// restoreUnreached restores replaced images if undoing has failed before it reached them,
// and no image has their name, so that the user has either the old image or the new one.
// Otherwise the act stays outstanding.
func (u *undoer) restoreUnreached(ctx context.Context) {
	check, cancel := context.WithTimeout(context.WithoutCancel(ctx), u.waits.Release)
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, u.waits.Release)
	defer stop()
	for _, e := range u.ledger.Outstanding() {
		a, ok := e.Act().act.(replacedAct)
		if !ok {
			continue
		}
		named, err := a.hasName(check, u, u.cloud.In(a.Region))
		if err == nil && !named {
			err = e.Undo(ctx)
		}
		if err != nil {
			u.report.Warn("the %s is not undone: %v", a, err)
		}
	}
}
