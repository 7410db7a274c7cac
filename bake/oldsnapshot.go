package bake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// armOldSnapshots has the snapshots of replaced images deleted after the build has
// succeeded, if the user wants that. kept are the acts that are then not undone.
func (b *build) armOldSnapshots(kept []*entry) []armed[oldSnapshotAct] {
	if !b.plan.DeleteReplaced {
		return nil
	}
	var all []armed[oldSnapshotAct]
	for _, e := range kept {
		a, ok := e.Act().act.(replacedAct)
		if !ok {
			continue
		}
		for _, id := range a.Record.Snapshots {
			old := oldSnapshotAct{call: call{Answered: true}, Region: a.Region, Image: a.Image, Snapshot: id}
			it, err := arm(b.undoer, replacedSnapshots, old)
			if err != nil {
				b.report.Warn("the image is made, but the %s stays: %v", old, err)
				continue
			}
			all = append(all, it)
		}
	}
	return all
}

// deleteOldSnapshots deletes the snapshots of replaced images. A failure is only reported,
// because the new image exists.
func (b *build) deleteOldSnapshots(ctx context.Context, old []armed[oldSnapshotAct]) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.waits.Release)
	defer cancel()
	for _, it := range old {
		if err := it.Undo(ctx); err != nil {
			b.report.Warn("the image is made, but the %s could not be deleted: %v", it, err)
		}
	}
}

// oldSnapshotAct is a snapshot of a replaced image, which is deleted in any case: undoing
// deletes it.
type oldSnapshotAct struct {
	call
	Snapshot SnapshotID `json:"snapshot,omitempty"`
	Image    ImageID    `json:"image,omitempty"`
	Region   string     `json:"region,omitempty"`
}

func (oldSnapshotAct) kind() string { return "old snapshot" }

// String implements act.
func (a oldSnapshotAct) String() string {
	return fmt.Sprintf("snapshot %s of the replaced image %s in %s", a.Snapshot, a.Image, a.Region)
}

func (a oldSnapshotAct) check(BuildID) error { return named(a.Snapshot != "") }

// removal returns nothing, because these snapshots only stay if their deletion failed.
func (oldSnapshotAct) removal([]act) string { return "" }

// undo deletes the snapshot, unless another image uses it too.
func (a oldSnapshotAct) undo(ctx context.Context, u *undoer, _ *entry) error {
	users, err := u.deleteUnused(ctx, u.in(a.Region), a.Image, a.Snapshot)
	u.reportUsers(a, users)
	if err == nil && len(users) == 0 {
		event.Emit(ctx, event.Resource{Kind: a.kind(), Name: a.String(), Fate: event.Removed})
	}
	return err
}

// fate returns the fate unless undo has reported it.
func (oldSnapshotAct) fate(of event.Fate) event.Fate {
	if of == event.Removed {
		return ""
	}
	return of
}

// undoInherited deletes the snapshot if the cloud shows that it is one of an image that the
// build has replaced.
func (a oldSnapshotAct) undoInherited(ctx context.Context, u *undoer, e *entry) error {
	if err := a.own(ctx, u); err != nil {
		return ignoreGone(err)
	}
	return a.undo(ctx, u, e)
}

// own returns nil if the cloud shows that the old image is gone, that the snapshot existed
// before the build, and that an image which is shown to be the build's has the old one's
// name.
func (a oldSnapshotAct) own(ctx context.Context, u *undoer) error {
	replaced, ok := findAct(u, func(r replacedAct) bool {
		return r.Region == a.Region && r.Image == a.Image && r.Record != nil && slices.Contains(r.Record.Snapshots, a.Snapshot)
	})
	if !ok {
		return foreign(a.Snapshot, "is of no image that build %s is known to have replaced", u.build)
	}
	cloud := u.in(a.Region)
	if _, err := cloud.Image(ctx, a.Image); !errors.Is(err, ErrNotFound) {
		return cmp.Or(err, foreign(a.Snapshot, "is of %s, which is there", a.Image))
	}
	if err := cloud.CheckRecord(*replaced.Record); err != nil {
		return foreign(a.Snapshot, "is of an image whose record is wrong (%v)", err)
	}
	s, err := cloud.Snapshot(ctx, a.Snapshot)
	if err != nil {
		return err
	}
	if s.Begun.After(u.since.Add(clocksDiffer)) {
		return foreign(a.Snapshot, "was begun at %s, after build %s", s.Begun.UTC().Format(time.RFC3339), u.build)
	}
	return a.succeeded(ctx, u, replaced.Record.Name)
}

// succeeded returns nil if an image that is shown to be the build's has a name in the region
// of the act.
func (a oldSnapshotAct) succeeded(ctx context.Context, u *undoer, name string) error {
	ids, err := u.in(a.Region).Named(ctx, name)
	if err != nil {
		return err
	}
	for _, id := range ids {
		shown, err := u.ownCreated(ctx, a.Region, id)
		if err != nil || shown {
			return err
		}
	}
	return foreign(a.Snapshot, "is of a replaced image, and no image named %q in %s is shown to be of build %s", name, a.Region, u.build)
}

// ownCreated reports whether an image in a region is shown to be the image or a copy of the
// build.
func (u *undoer) ownCreated(ctx context.Context, region string, id ImageID) (bool, error) {
	var checks []func() error
	for _, made := range actsOf[imageAct](u) {
		if made.Image == id || made.Image == "" {
			checks = append(checks, func() error { return made.own(ctx, u, id) })
		}
	}
	for _, made := range actsOf[copyAct](u) {
		if made.Region == region && (made.Image == id || made.Image == "") {
			checks = append(checks, func() error { return made.own(ctx, u, id) })
		}
	}
	for _, check := range checks {
		err := check()
		if err == nil || !errors.Is(err, errForeign) && !errors.Is(err, ErrNotFound) {
			return err == nil, err
		}
	}
	return false, nil
}
