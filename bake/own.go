package bake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// errForeign is wrapped if neither the cloud nor the kernel shows that something is the
// build's. It is then left alone, whatever a creating call answered and whatever a
// journal says.
var errForeign = errors.New("it is left alone")

// foreign returns the reason why a resource is left alone.
func foreign[ID ~string](id ID, format string, args ...any) error {
	return fmt.Errorf("%s %s: %w", id, fmt.Sprintf(format, args...), errForeign)
}

// shownKey names a resource in a region; the build's own region is empty.
type shownKey struct{ region, id string }

// show notes that the cloud has shown a resource to be the build's.
func (b *build) show(region, id string) { b.shown.Store(shownKey{region, id}, true) }

// isShown reports whether the cloud has shown a resource to be the build's.
func (b *build) isShown(region, id string) bool {
	_, ok := b.shown.Load(shownKey{region, id})
	return ok
}

// clocksDiffer is more than this host's clock can differ from the cloud's: both
// clouds refuse requests that were signed at another time.
const clocksDiffer = 20 * time.Minute

// older reports whether something was certainly there before a time of this host. A
// time that is not known tells nothing.
func older(created, begun time.Time) bool {
	return !created.IsZero() && !begun.IsZero() && created.Before(begun.Add(-clocksDiffer))
}

// begun returns when an act was begun: never before the journal that it is in.
func (b *build) begun(a act) time.Time {
	if a.Begun.Before(b.since) {
		return b.since
	}
	return a.Begun
}

// unseen returns how long the reading calls may still not tell of what an act has made.
func (b *build) unseen(a act) time.Duration {
	if a.Over {
		return 0
	}
	if a.Begun.IsZero() || len(a.Snapshots) > 0 { // its snapshots were read when it was shown
		return b.waits.Lost
	}
	since := time.Since(a.Begun)
	if b.reaping != nil {
		since = b.sinceLast(a.Begun)
	}
	return max(b.waits.Lost, min(b.waits.Unseen, b.waits.Unseen-since))
}

// reading reads a resource until the cloud tells of it, or until the limit.
func reading[T any](ctx context.Context, limit time.Duration, read func() (T, error), told func(T) bool) (T, error) {
	for begun := time.Now(); ; {
		x, err := read()
		if err == nil && told(x) || err != nil && !errors.Is(err, ErrNotFound) || time.Since(begun) >= limit {
			return x, err
		}
		if err := sleep(ctx, min(limit/4, mostBetween)); err != nil {
			return x, err
		}
	}
}

// untold returns the error about a resource of which a Cloud knows only that its creating
// call was answered.
func untold[ID ~string](id ID) error { return fmt.Errorf("%s is not shown yet: %w", id, ErrNotFound) }

// told reports whether the cloud tells of a volume: right after the creating call a
// Cloud may know no more than that there is one.
func (v Volume) told() bool { return v.SizeGiB != 0 || !v.Created.IsZero() }

// unlikeVolume returns why a volume cannot be the act's; nil if it can. A volume that
// carries no build's id can be.
func (b *build) unlikeVolume(a act, v Volume) error {
	switch {
	case !v.told():
		return nil
	case v.Build != "" && v.Build != a.Build:
		return foreign(v.ID, "does not carry the tag of build %s, but that of build %s", a.Build, v.Build)
	case a.SizeGiB != 0 && v.SizeGiB != 0 && v.SizeGiB != a.SizeGiB:
		return foreign(v.ID, "has %d GiB, and build %s asked for %d", v.SizeGiB, a.Build, a.SizeGiB)
	case a.Zone != "" && v.Snapshot != a.From:
		return foreign(v.ID, "was created from %q, and build %s asked for %q", v.Snapshot, a.Build, a.From)
	case a.Zone != "" && v.Zone != "" && v.Zone != a.Zone:
		return foreign(v.ID, "is in %s, and build %s asked for %s", v.Zone, a.Build, a.Zone)
	case older(v.Created, b.begun(a)):
		return foreign(v.ID, "was created at %s, before build %s was begun", v.Created.UTC().Format(time.RFC3339), a.Build)
	}
	return nil
}

// ownVolume returns nil if the cloud shows that a volume is the act's. An error wraps
// errForeign if it is not, and ErrNotFound if it is gone or being deleted.
func (b *build) ownVolume(ctx context.Context, a act, id VolumeID) error {
	if b.isShown("", string(id)) {
		return nil
	}
	v, err := reading(ctx, b.unseen(a), func() (Volume, error) { return b.cloud.Volume(ctx, id) }, Volume.told)
	if err == nil && !v.told() {
		err = untold(id)
	}
	if err == nil && v.State == VolumeDeleting { // some clouds take the tags first
		err = fmt.Errorf("%s is being deleted: %w", id, ErrNotFound)
	}
	if err == nil {
		err = b.unlikeVolume(a, v)
	}
	if err == nil && v.Build != a.Build {
		err = b.marked(ctx, a.Build, id)
	}
	if err == nil {
		b.show("", string(id))
	}
	return err
}

// marked fails if a volume does not carry the build's id. A Cloud knows another build's
// volumes when it has been asked for them.
func (b *build) marked(ctx context.Context, build BuildID, id VolumeID) error {
	ids, err := lost(ctx, b.waits.Lost, func(ctx context.Context) ([]VolumeID, error) { return b.cloud.FindVolumes(ctx, build) })
	if err != nil {
		return err
	}
	v, err := b.cloud.Volume(ctx, id)
	if err == nil && (!slices.Contains(ids, id) || v.Build != build) {
		err = foreign(id, "does not carry the tag of build %s", build)
	}
	return err
}

// acts returns all acts that are known of the build, those that are over included.
func (b *build) acts() []act {
	b.armedMu.Lock()
	defer b.armedMu.Unlock()
	var all []act
	for _, it := range b.armed {
		all = append(all, it.value())
	}
	return append(all, b.past...)
}

// actOf returns the act of a kind that a condition holds for.
func (b *build) actOf(kind actKind, is func(act) bool) (act, bool) {
	for _, a := range b.acts() {
		if a.Kind == kind && is(a) {
			return a, true
		}
	}
	return act{}, false
}

// creation returns the act that created a volume, as far as it is recorded.
func (b *build) creation(id VolumeID) act {
	a, ok := b.actOf(actVolume, func(a act) bool { return a.Volume == id })
	if !ok {
		return act{Kind: actVolume, Build: b.plan.Build}
	}
	return a
}

// ofOwnVolume returns nil if a volume that a snapshot is said to be of is, or was, the
// build's. Of one that is gone the journal must say so, and the cloud must not know
// another volume of the build.
func (b *build) ofOwnVolume(ctx context.Context, id VolumeID) error {
	err := b.ownVolume(ctx, b.creation(id), id)
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	if _, armed := b.actOf(actVolume, func(a act) bool { return a.Volume == id }); !armed {
		return foreign(id, "is gone, and build %s is not known to have created it", b.plan.Build)
	}
	others, err := b.cloud.FindVolumes(ctx, b.plan.Build)
	others = slices.DeleteFunc(others, func(other VolumeID) bool { return other == id })
	if err == nil && len(others) > 0 {
		err = foreign(id, "is gone, and the volume of build %s is %s", b.plan.Build, others[0])
	}
	if err == nil {
		b.show("", string(id))
	}
	return err
}

// unlikeSnapshot returns why a snapshot cannot be the act's; nil if it can.
func (b *build) unlikeSnapshot(a act, s Snapshot) error {
	switch {
	case s.Volume != a.Volume:
		return foreign(s.ID, "is of the volume %q, and not of %s", s.Volume, a.Volume)
	case older(s.Begun, b.begun(a)):
		return foreign(s.ID, "was begun at %s, before build %s asked for it", s.Begun.UTC().Format(time.RFC3339), b.plan.Build)
	case a.Described && s.Description != a.Description:
		return foreign(s.ID, "is described as %.100q, and build %s asked for %.100q", s.Description, b.plan.Build, a.Description)
	}
	return nil
}

// ownSnapshot returns nil if the cloud shows that a snapshot is the act's. Its errors
// are those of ownVolume.
func (b *build) ownSnapshot(ctx context.Context, a act, id SnapshotID) error {
	if b.isShown("", string(id)) {
		return nil
	}
	s, err := reading(ctx, b.unseen(a), func() (Snapshot, error) { return b.cloud.Snapshot(ctx, id) }, func(s Snapshot) bool { return s.Volume != "" })
	if err == nil && s.Volume == "" && s.Begun.IsZero() {
		err = untold(id)
	}
	if err == nil {
		err = b.unlikeSnapshot(a, s)
	}
	if err == nil {
		err = b.ofOwnVolume(ctx, a.Volume)
	}
	if err == nil {
		b.show("", string(id))
	}
	return err
}

// ofOwnSnapshot returns nil if a snapshot that an image is said to be of is the build's.
func (b *build) ofOwnSnapshot(ctx context.Context, id SnapshotID) error {
	if b.isShown("", string(id)) {
		return nil
	}
	s, err := b.cloud.Snapshot(ctx, id)
	if err != nil {
		return err
	}
	a, ok := b.actOf(actSnapshot, func(a act) bool { return a.Snapshot == id || a.Snapshot == "" && a.Volume == s.Volume })
	if !ok {
		return foreign(id, "is not a snapshot that build %s asked for", b.plan.Build)
	}
	return b.ownSnapshot(ctx, a, id)
}

// told reports whether the cloud tells of an image: right after the creating call a
// Cloud may know no more than that there is one, and its snapshots may follow.
func (i Image) told() bool { return i.Name != "" && (len(i.Snapshots) > 0 || i.State != ImagePending) }

// unlike returns why an image cannot be the account's own one of a name that was asked
// for at a time.
func (b *build) unlike(i Image, name string, begun time.Time) error {
	switch {
	case i.Name == "":
		return nil // the cloud does not tell of it yet
	case b.account != "" && i.Owner != "" && i.Owner != b.account:
		return foreign(i.ID, "belongs to account %s, and not to %s", i.Owner, b.account)
	case name != "" && i.Name != name:
		return foreign(i.ID, "is named %q, and build %s asked for %q", i.Name, b.plan.Build, name)
	case older(i.Begun, begun):
		return foreign(i.ID, "was created at %s, before build %s asked for it", i.Created, b.plan.Build)
	}
	return nil
}

// unlikeImage returns why an image cannot be the act's; nil if it can.
func (b *build) unlikeImage(a act, i Image) error {
	if err := b.unlike(i, a.Name, b.begun(a)); err != nil || !i.told() {
		return err
	}
	if i.Root.Snapshot != a.Snapshot {
		return foreign(i.ID, "is of %q, and not of %s", i.Root.Snapshot, a.Snapshot)
	}
	return nil
}

// ownImage returns nil if the cloud shows that an image is the act's. Its errors are
// those of ownVolume.
func (b *build) ownImage(ctx context.Context, a act, id ImageID) error {
	return b.ownImageIn(ctx, a, id, func(i Image) error {
		if err := b.unlikeImage(a, i); err != nil {
			return err
		}
		if !i.told() {
			return foreign(id, "is not shown with any snapshot")
		}
		return b.ofOwnSnapshot(ctx, a.Snapshot)
	})
}

// unlikeCopy returns why an image cannot be the act's copy; nil if it can.
func (b *build) unlikeCopy(a act, i Image) error {
	if err := b.unlike(i, a.Name, b.begun(a)); err != nil {
		return err
	}
	if i.CopyOf != "" && i.CopyOf != a.Source {
		return foreign(i.ID, "is a copy of %s, and not of %s", i.CopyOf, a.Source)
	}
	return nil
}

// ownCopy returns nil if the cloud shows that an image is the act's copy. Its errors
// are those of ownVolume.
func (b *build) ownCopy(ctx context.Context, a act, id ImageID) error {
	return b.ownImageIn(ctx, a, id, func(i Image) error {
		if err := b.unlikeCopy(a, i); err != nil {
			return err
		}
		return b.ofOwnImage(ctx, a)
	})
}

func (b *build) ownImageIn(ctx context.Context, a act, id ImageID, check func(Image) error) error {
	if b.isShown(a.Region, string(id)) {
		return nil
	}
	cloud := b.cloudOf(a)
	i, err := reading(ctx, b.unseen(a), func() (Image, error) { return cloud.Image(ctx, id) }, Image.told)
	if err == nil && i.Name == "" {
		err = untold(id)
	}
	if err == nil {
		err = check(i)
	}
	if err == nil {
		b.show(a.Region, string(id))
	}
	return err
}

// cloudOf returns the cloud of the region that an act was made in.
func (b *build) cloudOf(a act) Cloud {
	if a.Region == "" {
		return b.cloud
	}
	return b.cloud.In(a.Region)
}

// sourceCopyName returns the name of a copy that a build makes of a locked source.
func sourceCopyName(build BuildID) string { return "packer-chroot-source-" + string(build) }

// ofOwnImage returns nil if what a copy was made of is, or was, the build's own image, or
// if the copy's name says that this build made it of its source.
func (b *build) ofOwnImage(ctx context.Context, a act) error {
	if a.Name == sourceCopyName(b.plan.Build) || b.isShown("", string(a.Source)) {
		return nil
	}
	made, ok := b.actOf(actImage, func(i act) bool { return i.Image == a.Source || i.Image == "" })
	if !ok {
		return foreign(a.Source, "is not an image that build %s registered", b.plan.Build)
	}
	err := b.ownImage(ctx, made, a.Source)
	switch {
	case err == nil, errors.Is(err, ErrNotFound) && made.Image == a.Source: // one that is there only to be copied goes first
		return nil
	case errors.Is(err, ErrNotFound):
		return foreign(a.Source, "is gone, and build %s is not known to have registered it", b.plan.Build)
	}
	return fmt.Errorf("what a copy was made of is not shown to be the build's: %w", err)
}
