package bake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// errForeign is wrapped if neither the cloud nor the kernel shows that a resource is the
// build's. It is then left alone, whatever a creating call returned and whatever a
// journal says.
var errForeign = errors.New("it is left alone")

// foreign returns the reason why a resource is left alone.
func foreign[ID ~string](id ID, format string, args ...any) error {
	return fmt.Errorf("%s %s: %w", id, fmt.Sprintf(format, args...), errForeign)
}

// undescribed returns the error about a resource of which a Cloud knows only that its
// creating call was answered.
func undescribed[ID ~string](id ID) error {
	return fmt.Errorf("%s is not shown yet: %w", id, ErrNotFound)
}

// shownKey names a resource in a region; the build's own region is empty.
type shownKey struct{ region, id string }

// show notes that the cloud has shown a resource to be the build's.
func (u *undoer) show(region, id string) { u.shown.Store(shownKey{region, id}, true) }

// isShown reports whether the cloud has shown a resource to be the build's.
func (u *undoer) isShown(region, id string) bool {
	_, ok := u.shown.Load(shownKey{region, id})
	return ok
}

// clocksDiffer is more than this host's clock can differ from the cloud's: both
// clouds refuse requests that were signed at another time.
const clocksDiffer = 20 * time.Minute

// older reports whether a resource certainly existed before a time of this host. It
// returns false if one of the times is not known.
func older(created, begun time.Time) bool {
	return !created.IsZero() && !begun.IsZero() && created.Before(begun.Add(-clocksDiffer))
}

// begun returns when an act was begun: never before the journal that it is in.
func (u *undoer) begun(c call) time.Time {
	if c.Begun.Before(u.since) {
		return u.since
	}
	return c.Begun
}

// unseenLimit returns how long reading calls may still not show the resource of an act.
// described means that they have described it before.
func (u *undoer) unseenLimit(c call, described bool) time.Duration {
	if c.over {
		return 0
	}
	if c.Begun.IsZero() || described {
		return u.waits.Lost
	}
	return max(u.waits.Lost, u.waits.Unseen-u.sinceLast(c.Begun))
}

// creationOf returns the act that created a volume, as far as it is recorded.
func (u *undoer) creationOf(id VolumeID) (a volumeAct, recorded bool) {
	a, recorded = findAct(u, func(a volumeAct) bool { return a.Volume == id })
	if !recorded {
		a = volumeAct{Build: u.build}
	}
	return a, recorded
}

// ownVolume returns nil if the cloud shows that a volume is the build's. Its errors are
// those of volumeAct.own.
func (u *undoer) ownVolume(ctx context.Context, id VolumeID) error {
	a, _ := u.creationOf(id)
	return a.own(ctx, u, id)
}

// ownOrGoneVolume returns nil if a volume is, or was, the build's. If it is gone, the
// journal must record it, and the cloud must not know another volume of the build.
func (u *undoer) ownOrGoneVolume(ctx context.Context, id VolumeID) error {
	created, recorded := u.creationOf(id)
	err := created.own(ctx, u, id)
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	if !recorded {
		return foreign(id, "is gone, and build %s is not known to have created it", u.build)
	}
	others, err := u.cloud.FindVolumes(ctx, u.build)
	others = slices.DeleteFunc(others, func(other VolumeID) bool { return other == id })
	if err == nil && len(others) > 0 {
		err = foreign(id, "is gone, and the volume of build %s is %s", u.build, others[0])
	}
	if err == nil {
		u.show("", string(id))
	}
	return err
}

// ownSnapshot returns nil if the cloud shows that a snapshot is the build's.
func (u *undoer) ownSnapshot(ctx context.Context, id SnapshotID) error {
	if u.isShown("", string(id)) {
		return nil
	}
	s, err := u.cloud.Snapshot(ctx, id)
	if err != nil {
		return err
	}
	if a, ok := findAct(u, func(a snapshotAct) bool { return a.Snapshot == id || a.Snapshot == "" && a.Volume == s.Volume }); ok {
		return a.own(ctx, u, id)
	}
	if a, ok := findAct(u, func(a startedAct) bool { return a.Snapshot == id || a.Snapshot == "" && a.Build == s.Build }); ok {
		return a.own(ctx, u, id)
	}
	return foreign(id, "is not a snapshot that build %s asked for", u.build)
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
