package bake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// register registers the image of the snapshot and waits for it.
func (b *build) register(ctx context.Context, from findings, snapshot SnapshotID) (Product, error) {
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
func (from findings) furtherOf(img Image) []SnapshotID {
	return slices.DeleteFunc(slices.Clone(img.Snapshots), func(id SnapshotID) bool { return !slices.Contains(from.further, id) })
}

// registeredName returns the name of the registered image: a name of its own if it is only
// copied.
func (p Plan) registeredName(from findings) string {
	if from.publication.Passing {
		return "packer-chroot-" + string(p.Build)
	}
	return p.ImageName
}

func (p Plan) imageSpec(from findings, snapshot SnapshotID) ImageSpec {
	return ImageSpec{
		Build: p.Build, Name: p.registeredName(from), Description: from.labels.Description, Tags: from.labels.ImageTags,
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

// imageMismatch returns why an image cannot be the account's own one with a name that was
// requested at a time.
func (u *undoer) imageMismatch(i Image, name string, begun time.Time) error {
	switch {
	case i.Name == "":
		return nil // the cloud does not describe it yet
	case u.account != "" && i.Owner != "" && i.Owner != u.account:
		return foreign(i.ID, "belongs to account %s, and not to %s", i.Owner, u.account)
	case name != "" && i.Name != name:
		return foreign(i.ID, "is named %q, and build %s asked for %q", i.Name, u.build, name)
	case older(i.Begun, begun):
		return foreign(i.ID, "was created at %s, before build %s asked for it", i.Created, u.build)
	}
	return nil
}

// ownImageIn returns nil if an image in a region is described within a limit and passes a
// check.
func (u *undoer) ownImageIn(ctx context.Context, region string, id ImageID, limit time.Duration, check func(Image) error) error {
	if u.isShown(region, string(id)) {
		return nil
	}
	cloud := u.in(region)
	i, err := readDescribed(ctx, limit, func() (Image, error) { return cloud.Image(ctx, id) }, Image.described)
	if err == nil && i.Name == "" {
		err = undescribed(id)
	}
	if err == nil {
		err = check(i)
	}
	if err == nil {
		u.show(region, string(id))
	}
	return err
}

// imageAvailable waits for an image and returns it. mismatch returns why it cannot be the
// requested one.
func (u *undoer) imageAvailable(ctx context.Context, cloud Cloud, id ImageID, mismatch func(Image) error) (img Image, err error) {
	err = u.waits.Image.until(ctx, fmt.Sprintf("image %s", id), tolerateUnseen(u.waits.Unseen, func(ctx context.Context) (observation, error) {
		var seen observation
		img, seen, err = observeImage(ctx, cloud, id, mismatch)
		return seen, err
	}))
	return img, err
}

// observeImage reads an image once. mismatch returns why it cannot be the requested one.
func observeImage(ctx context.Context, cloud Cloud, id ImageID, mismatch func(Image) error) (Image, observation, error) {
	img, err := cloud.Image(ctx, id)
	if err == nil {
		err = mismatch(img)
	}
	if err == nil && img.State == ImageFailed {
		err = failure(string(img.State), img.Reason)
	}
	return img, observation{state: string(img.State), done: img.State == ImageAvailable}, err
}

// failure returns the error of a state that is final.
func failure(state, reason string) error {
	if reason == "" {
		reason = "the cloud gives no reason"
	}
	return fmt.Errorf("its state is %s: %s", state, reason)
}

// deregisterOwn deregisters an image of the build, also if that has protected it.
func (u *undoer) deregisterOwn(ctx context.Context, cloud Cloud, id ImageID, guarded bool) error {
	if guarded {
		if err := cloud.Unguard(ctx, id); err != nil {
			return err
		}
	}
	return u.deregister(ctx, cloud, id)
}

// deregister deregisters an image and waits until it is gone, because its snapshot cannot
// be deleted before.
func (u *undoer) deregister(ctx context.Context, cloud Cloud, id ImageID) error {
	if err := cloud.Deregister(ctx, id); err != nil {
		return err
	}
	return u.imageGone(ctx, cloud, id)
}

// imageGone waits until the cloud does not show an image any more.
func (u *undoer) imageGone(ctx context.Context, cloud Cloud, id ImageID) error {
	return u.waits.Image.until(ctx, fmt.Sprintf("image %s to be gone", id), goneIsDone(func(ctx context.Context) (observation, error) {
		img, err := cloud.Image(ctx, id)
		return observation{state: string(img.State)}, err
	}))
}

// deleteUnused deletes a snapshot of an image that is gone, unless other images use it,
// which it then returns.
func (u *undoer) deleteUnused(ctx context.Context, cloud Cloud, gone ImageID, id SnapshotID) (users []ImageID, err error) {
	users, err = otherUsers(ctx, cloud, gone, id)
	if err != nil || len(users) > 0 {
		return users, err
	}
	return nil, u.deleteSnapshot(ctx, cloud, id)
}

// otherUsers returns the images that use a snapshot, without one of them. Lists lag behind:
// they may show images that are gone.
func otherUsers(ctx context.Context, cloud Cloud, img ImageID, snapshot SnapshotID) ([]ImageID, error) {
	users, err := cloud.FindImages(ctx, snapshot)
	return slices.DeleteFunc(users, func(id ImageID) bool {
		if id == img {
			return true
		}
		_, gone := cloud.Image(ctx, id)
		return errors.Is(gone, ErrNotFound)
	}), err
}
