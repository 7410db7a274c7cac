package bake

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// register registers the image of the snapshot and waits for it.
func (b *build) register(ctx context.Context, from preflight, snapshot SnapshotID) (Product, error) {
	spec := b.plan.imageSpec(from, snapshot)
	made, id, err := naming[imageAct]{
		build: b, group: from.group(), region: from.Host.Region, name: spec.Name,
		act: func(begun time.Time) imageAct {
			return imageAct{call: call{Begun: begun}, Snapshot: snapshot, Name: spec.Name}
		},
		request: func() (ImageID, error) { return b.cloud.Register(ctx, spec) },
	}.create(ctx)
	if err != nil {
		return Product{}, err
	}
	made.settle(func(a *imageAct) { a.Answered, a.Image = true, id })
	b.report.Detail("image %s", id)
	img, err := b.imageAvailable(ctx, b.cloud, id, func(i Image) error { return made.value().mismatch(b.undoer, i) })
	if err != nil {
		return Product{}, err
	}
	b.show("", string(id))
	if err := b.cloud.Tag(ctx, string(id), spec.Tags); err != nil {
		return Product{}, err
	}
	return Product{Region: from.Host.Region, Image: id, Snapshots: append([]SnapshotID{snapshot}, from.furtherOf(img)...)}, nil
}

// furtherOf returns the snapshots of an image's further devices that were copied for it.
func (from preflight) furtherOf(img Image) []SnapshotID {
	return slices.DeleteFunc(slices.Clone(img.Snapshots), func(id SnapshotID) bool { return !slices.Contains(from.further, id) })
}

// registeredName returns the name of the registered image: a name of its own if it is only
// copied.
func (p Plan) registeredName(from preflight) string {
	if from.publication.Passing {
		return "packer-chroot-" + string(p.Build)
	}
	return p.ImageName
}

func (p Plan) imageSpec(from preflight, snapshot SnapshotID) ImageSpec {
	return ImageSpec{
		Build: p.Build, Name: p.registeredName(from), Description: from.labels.ImageDescription, Tags: from.labels.ImageTags,
		Snapshot: snapshot, Source: from.Source, SizeGiB: from.volume.SizeGiB,
		VolumeType: from.volume.Type, IOPS: from.volume.IOPS, Throughput: from.volume.Throughput,
		Details: from.publication.Details,
	}
}

// imageAct is the registration of the image.
type imageAct struct {
	call
	Snapshot SnapshotID `json:"snapshot,omitempty"`
	Image    ImageID    `json:"image,omitempty"`
	Name     string     `json:"name,omitempty"`
	// Guarded means that the build may have protected the image from deregistration.
	Guarded bool `json:"guarded,omitempty"`
}

func (imageAct) kind() string { return "image" }

// String implements act.
func (a imageAct) String() string { return idOr("image", a.Image, string(a.Snapshot)) }

func (a imageAct) check(BuildID) error { return named(a.Snapshot != "") }

func (a imageAct) removal([]act) string { return fmt.Sprintf("deregister image %s", a.Image) }

// guarded implements guardable.
func (a imageAct) guarded(image ImageID) (act, bool) {
	a.Guarded = true
	return a, a.Image == image
}

func (a imageAct) undo(ctx context.Context, u *undoer, _ *entry) error {
	return a.creation(u).undo(ctx, u)
}

func (a imageAct) undoInherited(ctx context.Context, u *undoer, _ *entry) error {
	return a.creation(u).undoInherited(ctx, u, nil)
}

// creation finds the image by its snapshot, which is the build's own.
func (a imageAct) creation(u *undoer) creation[ImageID] {
	return creation[ImageID]{
		call: a.call, name: a.String(), id: a.Image,
		own:    func(ctx context.Context, id ImageID) error { return a.own(ctx, u, id) },
		source: func(ctx context.Context) error { return u.ownSnapshot(ctx, a.Snapshot) },
		find:   func(ctx context.Context) ([]ImageID, error) { return u.cloud.FindImages(ctx, a.Snapshot) },
		remove: func(ctx context.Context, id ImageID) error { return u.deregisterOwn(ctx, u.cloud, id, a.Guarded) },
	}
}

// mismatch returns why an image cannot be the act's; nil if it can.
func (a imageAct) mismatch(u *undoer, i Image) error {
	if err := u.imageMismatch(i, a.Name, u.begun(a.call)); err != nil || !i.described() {
		return err
	}
	if i.Root.Snapshot != a.Snapshot {
		return foreign(i.ID, "is of %q, and not of %s", i.Root.Snapshot, a.Snapshot)
	}
	return nil
}

// own returns nil if the cloud shows that an image is the act's. Its errors are those of
// volumeAct.own.
func (a imageAct) own(ctx context.Context, u *undoer, id ImageID) error {
	return u.ownImageIn(ctx, "", id, u.unseenLimit(a.call, false), func(i Image) error {
		if err := a.mismatch(u, i); err != nil {
			return err
		}
		if !i.described() {
			return foreign(id, "is not shown with any snapshot")
		}
		return u.ownSnapshot(ctx, a.Snapshot)
	})
}

// described reports whether the cloud describes an image: right after the creating call a
// Cloud may know no more than its id, and its snapshots may follow.
func (i Image) described() bool {
	return i.Name != "" && (len(i.Snapshots) > 0 || i.State != ImagePending)
}
