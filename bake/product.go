package bake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// snapshot asks for a snapshot of the root volume. It does not wait for it: what
// the snapshot holds is settled when the cloud has answered.
func (b *build) snapshot(ctx context.Context, from basis, v volume) (act, error) {
	b.report.Step("Taking a snapshot of %s", v.id)
	made, err := b.arm(b.stack(from), act{
		Kind: actSnapshot, Volume: v.id, Begun: time.Now(), Described: true, Description: from.labels.Description,
	})
	if err != nil {
		return act{}, err
	}
	id, err := sound(b.cloud.CreateSnapshot(ctx, SnapshotSpec{
		Build: b.plan.Build, Volume: v.id, Description: from.labels.Description, Tags: from.labels.SnapshotTags,
	}))
	if err != nil {
		return act{}, err
	}
	made.answered(func(a *act) { a.Snapshot = id })
	b.report.Detail("snapshot %s", id)
	return made.value(), b.done(ctx, "create snapshot")
}

// stack is where snapshot and image are armed: an image that is there only to be
// copied, and its snapshot, are removed in the end whatever happens.
func (b *build) stack(from basis) *undo.Stack {
	if from.publication.Passing {
		return b.scaffold
	}
	return b.products
}

// register makes an image of the snapshot as soon as it is complete. An image that
// has its name makes way no earlier than that.
func (b *build) register(ctx context.Context, from basis, taken act) (Product, error) {
	none, snapshot := Product{}, taken.Snapshot
	if err := b.snapshotCompleted(ctx, taken); err != nil {
		return none, err
	}
	if err := b.cloud.Tag(ctx, string(snapshot), from.labels.SnapshotTags); err != nil {
		return none, err
	}
	spec := b.plan.imageSpec(from, snapshot)
	if !from.publication.Passing {
		if err := b.replace(ctx, b.products, from.Host.Region, from.replaced[from.Host.Region]); err != nil {
			return none, err
		}
	}
	b.report.Step("Registering the image %q", spec.Name)
	made, id, err := naming{
		build: b, stack: b.stack(from), act: act{Kind: actImage, Snapshot: snapshot, Name: spec.Name}, region: from.Host.Region,
		ask: func() (ImageID, error) { return b.cloud.Register(ctx, spec) },
	}.made(ctx)
	if err != nil {
		return none, err
	}
	made.answered(func(a *act) { a.Image = id })
	b.report.Detail("image %s", id)
	img, err := b.imageAvailable(ctx, b.cloud, id, func(i Image) error { return b.unlikeImage(made.value(), i) })
	if err != nil {
		return none, err
	}
	b.show("", string(id))
	if err := b.cloud.Tag(ctx, string(id), spec.Tags); err != nil {
		return none, err
	}
	product := Product{Region: from.Host.Region, Image: id, Snapshots: append([]SnapshotID{snapshot}, from.furtherOf(img)...)}
	return product, b.done(ctx, "register image")
}

// furtherOf are the snapshots of an image's further devices that were copied for it.
func (from basis) furtherOf(img Image) []SnapshotID {
	return slices.DeleteFunc(slices.Clone(img.Snapshots), func(id SnapshotID) bool { return !slices.Contains(from.further, id) })
}

func (p Plan) imageSpec(from basis, snapshot SnapshotID) ImageSpec {
	name := p.ImageName
	if from.publication.Passing {
		name = "packer-chroot-" + string(p.Build)
	}
	return ImageSpec{
		Build: p.Build, Name: name, Description: from.labels.Description, Tags: from.labels.ImageTags,
		Snapshot: snapshot, Source: from.Source, SizeGiB: from.volume.SizeGiB,
		VolumeType: from.volume.Type, IOPS: from.volume.IOPS, Throughput: from.volume.Throughput,
		Details: from.publication.Details,
	}
}

// snapshotCompleted waits for a snapshot and tells how far it is. The snapshot must
// show that it is the one that was asked for.
func (b *build) snapshotCompleted(ctx context.Context, taken act) error {
	id, told := taken.Snapshot, pacer{}
	return b.waits.Snapshot.until(ctx, fmt.Sprintf("snapshot %s", id), newborn(b.waits.Unseen, func(ctx context.Context) (sight, error) {
		s, err := b.cloud.Snapshot(ctx, id)
		if err == nil && (s.Volume != "" || s.State != SnapshotPending) {
			if err = b.unlikeSnapshot(taken, s); err == nil {
				b.show("", string(id))
			}
		}
		if err == nil && s.State == SnapshotError {
			err = failure(string(s.State), s.Reason)
		}
		if err == nil && told.due(s.Percent, time.Now()) {
			b.report.Detail("snapshot %s: %d%%", id, s.Percent)
		}
		return sight{state: string(s.State), percent: s.Percent, done: s.State == SnapshotCompleted}, err
	}))
}

// imageAvailable waits for an image and returns it. unlike returns why it cannot be the
// one that was asked for.
func (b *build) imageAvailable(ctx context.Context, cloud Cloud, id ImageID, unlike func(Image) error) (img Image, err error) {
	err = b.waits.Image.until(ctx, fmt.Sprintf("image %s", id), newborn(b.waits.Unseen, func(ctx context.Context) (sight, error) {
		var seen sight
		img, seen, err = lookAtImage(ctx, cloud, id, unlike)
		return seen, err
	}))
	return img, err
}

// copyAvailable waits for a copy of an image, tells how far it is, and returns it.
func (b *build) copyAvailable(ctx context.Context, copied act, cloud Cloud, shared []SnapshotID, unlike func(Image) error) (img Image, err error) {
	far, told := newCopying(cloud, shared, b.waits.Copy.Patience), pacer{}
	what := fmt.Sprintf("image %s, a copy of %s", copied.Image, copied.Source)
	err = b.waits.Copy.until(ctx, what, newborn(b.waits.Unseen, func(ctx context.Context) (sight, error) {
		var seen sight
		img, seen, err = lookAtImage(ctx, cloud, copied.Image, unlike)
		if err == nil && !seen.done {
			seen.percent, seen.finer = far.look(ctx, img)
			if seen.percent > 0 && told.due(seen.percent, time.Now()) {
				b.report.Detail("image %s in %s: %d%% copied", copied.Image, copied.Region, seen.percent)
			}
		}
		return seen, err
	}))
	return img, err
}

// lookAtImage looks at an image once. unlike returns why it cannot be the one that was
// asked for.
func lookAtImage(ctx context.Context, cloud Cloud, id ImageID, unlike func(Image) error) (Image, sight, error) {
	img, err := cloud.Image(ctx, id)
	if err == nil {
		err = unlike(img)
	}
	if err == nil && img.State == ImageFailed {
		err = failure(string(img.State), img.Reason)
	}
	return img, sight{state: string(img.State), done: img.State == ImageAvailable}, err
}

// failure is a state that cannot get better.
func failure(state, reason string) error {
	if reason == "" {
		reason = "the cloud gives no reason"
	}
	return fmt.Errorf("its state is %s: %s", state, reason)
}

// deleteSnapshot deletes a snapshot. A cloud that refuses while it is pending is
// asked again when it no longer is.
func (b *build) deleteSnapshot(ctx context.Context, cloud Cloud, id SnapshotID) error {
	refused := cloud.DeleteSnapshot(ctx, id)
	if refused == nil {
		return nil
	}
	if s, err := cloud.Snapshot(ctx, id); err != nil || s.settled() {
		return refused
	}
	what := fmt.Sprintf("snapshot %s to be ready to be deleted", id)
	err := b.waits.Snapshot.until(ctx, what, going(func(ctx context.Context) (sight, error) {
		s, err := cloud.Snapshot(ctx, id)
		return sight{state: string(s.State), percent: s.Percent, done: s.settled()}, err
	}))
	if err != nil {
		return errors.Join(refused, err)
	}
	return cloud.DeleteSnapshot(ctx, id)
}

// deregister removes an image and waits until it is gone, for its snapshot
// cannot be deleted before.
func (b *build) deregister(ctx context.Context, cloud Cloud, id ImageID) error {
	if err := cloud.Deregister(ctx, id); err != nil {
		return err
	}
	return b.gone(ctx, cloud, id)
}

// gone waits until the cloud does not know of an image any more.
func (b *build) gone(ctx context.Context, cloud Cloud, id ImageID) error {
	return b.waits.Image.until(ctx, fmt.Sprintf("image %s to be gone", id), going(func(ctx context.Context) (sight, error) {
		img, err := cloud.Image(ctx, id)
		return sight{state: string(img.State)}, err
	}))
}

// Destroy deletes an image that a build made, and then the snapshots made for it, but
// for those that another image has come to use. What is gone already is no error. The
// cloud may be that of any region.
func Destroy(ctx context.Context, cloud Cloud, p Product) error {
	return newBuild(cloud, nil, Plan{}, nil).remove(ctx, p)
}

// remove deletes an image and its snapshots, which it keeps from being deleted before.
func (b *build) remove(ctx context.Context, p Product) error {
	cloud := b.cloud.In(p.Region)
	if err := b.deregister(ctx, cloud, p.Image); err != nil {
		return err
	}
	var errs []error
	for _, id := range p.Snapshots {
		_, err := b.deleteUnused(ctx, cloud, p.Image, id)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// deleteUnused deletes a snapshot of an image that is gone, unless others use it, which
// it answers then.
func (b *build) deleteUnused(ctx context.Context, cloud Cloud, gone ImageID, id SnapshotID) (users []ImageID, err error) {
	users, err = others(ctx, cloud, gone, id)
	if err != nil || len(users) > 0 {
		return users, err
	}
	return nil, b.deleteSnapshot(ctx, cloud, id)
}

// others are the images that use a snapshot of an image, beside that. Lists lag behind:
// they may tell of what is gone.
func others(ctx context.Context, cloud Cloud, img ImageID, snapshot SnapshotID) ([]ImageID, error) {
	users, err := cloud.FindImages(ctx, snapshot)
	return slices.DeleteFunc(users, func(id ImageID) bool {
		if id == img {
			return true
		}
		_, gone := cloud.Image(ctx, id)
		return errors.Is(gone, ErrNotFound)
	}), err
}

// deleteFurther deletes the snapshot of a further device that was copied with the
// source. While the copy is there, it goes with that.
func (b *build) deleteFurther(ctx context.Context, a act) error {
	cloud := b.cloudOf(a)
	if _, err := cloud.Image(ctx, a.Image); !errors.Is(err, ErrNotFound) {
		return err
	}
	copied, ok := b.actOf(actCopy, func(c act) bool { return c.Image == a.Image && slices.Contains(c.Snapshots, a.Snapshot) })
	if !ok {
		return foreign(a.Snapshot, "is of no copy that build %s is known to have made", b.plan.Build)
	}
	users, err := b.deleteCopied(ctx, cloud, copied, a.Snapshot)
	b.tellUsers(a, users)
	return err
}

// deleteAll deletes snapshots, as many as it can.
func (b *build) deleteAll(ctx context.Context, cloud Cloud, snapshots []SnapshotID) (err error) {
	for _, id := range snapshots {
		err = errors.Join(err, b.deleteSnapshot(ctx, cloud, id))
	}
	return err
}
