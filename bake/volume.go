package bake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// volume is the root volume of the new image.
type volume struct {
	id      VolumeID
	sizeGiB int64
	tags    map[string]string
	created armed[volumeAct]
}

// createVolume requests the root volume. It does not wait for it: a device name is chosen
// meanwhile.
func (b *build) createVolume(ctx context.Context, from preflight) (volume, error) {
	spec := from.volume
	v := volume{sizeGiB: spec.SizeGiB, tags: map[string]string{}}
	maps.Copy(v.tags, spec.Tags)
	v.tags[BuildTag] = string(spec.Build)
	created, err := arm(b.undoer, scaffold, volumeAct{
		call: call{Begun: time.Now()}, Build: spec.Build, SizeGiB: spec.SizeGiB, Zone: spec.Zone, From: spec.Snapshot,
	})
	if err != nil {
		return volume{}, err
	}
	v.created = created
	id, err := validID(b.cloud.CreateVolume(ctx, spec))
	if id != "" {
		created.settle(func(a *volumeAct) { a.Answered, a.Volume = true, id })
	}
	if err != nil {
		return volume{}, err
	}
	v.id = id
	b.report.Detail("volume %s", id)
	return v, nil
}

// volumeHeading describes the root volume.
func volumeHeading(from preflight) string {
	spec, origin := from.volume, ""
	if from.Source != nil {
		origin = fmt.Sprintf(" from %s", spec.Snapshot)
	}
	return fmt.Sprintf("Creating the root volume: %d GiB of %s in %s%s", spec.SizeGiB, spec.Type, spec.Zone, origin)
}

// volumeAvailable waits for a new volume, which must show that it is the build's. A tag
// may be shown some time after the volume.
func (b *build) volumeAvailable(ctx context.Context, v volume) error {
	created, untagged := v.created.value(), time.Time{}
	what := fmt.Sprintf("volume %s", v.id)
	return b.watch(ctx, b.waits.Volume, volumeWait, what, tolerateUnseen(b.waits.Unseen, func(ctx context.Context) (observation, error) {
		now, err := b.cloud.Volume(ctx, v.id)
		if err == nil {
			err = cmp.Or(created.mismatch(b.undoer, now), now.usable())
		}
		if err == nil && now.Build != "" {
			b.show("", string(v.id))
		}
		done := now.State == VolumeAvailable
		if err == nil && done && now.Build != created.Build {
			if done = false; untagged.IsZero() {
				untagged = time.Now()
			}
			if time.Since(untagged) >= b.waits.Unseen {
				err = foreign(v.id, "does not carry the tag of build %s", created.Build)
			}
		}
		return observation{state: string(now.State), done: done}, err
	}))
}

// usable returns why a new volume cannot become available and free; nil if it can.
func (v Volume) usable() error {
	if v.State == VolumeError || v.State == VolumeDeleting || v.State == VolumeInUse {
		return fmt.Errorf("it is in the state %s", v.State)
	}
	return nil
}

// described reports whether the cloud describes a volume: right after the creating call a
// Cloud may know no more than its id.
func (v Volume) described() bool { return v.SizeGiB != 0 || !v.Created.IsZero() }

// volumeAct is the creation of the root volume.
type volumeAct struct {
	call
	Build  BuildID  `json:"build,omitempty"`
	Volume VolumeID `json:"volume,omitempty"`
	// SizeGiB, Zone and From, the snapshot, are those of the request.
	SizeGiB int64      `json:"size_gib,omitempty"`
	Zone    string     `json:"zone,omitempty"`
	From    SnapshotID `json:"from,omitempty"`
}

func (volumeAct) kind() string { return "volume" }

// String implements act.
func (a volumeAct) String() string { return idOr("volume", a.Volume, "build "+string(a.Build)) }

func (a volumeAct) check(build BuildID) error { return named(a.Build == build) }

func (a volumeAct) removal([]act) string { return fmt.Sprintf("delete volume %s", a.Volume) }

func (a volumeAct) undo(ctx context.Context, u *undoer, _ *entry) error {
	return a.creation(u).undo(ctx, u)
}

func (a volumeAct) undoInherited(ctx context.Context, u *undoer, _ *entry) error {
	return a.creation(u).undoInherited(ctx, u, nil)
}

func (a volumeAct) creation(u *undoer) creation[VolumeID] {
	return creation[VolumeID]{
		call: a.call, name: a.String(), id: a.Volume,
		own:    func(ctx context.Context, id VolumeID) error { return a.own(ctx, u, id) },
		find:   func(ctx context.Context) ([]VolumeID, error) { return u.cloud.FindVolumes(ctx, a.Build) },
		remove: u.deleteVolume,
	}
}

// mismatch returns why a volume cannot be the act's; nil if it can. A volume that carries
// no build's id can be.
func (a volumeAct) mismatch(u *undoer, v Volume) error {
	switch {
	case !v.described():
		return nil
	case v.Build != "" && v.Build != a.Build:
		return foreign(v.ID, "does not carry the tag of build %s, but that of build %s", a.Build, v.Build)
	case a.SizeGiB != 0 && v.SizeGiB != 0 && v.SizeGiB != a.SizeGiB:
		return foreign(v.ID, "has %d GiB, and build %s asked for %d", v.SizeGiB, a.Build, a.SizeGiB)
	case a.Zone != "" && v.Snapshot != a.From:
		return foreign(v.ID, "was created from %q, and build %s asked for %q", v.Snapshot, a.Build, a.From)
	case a.Zone != "" && v.Zone != "" && v.Zone != a.Zone:
		return foreign(v.ID, "is in %s, and build %s asked for %s", v.Zone, a.Build, a.Zone)
	case older(v.Created, u.begun(a.call)):
		return foreign(v.ID, "was created at %s, before build %s was begun", v.Created.UTC().Format(time.RFC3339), a.Build)
	}
	return nil
}

// own returns nil if the cloud shows that a volume is the act's. An error wraps errForeign
// if it is not, and ErrNotFound if it is gone or being deleted.
func (a volumeAct) own(ctx context.Context, u *undoer, id VolumeID) error {
	if u.isShown("", string(id)) {
		return nil
	}
	v, err := readDescribed(ctx, u.unseenLimit(a.call, false), func() (Volume, error) { return u.cloud.Volume(ctx, id) }, Volume.described)
	if err == nil && !v.described() {
		err = undescribed(id)
	}
	if err == nil && v.State == VolumeDeleting { // some clouds take the tags first
		err = fmt.Errorf("%s is being deleted: %w", id, ErrNotFound)
	}
	if err == nil {
		err = a.mismatch(u, v)
	}
	if err == nil && v.Build != a.Build {
		err = u.tagged(ctx, a.Build, id)
	}
	if err == nil {
		u.show("", string(id))
	}
	return err
}

// tagged returns an error if a volume does not carry the build's id. A Cloud knows the
// volumes of another build after it has listed them.
func (u *undoer) tagged(ctx context.Context, build BuildID, id VolumeID) error {
	ids, err := search(ctx, u.waits.Lost, func(ctx context.Context) ([]VolumeID, error) { return u.cloud.FindVolumes(ctx, build) })
	if err != nil {
		return err
	}
	v, err := u.cloud.Volume(ctx, id)
	if err == nil && (!slices.Contains(ids, id) || v.Build != build) {
		err = foreign(id, "does not carry the tag of build %s", build)
	}
	return err
}

// deleteVolume deletes a volume as soon as its state allows that. A volume that was
// available after it was detached is not read again, the first time. A volume may stay in
// the state creating; the cloud may delete it all the same.
func (u *undoer) deleteVolume(ctx context.Context, id VolumeID) error {
	if _, free := u.free.LoadAndDelete(id); free {
		return u.cloud.DeleteVolume(ctx, id)
	}
	what, state := fmt.Sprintf("%s to become free", id), VolumeState("")
	err := u.watch(ctx, u.waits.Volume, freeWait, what, goneIsDone(tolerateUnseen(u.waits.Lost, func(ctx context.Context) (observation, error) {
		v, err := u.cloud.Volume(ctx, id)
		state = v.State
		busy := state == VolumeCreating || state == VolumeInUse
		return observation{state: string(state), done: !busy}, err
	})))
	if err != nil && state != VolumeCreating {
		return err
	}
	if refused := u.cloud.DeleteVolume(ctx, id); refused != nil {
		return errors.Join(err, refused)
	}
	return nil
}
