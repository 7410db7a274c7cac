package bake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// sourceCopyName returns the name of a copy that a build makes of a locked source.
func sourceCopyName(build BuildID) string { return "packer-chroot-source-" + string(build) }

// sourceCopyHeading describes the copy of a locked source.
func sourceCopyHeading(from preflight) string {
	if from.basis.Copy != nil {
		return fmt.Sprintf("Copying the source image %s into this account", from.Source.ID)
	}
	return fmt.Sprintf("Copying the source image %s, whose snapshots this account may not use", from.Source.ID)
}

// copySource copies a locked source image. The volume is then created from the copy. The
// new image will have the snapshots of the copy's further devices, so that they are tagged
// as its own.
func (b *build) copySource(ctx context.Context, from preflight) (preflight, error) {
	if from.basis.Copy != nil {
		return b.copyBasis(ctx, from)
	}
	begun := time.Now()
	copied, err := b.copyImage(ctx, scaffold, from.Host.Region, CopySpec{
		Build: b.plan.Build, Source: from.Source.ID, SourceRegion: from.Host.Region, Name: sourceCopyName(b.plan.Build),
		SnapshotTags: from.labels.SnapshotTags, Shared: from.Source.Snapshots,
	})
	if err != nil {
		return from, err
	}
	if copied.Root.Snapshot == "" {
		return from, fmt.Errorf("cannot start from image %s: the root device %q of its copy %s has no snapshot",
			from.Source.ID, copied.RootDevice, copied.ID)
	}
	from.volume.Snapshot = copied.Root.Snapshot
	from.further, err = b.furtherSnapshots(ctx, from.Host.Region, copied, begun)
	return from, err
}

// furtherSnapshots returns the snapshots of a copy's further devices that were made with it.
// The image that uses them may outlive the copy, or be undone after it, so that each is
// an act of its own.
func (b *build) furtherSnapshots(ctx context.Context, region string, copied Image, begun time.Time) ([]SnapshotID, error) {
	var own []SnapshotID
	for _, id := range copied.Snapshots {
		if id == copied.Root.Snapshot {
			continue
		}
		older, err := begunBefore(ctx, b.cloud, id, begun)
		if err != nil {
			return nil, err
		}
		if older {
			continue
		}
		if _, err := arm(b.undoer, products, furtherAct{call: call{Answered: true}, Region: region, Image: copied.ID, Snapshot: id}); err != nil {
			return nil, err
		}
		own = append(own, id)
	}
	return own, nil
}

// begunBefore reports whether a snapshot certainly existed before a time.
func begunBefore(ctx context.Context, cloud Cloud, id SnapshotID, at time.Time) (bool, error) {
	s, err := cloud.Snapshot(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return older(s.Begun, at), err
}

// furtherAct is the snapshot of a further device of a copied source. It becomes the image's
// if that uses it; otherwise it is removed with the copy.
type furtherAct struct {
	call
	Snapshot SnapshotID `json:"snapshot,omitempty"`
	// Image is the copy.
	Image  ImageID `json:"image,omitempty"`
	Region string  `json:"region,omitempty"`
}

func (furtherAct) kind() string { return "further snapshot" }

// String implements act.
func (a furtherAct) String() string {
	return fmt.Sprintf("snapshot %s of the copy %s in %s", a.Snapshot, a.Image, a.Region)
}

func (a furtherAct) check(BuildID) error { return named(a.Image != "" && a.Snapshot != "") }

// removal returns nothing if the copy is left too, because its removal names the snapshot.
func (a furtherAct) removal(left []act) string {
	for _, other := range left {
		if copied, ok := other.(copyAct); ok && copied.Image == a.Image {
			return ""
		}
	}
	return fmt.Sprintf("delete snapshot %s in %s", a.Snapshot, a.Region)
}

// undo deletes the snapshot. While the copy exists, it is removed with that.
func (a furtherAct) undo(ctx context.Context, u *undoer, _ *entry) error {
	if _, err := u.in(a.Region).Image(ctx, a.Image); !errors.Is(err, ErrNotFound) {
		return err
	}
	copied, ok := findAct(u, func(c copyAct) bool { return c.Image == a.Image && slices.Contains(c.Snapshots, a.Snapshot) })
	if !ok {
		return foreign(a.Snapshot, "is of no copy that build %s is known to have made", u.build)
	}
	users, err := copied.deleteSnapshot(ctx, u, a.Snapshot)
	u.reportUsers(a, users)
	return err
}

func (a furtherAct) undoInherited(ctx context.Context, u *undoer, e *entry) error {
	return a.undo(ctx, u, e)
}
