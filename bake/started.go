package bake

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// start starts the snapshot of a direct build.
func (b *build) start(ctx context.Context, from preflight) (armed[startedAct], error) {
	started, err := arm(b.undoer, from.group(), startedAct{
		call: call{Begun: time.Now()}, Build: b.plan.Build, Description: from.labels.SnapshotDescription,
	})
	if err != nil {
		return started, err
	}
	id, err := validID(b.store.Start(ctx, StartSpec{
		Build: b.plan.Build, SizeGiB: from.volume.SizeGiB, Parent: from.basis.Parent, Encryption: from.basis.Encryption,
		Description: from.labels.SnapshotDescription, Tags: from.labels.SnapshotTags,
	}))
	if err != nil {
		return started, err
	}
	started.settle(func(a *startedAct) { a.Answered, a.Snapshot = true, id })
	b.report.Detail("snapshot %s", id)
	return started, nil
}

// startedCompleted waits for a snapshot whose blocks were uploaded.
func (b *build) startedCompleted(ctx context.Context, started startedAct) error {
	return b.awaitSnapshot(ctx, startedWait, started.Snapshot, func(s Snapshot) error {
		if s.Build == "" && s.State == SnapshotPending {
			return nil // the cloud may show the tag some time after the snapshot
		}
		if err := started.mismatch(b.undoer, s); err != nil {
			return err
		}
		b.show("", string(s.ID))
		return nil
	})
}

// startedAct is the start of a snapshot that is written block by block. It is found by the
// build's tag, which it carries until the build has succeeded: it has no volume.
type startedAct struct {
	call
	Build       BuildID    `json:"build,omitempty"`
	Snapshot    SnapshotID `json:"snapshot,omitempty"`
	Description string     `json:"description,omitempty"`
}

func (startedAct) kind() string { return "started snapshot" }

// String implements act.
func (a startedAct) String() string {
	return idOr("snapshot", a.Snapshot, "build "+string(a.Build))
}

func (a startedAct) check(build BuildID) error { return named(a.Build == build) }

func (a startedAct) removal([]act) string { return fmt.Sprintf("delete snapshot %s", a.Snapshot) }

func (a startedAct) undo(ctx context.Context, u *undoer, _ *entry) error {
	c, err := a.creation(u)
	if err != nil {
		return err
	}
	return c.undo(ctx, u)
}

// undoInherited deletes the snapshot, unless it is still that of an image.
func (a startedAct) undoInherited(ctx context.Context, u *undoer, _ *entry) error {
	c, err := a.creation(u)
	if err != nil {
		return err
	}
	c.remove = u.deleteIfUnused
	return c.undoInherited(ctx, u, nil)
}

// creation finds the snapshot by the build's tag.
func (a startedAct) creation(u *undoer) (creation[SnapshotID], error) {
	store := blockStore(u.cloud)
	if store == nil {
		return creation[SnapshotID]{}, errors.New("this cloud has no snapshots that are written block by block")
	}
	return creation[SnapshotID]{
		call: a.call, name: a.String(), id: a.Snapshot,
		own:    func(ctx context.Context, id SnapshotID) error { return a.own(ctx, u, id) },
		find:   func(ctx context.Context) ([]SnapshotID, error) { return store.FindStarted(ctx, a.Build) },
		remove: func(ctx context.Context, id SnapshotID) error { return u.deleteSnapshot(ctx, u.cloud, id) },
	}, nil
}

// mismatch returns why a snapshot cannot be the act's; nil if it can.
func (a startedAct) mismatch(u *undoer, s Snapshot) error {
	switch {
	case s.Build != a.Build:
		return foreign(s.ID, "does not carry the tag of build %s", a.Build)
	case s.Volume != "":
		return foreign(s.ID, "is of the volume %s, and build %s wrote its snapshot block by block", s.Volume, a.Build)
	case older(s.Begun, u.begun(a.call)):
		return foreign(s.ID, "was begun at %s, before build %s asked for it", s.Begun.UTC().Format(time.RFC3339), a.Build)
	case s.Description != a.Description:
		return foreign(s.ID, "is described as %.100q, and build %s asked for %.100q", s.Description, a.Build, a.Description)
	}
	return nil
}

// own returns nil if the cloud shows that a snapshot is the act's. Its errors are those of
// volumeAct.own.
func (a startedAct) own(ctx context.Context, u *undoer, id SnapshotID) error {
	if u.isShown("", string(id)) {
		return nil
	}
	s, err := readDescribed(ctx, u.unseenLimit(a.call, false), func() (Snapshot, error) { return u.cloud.Snapshot(ctx, id) }, func(s Snapshot) bool { return s.Build != "" })
	if err == nil && s.Begun.IsZero() {
		err = undescribed(id)
	}
	if err == nil {
		err = a.mismatch(u, s)
	}
	if err == nil {
		u.show("", string(id))
	}
	return err
}
