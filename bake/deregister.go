package bake

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

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

// deleteSnapshot deletes a snapshot. If a cloud refuses that while it is pending, the call
// is repeated afterwards. A snapshot with the build's tag is written block by block, and stays pending
// until that is complete.
func (u *undoer) deleteSnapshot(ctx context.Context, cloud Cloud, id SnapshotID) error {
	refused := cloud.DeleteSnapshot(ctx, id)
	if refused == nil {
		return nil
	}
	if s, err := cloud.Snapshot(ctx, id); err != nil || s.settled() || s.Build != "" {
		return refused
	}
	what := fmt.Sprintf("snapshot %s to be ready to be deleted", id)
	err := u.watch(ctx, u.waits.Snapshot, deletableWait, what, goneIsDone(func(ctx context.Context) (observation, error) {
		s, err := cloud.Snapshot(ctx, id)
		return observation{state: string(s.State), percent: s.Percent, done: s.settled()}, err
	}))
	if err != nil {
		return errors.Join(refused, err)
	}
	return cloud.DeleteSnapshot(ctx, id)
}

// reportUsers reports that other images use a snapshot, which therefore stays.
func (u *undoer) reportUsers(a act, users []ImageID) {
	if len(users) > 0 {
		u.report.Detail("the %s is left: %v uses it too", a, users)
	}
}
