package bake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	made, err := b.arm(stack, act{Kind: actCopy, Region: region, Source: spec.Source, Name: spec.Name, Begun: time.Now()})
	if err != nil {
		return Image{}, err
	}
	id, err := sound(cloud.Copy(ctx, spec))
	if err != nil {
		return Image{}, err
	}
	made.answered(func(a *act) { a.Image = id })
	b.report.Detail("image %s in %s", id, region)
	img, err := b.imageAvailable(ctx, cloud, b.waits.Copy, id)
	if err != nil {
		return Image{}, err
	}
	made.known(func(a *act) { a.Snapshots = img.Snapshots })
	return img, nil
}

// removeCopies undoes a copy, with the snapshots that were made for it. When the cloud
// has not answered with an id, copies of that name are looked for.
func (b *build) removeCopies(ctx context.Context, a act, learn func(func(*act))) error {
	cloud := b.cloud.In(a.Region)
	ids, err := made(ctx, b.patience(a), a.Image, func(ctx context.Context) ([]ImageID, error) {
		return cloud.FindCopies(ctx, a.Source, a.Name)
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		snapshots, err := b.snapshotsOf(ctx, cloud, id)
		if err != nil {
			return err
		}
		a.Image, a.Snapshots = id, union(a.Snapshots, snapshots)
		learn(func(known *act) { known.Image, known.Snapshots = a.Image, a.Snapshots })
		own, err := b.ownSnapshots(ctx, cloud, a)
		if err != nil {
			return err
		}
		if err := b.takeBack(ctx, cloud, a, a.Image); err != nil {
			return err
		}
		if err := b.deleteAll(ctx, cloud, own); err != nil {
			return err
		}
	}
	return nothingIf(len(ids) == 0, nil)
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
		older, err := begunBefore(ctx, cloud, id, copied.Begun)
		if err != nil {
			return nil, err
		}
		if !older && len(users) == 0 {
			own = append(own, id)
		}
	}
	return own, nil
}

// clocksDiffer is more than this host's clock can differ from the cloud's: both
// clouds refuse requests that were signed at another time.
const clocksDiffer = 20 * time.Minute

// begunBefore tells whether a snapshot was certainly there before a time.
func begunBefore(ctx context.Context, cloud Cloud, id SnapshotID, at time.Time) (bool, error) {
	s, err := cloud.Snapshot(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return !s.Begun.IsZero() && s.Begun.Before(at.Add(-clocksDiffer)), err
}

// snapshotsOf reads the snapshots of a copy, which are shown some time after it. One
// that is gone has none.
func (b *build) snapshotsOf(ctx context.Context, cloud Cloud, id ImageID) (ids []SnapshotID, err error) {
	err = b.waits.Image.until(ctx, "the snapshots of "+string(id), going(newborn(b.waits.Lost, func(ctx context.Context) (sight, error) {
		img, err := cloud.Image(ctx, id)
		ids = img.Snapshots
		return sight{state: string(img.State), done: len(ids) > 0 || img.State != ImagePending}, err
	})))
	return ids, err
}

// union is all of the one and the other.
func union[T comparable](one, other []T) []T {
	all := slices.Clone(one)
	for _, x := range other {
		if !slices.Contains(all, x) {
			all = append(all, x)
		}
	}
	return all
}
