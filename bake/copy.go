package bake

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// copyAll makes the requested copies of the image, side by side.
func (b *build) copyAll(ctx context.Context, from preflight, image ImageID) ([]Product, error) {
	made := make([]Product, len(from.publication.Copies))
	work, branch := errgroup.WithContext(ctx)
	for i, wanted := range from.publication.Copies {
		group := b.addRegion(productsIn(wanted.Region))
		work.Go(func() (err error) {
			made[i], err = b.copyTo(branch, group, from, image, wanted)
			return err
		})
	}
	return made, work.Wait()
}

// copyTo makes the copy of the image in one region. An image that has the name there is
// replaced.
func (b *build) copyTo(ctx context.Context, group undo.Group, from preflight, image ImageID, wanted Copy) (made Product, err error) {
	if err := b.replace(ctx, group, wanted.Region, from.replaced[wanted.Region]); err != nil {
		return Product{}, err
	}
	err = b.perform(ctx, step{
		name:    "copy image to " + wanted.Region,
		heading: func() string { return fmt.Sprintf("Copying %s to %s", image, wanted.Region) },
		run: func(ctx context.Context) error {
			copied, err := b.copyImage(ctx, group, wanted.Region, CopySpec{
				Build: b.plan.Build, Source: image, SourceRegion: from.Host.Region, Name: b.plan.ImageName,
				Description: from.labels.ImageDescription, ImageTags: from.labels.ImageTags, SnapshotTags: from.labels.SnapshotTags,
				Encrypted: wanted.Encrypted, KMSKeyID: wanted.KMSKeyID,
			})
			made = Product{Region: wanted.Region, Image: copied.ID, Snapshots: copied.Snapshots}
			return err
		},
	})
	return made, err
}

// copyImage makes a copy in a region and waits for it.
func (b *build) copyImage(ctx context.Context, group undo.Group, region string, spec CopySpec) (Image, error) {
	cloud := b.cloud.In(region)
	made, id, err := naming[copyAct]{
		build: b, group: group, region: region, name: spec.Name,
		act: func(begun time.Time) copyAct {
			return copyAct{call: call{Begun: begun}, Region: region, Source: spec.Source, Name: spec.Name}
		},
		request: func() (ImageID, error) { return cloud.Copy(ctx, spec) },
	}.create(ctx)
	if err != nil {
		return Image{}, err
	}
	made.settle(func(a *copyAct) { a.Answered, a.Image = true, id })
	b.report.Detail("image %s in %s", id, region)
	img, err := b.copyAvailable(ctx, made.value(), cloud, spec.Shared)
	if err != nil {
		return Image{}, err
	}
	b.show(region, string(id))
	made.settle(func(a *copyAct) { a.Snapshots = img.Snapshots })
	return img, tagCopy(ctx, cloud, img, spec)
}

// copyAvailable waits for a copy of an image and returns it.
func (b *build) copyAvailable(ctx context.Context, copied copyAct, cloud Cloud, shared []SnapshotID) (img Image, err error) {
	progress := newCopying(cloud, shared, b.waits.Copy.Limit)
	what := fmt.Sprintf("image %s, a copy of %s", copied.Image, copied.Source)
	mismatch := func(i Image) error { return copied.mismatch(b.undoer, i) }
	err = b.watch(ctx, b.waits.Copy, copyWait+" to "+copied.Region, what, tolerateUnseen(b.waits.Unseen, func(ctx context.Context) (observation, error) {
		var seen observation
		img, seen, err = observeImage(ctx, cloud, copied.Image, mismatch)
		if err == nil && !seen.done {
			seen.percent, seen.finer = progress.of(ctx, img)
		}
		return seen, err
	}))
	return img, err
}

// tagCopy gives a copy, and the snapshots that were made with it, the tags that the request
// could not.
func tagCopy(ctx context.Context, cloud Cloud, copied Image, spec CopySpec) error {
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

// copyAct is a copy of an image, with snapshots of its own.
type copyAct struct {
	call
	Image  ImageID `json:"image,omitempty"`
	Region string  `json:"region,omitempty"`
	// Source and Name are those of the request. Snapshots were made for the copy.
	Source    ImageID      `json:"source,omitempty"`
	Name      string       `json:"name,omitempty"`
	Snapshots []SnapshotID `json:"snapshots,omitempty"`
	// Guarded means that the build may have protected the image from deregistration.
	Guarded bool `json:"guarded,omitempty"`
}

func (copyAct) kind() string { return "copy" }

// String implements act. The snapshots are named because they may outlive the copy.
func (a copyAct) String() string {
	name := idOr("copy", a.Image, string(a.Source))
	if len(a.Snapshots) > 0 {
		name += " (" + snapshotList(a.Snapshots) + ")"
	}
	return name + " in " + a.Region
}

func (a copyAct) check(BuildID) error { return named(a.Source != "" && a.Name != "") }

func (a copyAct) removal([]act) string {
	step := fmt.Sprintf("deregister image %s in %s", a.Image, a.Region)
	if len(a.Snapshots) == 0 {
		return step + " and delete the snapshots made for it"
	}
	return fmt.Sprintf("%s; delete %s in %s", step, snapshotList(a.Snapshots), a.Region)
}

// guarded implements guardable.
func (a copyAct) guarded(image ImageID) (act, bool) {
	a.Guarded = true
	return a, a.Image == image
}

func (a copyAct) undo(ctx context.Context, u *undoer, e *entry) error {
	return a.creation(u, e).undo(ctx, u)
}

// undoInherited removes the copy. If it is gone, its snapshots may be left.
func (a copyAct) undoInherited(ctx context.Context, u *undoer, e *entry) error {
	return a.creation(u, e).undoInherited(ctx, u, func(ctx context.Context) error { return a.deleteSnapshots(ctx, u) })
}

// creation finds the copy by its source and its name.
func (a copyAct) creation(u *undoer, e *entry) creation[ImageID] {
	cloud := u.in(a.Region)
	return creation[ImageID]{
		call: a.call, name: a.String(), id: a.Image,
		own:    func(ctx context.Context, id ImageID) error { return a.own(ctx, u, id) },
		source: func(ctx context.Context) error { return a.ownSource(ctx, u) },
		find:   func(ctx context.Context) ([]ImageID, error) { return cloud.FindCopies(ctx, a.Source, a.Name) },
		remove: func(ctx context.Context, id ImageID) error { return a.remove(ctx, u, e, id) },
	}
}

// remove removes a copy that is the act's, and the snapshots that were made with it. These
// are noted in the journal first, because they cannot be found once the copy is gone.
func (a copyAct) remove(ctx context.Context, u *undoer, e *entry, id ImageID) error {
	cloud := u.in(a.Region)
	snapshots, err := u.snapshotsOf(ctx, cloud, id)
	if err != nil {
		return err
	}
	if len(snapshots) > 0 {
		a.Image, a.Snapshots = id, snapshots
		settleAct(e, func(known *copyAct) { known.Image, known.Snapshots = a.Image, a.Snapshots })
	}
	own, err := a.ownSnapshots(ctx, u)
	if err != nil {
		return err
	}
	if err := u.deregisterOwn(ctx, cloud, id, a.Guarded); err != nil {
		return err
	}
	for _, snapshot := range own {
		err = errors.Join(err, u.deleteSnapshot(ctx, cloud, snapshot))
	}
	return err
}

// deleteSnapshots deletes the snapshots of a copy that is gone.
func (a copyAct) deleteSnapshots(ctx context.Context, u *undoer) error {
	var errs []error
	for _, id := range a.Snapshots {
		_, err := a.deleteSnapshot(ctx, u, id)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// deleteSnapshot deletes a snapshot of a copy that is gone, if the cloud shows that it was
// made for it and that no other image uses it. It returns the images that do.
func (a copyAct) deleteSnapshot(ctx context.Context, u *undoer, id SnapshotID) (users []ImageID, err error) {
	made, err := a.madeFor(ctx, u, id, u.isShown(a.Region, string(a.Image)))
	if err != nil || !made {
		return nil, err
	}
	return u.deleteUnused(ctx, u.in(a.Region), a.Image, id)
}

// ownSnapshots returns those of the copy's snapshots that were made with it, and that no
// other image uses: an image made of a copied source may have its further devices.
func (a copyAct) ownSnapshots(ctx context.Context, u *undoer) ([]SnapshotID, error) {
	var own []SnapshotID
	for _, id := range a.Snapshots {
		users, err := otherUsers(ctx, u.in(a.Region), a.Image, id)
		if err != nil {
			return nil, err
		}
		made, err := a.madeFor(ctx, u, id, true)
		if err != nil {
			return nil, err
		}
		if made && len(users) == 0 {
			own = append(own, id)
		}
	}
	return own, nil
}

// madeFor reports whether the cloud shows that a snapshot was made for the copy. listed
// means that the cloud has shown it among the copy's. An older one is the source's own.
func (a copyAct) madeFor(ctx context.Context, u *undoer, id SnapshotID, listed bool) (bool, error) {
	s, err := u.in(a.Region).Snapshot(ctx, id)
	if err != nil || older(s.Begun, u.begun(a.call)) {
		return false, ignoreGone(err)
	}
	err = a.snapshotMismatch(ctx, u, s, listed)
	if errors.Is(err, errForeign) {
		u.report.Warn("%v", err)
		return false, nil
	}
	return err == nil, err
}

// imageInDescription matches the ids of images in a description.
var imageInDescription = regexp.MustCompile(`\bami-[0-9a-z-]+`)

// snapshotMismatch returns why a snapshot was not made for the copy. Clouds name the copy in
// the description of such snapshots. If one does not, the copy must have been seen to list
// it, and it must be of no existing volume.
func (a copyAct) snapshotMismatch(ctx context.Context, u *undoer, s Snapshot, listed bool) error {
	if named := imageInDescription.FindString(s.Description); named != "" {
		if named != string(a.Image) {
			return foreign(s.ID, "was made for %s, and not for the copy %s", named, a.Image)
		}
		return nil
	}
	if !listed {
		return foreign(s.ID, "does not say that it was made for the copy %s", a.Image)
	}
	if s.Volume == "" {
		return nil
	}
	_, err := u.in(a.Region).Volume(ctx, s.Volume)
	if err == nil {
		return foreign(s.ID, "is of %s, and was not made for the copy %s", s.Volume, a.Image)
	}
	return ignoreGone(err)
}

// mismatch returns why an image cannot be the act's copy; nil if it can.
func (a copyAct) mismatch(u *undoer, i Image) error {
	if err := u.imageMismatch(i, a.Name, u.begun(a.call)); err != nil {
		return err
	}
	if i.CopyOf != "" && i.CopyOf != a.Source {
		return foreign(i.ID, "is a copy of %s, and not of %s", i.CopyOf, a.Source)
	}
	return nil
}

// own returns nil if the cloud shows that an image is the act's copy. Its errors are those
// of volumeAct.own.
func (a copyAct) own(ctx context.Context, u *undoer, id ImageID) error {
	described := len(a.Snapshots) > 0 // they were read when the copy was described
	return u.ownImageIn(ctx, a.Region, id, u.unseenLimit(a.call, described), func(i Image) error {
		if err := a.mismatch(u, i); err != nil {
			return err
		}
		return a.ownSource(ctx, u)
	})
}

// ownSource returns nil if the source of the copy is, or was, the build's own image, or if
// the name of the copy shows that this build made it of its source image.
func (a copyAct) ownSource(ctx context.Context, u *undoer) error {
	if a.Name == sourceCopyName(u.build) || u.isShown("", string(a.Source)) {
		return nil
	}
	made, ok := findAct(u, func(i imageAct) bool { return i.Image == a.Source || i.Image == "" })
	if !ok {
		return foreign(a.Source, "is not an image that build %s registered", u.build)
	}
	err := made.own(ctx, u, a.Source)
	switch {
	case err == nil, errors.Is(err, ErrNotFound) && made.Image == a.Source: // an image that is only copied is removed first
		return nil
	case errors.Is(err, ErrNotFound):
		return foreign(a.Source, "is gone, and build %s is not known to have registered it", u.build)
	}
	return fmt.Errorf("what a copy was made of is not shown to be the build's: %w", err)
}

// snapshotsOf reads the snapshots of a copy, which the cloud shows some time after it, or
// only when it is complete: then they are found otherwise. A copy that is gone has none.
func (u *undoer) snapshotsOf(ctx context.Context, cloud Cloud, id ImageID) (ids []SnapshotID, err error) {
	begun := time.Now()
	err = u.watch(ctx, u.waits.Image, copiedWait, "the snapshots of "+string(id), goneIsDone(tolerateUnseen(u.waits.Lost, func(ctx context.Context) (observation, error) {
		img, err := cloud.Image(ctx, id)
		ids = img.Snapshots
		if err == nil && len(ids) == 0 && img.State == ImagePending && time.Since(begun) >= u.waits.Lost {
			ids, _ = cloud.FindCopied(ctx, id) // if they cannot be found, the wait goes on
		}
		return observation{state: string(img.State), done: len(ids) > 0 || img.State != ImagePending}, err
	})))
	return ids, err
}
