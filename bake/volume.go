package bake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// volume is the root volume of the image to be.
type volume struct {
	id      VolumeID
	sizeGiB int64
	// gone deletes it.
	gone *undo.Entry
}

// attachment is the root volume on the host.
type attachment struct {
	volume VolumeID
	name   DeviceName
	// sizeGiB is the volume's, and before are the disks that were there before it:
	// the last resort to find it by.
	sizeGiB int64
	before  []string
	// gone detaches it.
	gone *undo.Entry
}

// createVolume asks for the root volume. It does not wait for it: a device name
// is chosen meanwhile.
func (b *build) createVolume(ctx context.Context, from basis) (volume, error) {
	spec := from.volume
	b.report.Step("Creating the root volume: %d GiB of %s in %s%s", spec.SizeGiB, spec.Type, spec.Zone, from.origin())
	v := volume{sizeGiB: spec.SizeGiB}
	v.gone = b.scaffold.Arm("volume of build "+string(b.plan.Build), func(ctx context.Context) error {
		return b.deleteVolumes(ctx, v.id)
	})
	id, err := b.cloud.CreateVolume(ctx, spec)
	if err != nil {
		return volume{}, err
	}
	v.id, b.there.volume = id, id
	v.gone.Rename("volume " + string(id))
	b.report.Detail("volume %s", id)
	return v, b.done(ctx, "create volume")
}

func (from basis) origin() string {
	if from.Source == nil {
		return ""
	}
	return fmt.Sprintf(" from %s", from.volume.Snapshot)
}

// attach attaches the volume to the host, under the first name that nobody uses.
func (b *build) attach(ctx context.Context, host Host, v volume) (attachment, error) {
	b.report.Step("Attaching %s to %s", v.id, host.ID)
	if err := b.volumeAvailable(ctx, v.id); err != nil {
		return attachment{}, err
	}
	var held reservations
	held.gone = b.scaffold.Arm("reservation of a device name", held.release)
	a := attachment{volume: v.id, sizeGiB: v.sizeGiB, before: b.machine.Disks()}
	answered := false
	a.gone = b.scaffold.Arm(fmt.Sprintf("attachment of %s to %s", v.id, host.ID), func(ctx context.Context) error {
		return b.detach(ctx, v.id, host.ID, answered)
	})
	name, err := b.askToAttach(ctx, host, v.id, &held)
	if err != nil {
		return attachment{}, err
	}
	answered, a.name = true, name
	b.there.host, b.there.name = host.ID, name
	if err := b.volumeAttached(ctx, a); err != nil {
		return attachment{}, err
	}
	b.report.Detail("attached as %s", name)
	return a, b.done(ctx, "attach volume")
}

// askToAttach tries one name after the other until the cloud takes one.
func (b *build) askToAttach(ctx context.Context, host Host, id VolumeID, held *reservations) (DeviceName, error) {
	names := b.names(host)
	for {
		name, release, err := b.machine.Reserve(b.plan.LockDir, names)
		if err != nil {
			return "", fmt.Errorf("cannot attach %s to %s: %w", id, host.ID, err)
		}
		held.add(name, release)
		err = b.cloud.Attach(ctx, id, host.ID, name)
		if err == nil {
			return name, nil
		}
		if b.plan.Device != "" || !errors.Is(err, ErrDeviceTaken) {
			return "", err
		}
		b.report.Detail("%s is taken, trying another name", name)
		names = names[slices.Index(names, name)+1:]
	}
}

// reservations keep device names from the other builds on this host, for as long
// as the attachment lasts: the cloud lists a name as taken only after a while.
type reservations struct {
	releases []func() error
	gone     *undo.Entry
}

func (r *reservations) add(name DeviceName, release func() error) {
	r.releases = append(r.releases, release)
	r.gone.Rename("reservation of " + string(name))
}

func (r *reservations) release(context.Context) error {
	for last := len(r.releases) - 1; last >= 0; last-- {
		if err := r.releases[last](); err != nil {
			return err
		}
		r.releases = r.releases[:last]
	}
	return nil
}

// names lists the device names worth asking for.
func (b *build) names(host Host) []DeviceName {
	if b.plan.Device != "" {
		return []DeviceName{b.plan.Device}
	}
	taken := map[string]bool{}
	for _, name := range host.Taken {
		taken[name.letters()] = true
	}
	return slices.DeleteFunc(slices.Clone(b.cloud.DeviceNames()), func(name DeviceName) bool {
		return taken[name.letters()]
	})
}

// letters is what tells device names apart: f for /dev/sdf, /dev/xvdf and their
// partitions, which both clouds take for the same place.
func (n DeviceName) letters() string {
	name := strings.TrimPrefix(string(n), "/dev/")
	for _, prefix := range []string{"xvd", "sd"} {
		if letters, ok := strings.CutPrefix(name, prefix); ok {
			return strings.TrimRight(letters, "0123456789")
		}
	}
	return name
}

// putAway detaches and deletes the root volume. A failure ends nothing here: the
// scaffold's release tries again, and warns.
func (b *build) putAway(ctx context.Context, a attachment, v volume) {
	b.report.Step("Detaching and deleting %s", v.id)
	err := a.gone.Undo(ctx)
	if err == nil {
		b.there.host = ""
		err = v.gone.Undo(ctx)
	}
	if err != nil {
		b.report.Detail("to be tried again: %v", err)
		return
	}
	b.there.volume = ""
}

// detach undoes an attachment. When the cloud has not answered the request for
// it, it is looked for.
func (b *build) detach(ctx context.Context, id VolumeID, host HostID, answered bool) error {
	if !answered {
		there, err := lost(ctx, b.waits.Lost, func(ctx context.Context) ([]VolumeID, error) { return b.attached(ctx, id) })
		if err != nil || len(there) == 0 {
			return err
		}
	}
	if err := b.cloud.Detach(ctx, id, host); err != nil {
		return err
	}
	what := fmt.Sprintf("%s to be detached from %s", id, host)
	return b.waits.Attachment.until(ctx, what, going(func(ctx context.Context) (sight, error) {
		v, err := b.cloud.Volume(ctx, id)
		return sight{state: string(v.Attach), done: v.Attach == Detached}, err
	}))
}

// attached answers the volume if it is attached, or none.
func (b *build) attached(ctx context.Context, id VolumeID) ([]VolumeID, error) {
	v, err := b.cloud.Volume(ctx, id)
	if errors.Is(err, ErrNotFound) || (err == nil && v.Attach == Detached) {
		return nil, nil
	}
	return []VolumeID{id}, err
}

// deleteVolumes undoes a creation. When the cloud has not answered with an id,
// the volumes of this build are looked for.
func (b *build) deleteVolumes(ctx context.Context, id VolumeID) error {
	ids, err := made(ctx, b.waits.Lost, id, func(ctx context.Context) ([]VolumeID, error) {
		return b.cloud.FindVolumes(ctx, b.plan.Build)
	})
	for _, id := range ids {
		err = errors.Join(err, b.deleteVolume(ctx, id))
	}
	return err
}

// deleteVolume deletes a volume as soon as it is in a state to be deleted.
func (b *build) deleteVolume(ctx context.Context, id VolumeID) error {
	what := fmt.Sprintf("%s to become free", id)
	err := b.waits.Volume.until(ctx, what, going(newborn(b.waits.Lost, func(ctx context.Context) (sight, error) {
		v, err := b.cloud.Volume(ctx, id)
		busy := v.State == VolumeCreating || v.State == VolumeInUse
		return sight{state: string(v.State), done: !busy}, err
	})))
	if err != nil {
		return err
	}
	return b.cloud.DeleteVolume(ctx, id)
}

// volumeAvailable waits for a new volume.
func (b *build) volumeAvailable(ctx context.Context, id VolumeID) error {
	what := fmt.Sprintf("volume %s", id)
	return b.waits.Volume.until(ctx, what, newborn(b.waits.Unseen, func(ctx context.Context) (sight, error) {
		v, err := b.cloud.Volume(ctx, id)
		if err == nil && (v.State == VolumeError || v.State == VolumeDeleting) {
			err = fmt.Errorf("it is in the state %s", v.State)
		}
		return sight{state: string(v.State), done: v.State == VolumeAvailable}, err
	}))
}

// volumeAttached waits for a new attachment.
func (b *build) volumeAttached(ctx context.Context, a attachment) error {
	what := fmt.Sprintf("%s to be attached as %s", a.volume, a.name)
	return b.waits.Attachment.until(ctx, what, func(ctx context.Context) (sight, error) {
		v, err := b.cloud.Volume(ctx, a.volume)
		if err == nil && (v.State == VolumeError || v.State == VolumeDeleting || v.Attach == Detaching) {
			err = fmt.Errorf("it is %s and %s", v.State, v.Attach)
		}
		return sight{state: string(v.Attach), done: v.Attach == Attached}, err
	})
}

// made is what a creating call has made: the id that it answered or, when it
// answered an error and id is empty, whatever can be found of it.
func made[ID ~string](ctx context.Context, limit time.Duration, id ID, find func(context.Context) ([]ID, error)) ([]ID, error) {
	if id != "" {
		return []ID{id}, nil
	}
	return lost(ctx, limit, find)
}

// lost looks for the effect of a call that answered an error. The reading calls
// may lag behind, so that nothing found is asked again for a while.
func lost[ID ~string](ctx context.Context, limit time.Duration, find func(context.Context) ([]ID, error)) ([]ID, error) {
	for begun := time.Now(); ; {
		ids, err := find(ctx)
		if err != nil || len(ids) > 0 || time.Since(begun) >= limit {
			return ids, err
		}
		if err := sleep(ctx, limit/4); err != nil {
			return nil, err
		}
	}
}
