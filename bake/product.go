package bake

import (
	"context"
	"errors"
	"fmt"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// snapshot asks for a snapshot of the root volume. It does not wait for it: what
// the snapshot holds is settled when the cloud has answered.
func (b *build) snapshot(ctx context.Context, from basis, v volume) (SnapshotID, error) {
	b.report.Step("Taking a snapshot of %s", v.id)
	made, err := b.arm(b.stack(from), act{Kind: actSnapshot, Volume: v.id})
	if err != nil {
		return "", err
	}
	id, err := sound(b.cloud.CreateSnapshot(ctx, SnapshotSpec{
		Build: b.plan.Build, Volume: v.id, Description: from.labels.Description, Tags: from.labels.SnapshotTags,
	}))
	if err != nil {
		return "", err
	}
	made.answered(func(a *act) { a.Snapshot = id })
	b.report.Detail("snapshot %s", id)
	return id, b.done(ctx, "create snapshot")
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
func (b *build) register(ctx context.Context, from basis, snapshot SnapshotID) (ImageID, error) {
	if err := b.snapshotCompleted(ctx, snapshot); err != nil {
		return "", err
	}
	spec := b.plan.imageSpec(from, snapshot)
	if !from.publication.Passing {
		if err := b.replace(ctx, b.products, from.Host.Region, from.replaced[from.Host.Region]); err != nil {
			return "", err
		}
	}
	b.report.Step("Registering the image %q", spec.Name)
	made, err := b.arm(b.stack(from), act{Kind: actImage, Snapshot: snapshot})
	if err != nil {
		return "", err
	}
	id, err := sound(b.cloud.Register(ctx, spec))
	if err != nil {
		return "", err
	}
	made.answered(func(a *act) { a.Image = id })
	b.report.Detail("image %s", id)
	if _, err := b.imageAvailable(ctx, b.cloud, b.waits.Image, id); err != nil {
		return "", err
	}
	return id, b.done(ctx, "register image")
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
	}
}

// snapshotCompleted waits for a snapshot and tells how far it is.
func (b *build) snapshotCompleted(ctx context.Context, id SnapshotID) error {
	told := -1
	return b.waits.Snapshot.until(ctx, fmt.Sprintf("snapshot %s", id), newborn(b.waits.Unseen, func(ctx context.Context) (sight, error) {
		s, err := b.cloud.Snapshot(ctx, id)
		if err == nil && s.State == SnapshotError {
			err = failure(string(s.State), s.Reason)
		}
		if err == nil && s.Percent > told {
			b.report.Detail("snapshot %s: %d%%", id, s.Percent)
			told = s.Percent
		}
		return sight{state: string(s.State), percent: s.Percent, done: s.State == SnapshotCompleted}, err
	}))
}

// imageAvailable waits for an image and answers it.
func (b *build) imageAvailable(ctx context.Context, cloud Cloud, pace Pace, id ImageID) (img Image, err error) {
	err = pace.until(ctx, fmt.Sprintf("image %s", id), newborn(b.waits.Unseen, func(ctx context.Context) (sight, error) {
		img, err = cloud.Image(ctx, id)
		if err == nil && img.State == ImageFailed {
			err = failure(string(img.State), img.Reason)
		}
		return sight{state: string(img.State), done: img.State == ImageAvailable}, err
	}))
	return img, err
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
	if s, err := cloud.Snapshot(ctx, id); err != nil || s.State != SnapshotPending {
		return refused
	}
	what := fmt.Sprintf("snapshot %s to be ready to be deleted", id)
	err := b.waits.Snapshot.until(ctx, what, going(func(ctx context.Context) (sight, error) {
		s, err := cloud.Snapshot(ctx, id)
		return sight{state: string(s.State), percent: s.Percent, done: s.State != SnapshotPending}, err
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

// Destroy deletes an image that a build made, and then the snapshots made for it. What
// is gone already is no error. The cloud may be that of any region.
func Destroy(ctx context.Context, cloud Cloud, p Product) error {
	return newBuild(cloud, nil, Plan{}, nil).remove(ctx, p)
}

// remove deletes an image and its snapshots, which it keeps from being deleted before.
func (b *build) remove(ctx context.Context, p Product) error {
	cloud := b.cloud.In(p.Region)
	if err := b.deregister(ctx, cloud, p.Image); err != nil {
		return err
	}
	return b.deleteAll(ctx, cloud, p.Snapshots)
}

// deleteAll deletes snapshots, as many as it can.
func (b *build) deleteAll(ctx context.Context, cloud Cloud, snapshots []SnapshotID) (err error) {
	for _, id := range snapshots {
		err = errors.Join(err, b.deleteSnapshot(ctx, cloud, id))
	}
	return err
}
