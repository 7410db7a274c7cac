package bake

import (
	"context"
	"fmt"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// snapshot requests a snapshot of the root volume. It does not wait for it: its content is
// fixed when the cloud has answered.
func (b *build) snapshot(ctx context.Context, from preflight, v volume) (armed[snapshotAct], error) {
	taken, err := arm(b.undoer, from.group(), snapshotAct{
		call: call{Begun: time.Now()}, Volume: v.id, Described: true, Description: from.labels.SnapshotDescription,
	})
	if err != nil {
		return taken, err
	}
	id, err := validID(b.cloud.CreateSnapshot(ctx, SnapshotSpec{
		Build: b.plan.Build, Volume: v.id, Description: from.labels.SnapshotDescription, Tags: from.labels.SnapshotTags,
	}))
	if err != nil {
		return taken, err
	}
	taken.settle(func(a *snapshotAct) { a.Answered, a.Snapshot = true, id })
	b.report.Detail("snapshot %s", id)
	return taken, nil
}

// group returns the group of the snapshot and the image. An image that is only copied, and
// its snapshot, are removed at the end in any case.
func (from preflight) group() undo.Group {
	if from.publication.Passing {
		return scaffold
	}
	return products
}

// completeSnapshot waits for the snapshot, and gives it the tags that its request could
// not.
func (b *build) completeSnapshot(ctx context.Context, from preflight, taken snapshotAct) error {
	if err := b.snapshotCompleted(ctx, taken); err != nil {
		return err
	}
	return b.cloud.Tag(ctx, string(taken.Snapshot), from.labels.SnapshotTags)
}

// snapshotCompleted waits for the snapshot of the volume, which must show that it is the
// requested one.
func (b *build) snapshotCompleted(ctx context.Context, taken snapshotAct) error {
	return b.awaitSnapshot(ctx, snapshotWait, taken.Snapshot, func(s Snapshot) error {
		if s.Volume == "" && s.State == SnapshotPending {
			return nil
		}
		if err := taken.mismatch(b.undoer, s); err != nil {
			return err
		}
		b.show("", string(s.ID))
		return nil
	})
}

// awaitSnapshot waits for a snapshot. own returns why it cannot be the
// requested one.
func (b *build) awaitSnapshot(ctx context.Context, kind string, id SnapshotID, own func(Snapshot) error) error {
	return b.watch(ctx, b.waits.Snapshot, kind, fmt.Sprintf("snapshot %s", id), tolerateUnseen(b.waits.Unseen, func(ctx context.Context) (observation, error) {
		s, err := b.cloud.Snapshot(ctx, id)
		if err == nil {
			err = own(s)
		}
		if err == nil && s.State == SnapshotError {
			err = failure(string(s.State), s.Reason)
		}
		return observation{state: string(s.State), percent: s.Percent, done: s.State == SnapshotCompleted}, err
	}))
}

// snapshotAct is the creation of the root volume's snapshot.
type snapshotAct struct {
	call
	Volume   VolumeID   `json:"volume,omitempty"`
	Snapshot SnapshotID `json:"snapshot,omitempty"`
	// Described means that Description is that of the request.
	Described   bool   `json:"described,omitempty"`
	Description string `json:"description,omitempty"`
}

func (snapshotAct) kind() string { return "snapshot" }

// String implements act.
func (a snapshotAct) String() string { return idOr("snapshot", a.Snapshot, string(a.Volume)) }

func (a snapshotAct) check(BuildID) error { return named(a.Volume != "") }

func (a snapshotAct) removal([]act) string { return fmt.Sprintf("delete snapshot %s", a.Snapshot) }

func (a snapshotAct) undo(ctx context.Context, u *undoer, _ *entry) error {
	return a.creation(u).undo(ctx, u)
}

// undoInherited deletes the snapshot, unless it is still that of an image: then the journal
// is wrong about the image, which would lose its root.
func (a snapshotAct) undoInherited(ctx context.Context, u *undoer, _ *entry) error {
	c := a.creation(u)
	c.remove = u.deleteIfUnused
	return c.undoInherited(ctx, u, nil)
}

// deleteIfUnused deletes a snapshot, unless it is that of an image.
func (u *undoer) deleteIfUnused(ctx context.Context, id SnapshotID) error {
	if err := u.unused(ctx, id); err != nil {
		return err
	}
	return u.deleteSnapshot(ctx, u.cloud, id)
}

// creation finds the snapshot by its volume, which is the build's own.
func (a snapshotAct) creation(u *undoer) creation[SnapshotID] {
	return creation[SnapshotID]{
		call: a.call, name: a.String(), id: a.Snapshot,
		own:    func(ctx context.Context, id SnapshotID) error { return a.own(ctx, u, id) },
		source: func(ctx context.Context) error { return u.ownOrGoneVolume(ctx, a.Volume) },
		find:   func(ctx context.Context) ([]SnapshotID, error) { return u.cloud.FindSnapshots(ctx, a.Volume) },
		remove: func(ctx context.Context, id SnapshotID) error { return u.deleteSnapshot(ctx, u.cloud, id) },
	}
}

// unused returns an error if a snapshot is that of an image. An image that was just
// deregistered may be shown for a while.
func (u *undoer) unused(ctx context.Context, id SnapshotID) error {
	for begun := time.Now(); ; {
		images, err := u.cloud.FindImages(ctx, id)
		if err != nil || len(images) == 0 {
			return ignoreGone(err)
		}
		if time.Since(begun) >= u.waits.Lost {
			return foreign(id, "is in use by the image %s", images[0])
		}
		if err := sleep(ctx, min(u.waits.Lost/4, longestInterval)); err != nil {
			return err
		}
	}
}

// mismatch returns why a snapshot cannot be the act's; nil if it can.
func (a snapshotAct) mismatch(u *undoer, s Snapshot) error {
	switch {
	case s.Volume != a.Volume:
		return foreign(s.ID, "is of the volume %q, and not of %s", s.Volume, a.Volume)
	case older(s.Begun, u.begun(a.call)):
		return foreign(s.ID, "was begun at %s, before build %s asked for it", s.Begun.UTC().Format(time.RFC3339), u.build)
	case a.Described && s.Description != a.Description:
		return foreign(s.ID, "is described as %.100q, and build %s asked for %.100q", s.Description, u.build, a.Description)
	}
	return nil
}

// own returns nil if the cloud shows that a snapshot is the act's. Its errors are those of
// volumeAct.own.
func (a snapshotAct) own(ctx context.Context, u *undoer, id SnapshotID) error {
	if u.isShown("", string(id)) {
		return nil
	}
	s, err := readDescribed(ctx, u.unseenLimit(a.call, false), func() (Snapshot, error) { return u.cloud.Snapshot(ctx, id) }, func(s Snapshot) bool { return s.Volume != "" })
	if err == nil && s.Volume == "" && s.Begun.IsZero() {
		err = undescribed(id)
	}
	if err == nil {
		err = a.mismatch(u, s)
	}
	if err == nil {
		err = u.ownOrGoneVolume(ctx, a.Volume)
	}
	if err == nil {
		u.show("", string(id))
	}
	return err
}
