package bake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// publish makes the image available wherever it is wanted, side by side. Only when it
// is there everywhere is it given to anybody: what others have seen, or what has been
// protected, is hard to take back when a copy fails.
func (b *build) publish(ctx context.Context, from basis, made Product) ([]Product, error) {
	products, err := b.copyAll(ctx, from, made.Image)
	if err != nil {
		return nil, err
	}
	if !from.publication.Passing {
		products = append(products, made)
	}
	slices.SortFunc(products, func(p, q Product) int { return cmp.Compare(p.Region, q.Region) })
	work, branch := errgroup.WithContext(ctx)
	for _, product := range products {
		work.Go(func() error { return b.handOver(branch, product, from.publication.Guarded) })
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	return products, b.done(ctx, "publish image")
}

// copyAll makes the copies that are wanted, side by side.
func (b *build) copyAll(ctx context.Context, from basis, image ImageID) ([]Product, error) {
	products := make([]Product, len(from.publication.Copies))
	work, branch := errgroup.WithContext(ctx)
	for i, wanted := range from.publication.Copies {
		stack := b.productsIn(wanted.Region)
		work.Go(func() (err error) {
			products[i], err = b.copyTo(branch, stack, from, image, wanted)
			return err
		})
	}
	return products, work.Wait()
}

// inRegion begins the name of the stack of a region's products.
const inRegion = "products in "

// productsIn is the stack of a region's products.
func (b *build) productsIn(region string) *undo.Stack {
	for _, stack := range b.regions {
		if stack.Name() == inRegion+region {
			return stack
		}
	}
	stack := undo.NewStack(inRegion + region)
	b.regions = append(b.regions, stack)
	return stack
}

// copyTo makes the copy of the image in one region. An image that has the name there
// makes way.
func (b *build) copyTo(ctx context.Context, stack *undo.Stack, from basis, image ImageID, wanted Copy) (Product, error) {
	if err := b.replace(ctx, stack, wanted.Region, from.replaced[wanted.Region]); err != nil {
		return Product{}, err
	}
	b.report.Step("Copying %s to %s", image, wanted.Region)
	copied, err := b.copyImage(ctx, stack, wanted.Region, CopySpec{
		Build: b.plan.Build, Source: image, SourceRegion: from.Host.Region, Name: b.plan.ImageName,
		Description: from.labels.Description, ImageTags: from.labels.ImageTags, SnapshotTags: from.labels.SnapshotTags,
		Encrypted: wanted.Encrypted, KMSKeyID: wanted.KMSKeyID,
	})
	if err != nil {
		return Product{}, err
	}
	return Product{Region: wanted.Region, Image: copied.ID, Snapshots: copied.Snapshots}, nil
}

// handOver gives an available image to those who are to have it. That it is guarded is
// written down before: who undoes it would be refused otherwise, and must not end a
// protection that is not the build's own.
func (b *build) handOver(ctx context.Context, p Product, guarded bool) error {
	if guarded {
		if err := b.guard(p.Image); err != nil {
			return err
		}
	}
	return b.cloud.In(p.Region).Publish(ctx, PublishSpec{Image: p.Image, Snapshots: p.Snapshots})
}

// guard says in the journal that an image may be protected from now on.
func (b *build) guard(image ImageID) error {
	for _, it := range b.allPending() {
		if a := it.value(); a.Image != image || a.Kind != actImage && a.Kind != actCopy {
			continue
		}
		if err := it.extend(func(a *act) { a.Guarded = true }); err != nil {
			return fmt.Errorf("cannot protect image %s: %w", image, err)
		}
	}
	return nil
}

// copyImage makes a copy in a region and waits for it.
func (b *build) copyImage(ctx context.Context, stack *undo.Stack, region string, spec CopySpec) (Image, error) {
	cloud := b.cloud.In(region)
	made, id, err := naming{
		build: b, stack: stack, act: act{Kind: actCopy, Region: region, Source: spec.Source, Name: spec.Name}, region: region,
		ask: func() (ImageID, error) { return cloud.Copy(ctx, spec) },
	}.made(ctx)
	if err != nil {
		return Image{}, err
	}
	made.answered(func(a *act) { a.Image = id })
	b.report.Detail("image %s in %s", id, region)
	img, err := b.copyAvailable(ctx, made.value(), cloud, spec.Shared, func(i Image) error { return b.unlikeCopy(made.value(), i) })
	if err != nil {
		return Image{}, err
	}
	b.show(region, string(id))
	made.known(func(a *act) { a.Snapshots = img.Snapshots })
	return img, b.tagCopy(ctx, cloud, img, spec)
}

// tagCopy gives a copy, and the snapshots that were made with it, the tags that copying
// could not.
func (b *build) tagCopy(ctx context.Context, cloud Cloud, copied Image, spec CopySpec) error {
	if err := cloud.Tag(ctx, string(copied.ID), spec.ImageTags); err != nil {
		return err
	}
	for _, id := range copied.Snapshots {
		if slices.Contains(spec.Shared, id) {
			continue
		}
		if err := cloud.Tag(ctx, string(id), spec.SnapshotTags); err != nil {
			return err
		}
	}
	return nil
}

// removeCopies undoes a copy, with the snapshots that were made for it. It is found
// through what it was copied from and its name.
func (b *build) removeCopies(ctx context.Context, a act, learn func(func(*act))) error {
	cloud := b.cloudOf(a)
	return undoing[ImageID]{
		own:    func(ctx context.Context, id ImageID) error { return b.ownCopy(ctx, a, id) },
		basis:  func(ctx context.Context) error { return b.ofOwnImage(ctx, a) },
		find:   func(ctx context.Context) ([]ImageID, error) { return cloud.FindCopies(ctx, a.Source, a.Name) },
		remove: func(ctx context.Context, id ImageID) error { return b.removeCopy(ctx, cloud, a, id, learn) },
		gone:   func(ctx context.Context) error { return b.removeCopied(ctx, cloud, a) },
	}.of(ctx, b, a, a.Image)
}

// removeCopy removes a copy that is the act's, and the snapshots that were made with it.
func (b *build) removeCopy(ctx context.Context, cloud Cloud, a act, id ImageID, learn func(func(*act))) error {
	snapshots, err := b.snapshotsOf(ctx, cloud, id)
	if err != nil {
		return err
	}
	if len(snapshots) > 0 {
		a.Image, a.Snapshots = id, snapshots
		learn(func(known *act) { known.Image, known.Snapshots = a.Image, a.Snapshots })
	}
	own, err := b.ownSnapshots(ctx, cloud, a)
	if err != nil {
		return err
	}
	if err := b.takeBack(ctx, cloud, a, id); err != nil {
		return err
	}
	return b.deleteAll(ctx, cloud, own)
}

// removeCopied removes the snapshots of a copy that is gone already.
func (b *build) removeCopied(ctx context.Context, cloud Cloud, a act) error {
	var errs []error
	for _, id := range a.Snapshots {
		_, err := b.deleteCopied(ctx, cloud, a, id)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// deleteCopied deletes a snapshot of a copy that is gone, if the cloud shows that it was
// made for it and that no other image uses it. It returns the images that do.
func (b *build) deleteCopied(ctx context.Context, cloud Cloud, gone act, id SnapshotID) (users []ImageID, err error) {
	made, err := b.madeFor(ctx, cloud, gone, id, b.isShown(gone.Region, string(gone.Image)))
	if err != nil || !made {
		return nil, err
	}
	return b.deleteUnused(ctx, cloud, gone.Image, id)
}

// madeFor reports whether the cloud shows that a snapshot was made for a copy. listed says
// that the cloud has shown it among the copy's. One that is older is the source's own.
func (b *build) madeFor(ctx context.Context, cloud Cloud, copied act, id SnapshotID, listed bool) (bool, error) {
	s, err := cloud.Snapshot(ctx, id)
	if err != nil || older(s.Begun, b.begun(copied)) {
		return false, ignoreGone(err)
	}
	err = b.unlikeCopied(ctx, cloud, copied.Image, s, listed)
	if errors.Is(err, errForeign) {
		b.report.Warn("%v", err)
		return false, nil
	}
	return err == nil, err
}

// anImage is what the ids of images look like in a description.
var anImage = regexp.MustCompile(`\bami-[0-9a-z-]+`)

// unlikeCopied returns why a snapshot was not made for a copy. Clouds describe such
// snapshots by the copy; if one does not, the copy must have been seen to list it, and it
// must be of no volume that is there.
func (b *build) unlikeCopied(ctx context.Context, cloud Cloud, copied ImageID, s Snapshot, listed bool) error {
	if named := anImage.FindString(s.Description); named != "" {
		if named != string(copied) {
			return foreign(s.ID, "was made for %s, and not for the copy %s", named, copied)
		}
		return nil
	}
	if !listed {
		return foreign(s.ID, "does not say that it was made for the copy %s", copied)
	}
	if s.Volume == "" {
		return nil
	}
	_, err := cloud.Volume(ctx, s.Volume)
	if err == nil {
		return foreign(s.ID, "is of %s, and was not made for the copy %s", s.Volume, copied)
	}
	return ignoreGone(err)
}

// ownSnapshots are those of a copy's snapshots that were made with it, and that no
// other image uses: an image made of a copied source may have its further devices.
func (b *build) ownSnapshots(ctx context.Context, cloud Cloud, copied act) ([]SnapshotID, error) {
	var own []SnapshotID
	for _, id := range copied.Snapshots {
		users, err := others(ctx, cloud, copied.Image, id)
		if err != nil {
			return nil, err
		}
		made, err := b.madeFor(ctx, cloud, copied, id, true)
		if err != nil {
			return nil, err
		}
		if made && len(users) == 0 {
			own = append(own, id)
		}
	}
	return own, nil
}

// begunBefore reports whether a snapshot was certainly there before a time.
func begunBefore(ctx context.Context, cloud Cloud, id SnapshotID, at time.Time) (bool, error) {
	s, err := cloud.Snapshot(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return older(s.Begun, at), err
}

// snapshotsOf reads the snapshots of a copy, which are shown some time after it, or
// only when it is complete: then they are found otherwise. One that is gone has none.
func (b *build) snapshotsOf(ctx context.Context, cloud Cloud, id ImageID) (ids []SnapshotID, err error) {
	begun := time.Now()
	err = b.waits.Image.until(ctx, "the snapshots of "+string(id), going(newborn(b.waits.Lost, func(ctx context.Context) (sight, error) {
		img, err := cloud.Image(ctx, id)
		ids = img.Snapshots
		if err == nil && len(ids) == 0 && img.State == ImagePending && time.Since(begun) >= b.waits.Lost {
			ids, _ = cloud.FindCopied(ctx, id) // if they cannot be found, the image is waited for
		}
		return sight{state: string(img.State), done: len(ids) > 0 || img.State != ImagePending}, err
	})))
	return ids, err
}
