package bake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// volume is the root volume of the image to be.
type volume struct {
	id      VolumeID
	sizeGiB int64
	tags    map[string]string
	// gone deletes it.
	gone *armed
}

// attachment is the root volume on the host.
type attachment struct {
	volume VolumeID
	host   HostID
	name   DeviceName
	// sizeGiB is the volume's, and before are the disks that were there before it:
	// the last resort to find it by.
	sizeGiB int64
	before  disk.Seen
	// gone detaches it.
	gone *armed
}

// createVolume asks for the root volume. It does not wait for it: a device name
// is chosen meanwhile.
func (b *build) createVolume(ctx context.Context, from basis) (volume, error) {
	spec := from.volume
	b.report.Step("Creating the root volume: %d GiB of %s in %s%s", spec.SizeGiB, spec.Type, spec.Zone, from.origin())
	v := volume{sizeGiB: spec.SizeGiB, tags: map[string]string{}}
	maps.Copy(v.tags, spec.Tags)
	v.tags[BuildTag] = string(spec.Build)
	gone, err := b.arm(b.scaffold, act{
		Kind: actVolume, Build: spec.Build, SizeGiB: spec.SizeGiB, Zone: spec.Zone, From: spec.Snapshot, Begun: time.Now(),
	})
	if err != nil {
		return volume{}, err
	}
	v.gone = gone
	id, err := sound(b.cloud.CreateVolume(ctx, spec))
	if id != "" {
		v.gone.answered(func(a *act) { a.Volume = id })
	}
	if err != nil {
		return volume{}, err
	}
	v.id = id
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
	if err := b.volumeAvailable(ctx, v); err != nil {
		return attachment{}, err
	}
	if err := b.cloud.Tag(ctx, string(v.id), v.tags); err != nil {
		return attachment{}, err
	}
	held, err := b.arm(b.scaffold, act{Kind: actReservation, LockDir: b.plan.LockDir})
	if err != nil {
		return attachment{}, err
	}
	a := attachment{volume: v.id, host: host.ID, sizeGiB: v.sizeGiB, before: b.machine.Disks()}
	a.gone, err = b.arm(b.scaffold, act{Kind: actAttachment, Volume: v.id, Host: host.ID, Begun: time.Now()})
	if err != nil {
		return attachment{}, err
	}
	name, err := b.askToAttach(ctx, host, v.id, held)
	if err != nil {
		return attachment{}, err
	}
	a.name = name
	a.gone.answered(func(a *act) { a.Device = name })
	if err := b.volumeAttached(ctx, a); err != nil {
		return attachment{}, err
	}
	b.report.Detail("attached as %s", name)
	return a, b.done(ctx, "attach volume")
}

// askToAttach tries one name after the other until the cloud takes one. Those that
// it refused stay reserved: the cloud lists a name as taken only after a while.
func (b *build) askToAttach(ctx context.Context, host Host, id VolumeID, held *armed) (DeviceName, error) {
	names, tries, refused := b.names(host), b.waits.Settling.try(), error(nil)
	for {
		name, release, err := b.machine.Reserve(b.plan.LockDir, names)
		if err != nil {
			b.nameLost = errors.Is(err, chroot.ErrKeeperLost)
			return "", fmt.Errorf("cannot attach %s to %s: %w", id, host.ID, errors.Join(err, refused))
		}
		b.releases[name] = release
		held.answered(func(a *act) { a.Reserved = append(a.Reserved, name) })
		refused = b.attachAs(ctx, id, host.ID, name, tries)
		if refused == nil {
			return name, nil
		}
		if b.plan.Device != "" || !errors.Is(refused, ErrDeviceTaken) {
			return "", refused
		}
		b.report.Detail("%s is taken, trying another name", name)
		names = names[slices.Index(names, name)+1:]
	}
}

// attachAs asks for one name. If a cloud cannot tell whether the name is taken or the volume
// is not ready, there is a pause after the refusal, and a name that the user gave is asked
// for again.
func (b *build) attachAs(ctx context.Context, id VolumeID, host HostID, name DeviceName, tries *tries) error {
	for {
		err := b.cloud.Attach(ctx, id, host, name)
		if !errors.Is(err, ErrDeviceTaken) || !errors.Is(err, ErrUnsettled) {
			return err
		}
		if stop := tries.again(ctx, "the attachment of "+string(id), err); stop != nil {
			return stop
		}
		if b.plan.Device == "" {
			return err
		}
	}
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
		err = v.gone.Undo(ctx)
	}
	if err != nil {
		b.report.Detail("to be tried again: %v", err)
	}
}

// deleteVolume deletes a volume as soon as it is in a state to be deleted. One that
// was seen to be so when it was detached is not looked at again, the first time.
// Creating may never end: a cloud may take the deleting of it all the same.
func (b *build) deleteVolume(ctx context.Context, id VolumeID) error {
	if _, free := b.free.LoadAndDelete(id); free {
		return b.cloud.DeleteVolume(ctx, id)
	}
	what, state := fmt.Sprintf("%s to become free", id), VolumeState("")
	err := b.waits.Volume.until(ctx, what, going(newborn(b.waits.Lost, func(ctx context.Context) (sight, error) {
		v, err := b.cloud.Volume(ctx, id)
		state = v.State
		busy := state == VolumeCreating || state == VolumeInUse
		return sight{state: string(state), done: !busy}, err
	})))
	if err != nil && state != VolumeCreating {
		return err
	}
	if refused := b.cloud.DeleteVolume(ctx, id); refused != nil {
		return errors.Join(err, refused)
	}
	return nil
}

// volumeAvailable waits for a new volume, which must show that it is the build's. A tag
// may be shown some time after the volume.
func (b *build) volumeAvailable(ctx context.Context, v volume) error {
	created, unmarked := v.gone.value(), time.Time{}
	what := fmt.Sprintf("volume %s", v.id)
	return b.waits.Volume.until(ctx, what, newborn(b.waits.Unseen, func(ctx context.Context) (sight, error) {
		now, err := b.cloud.Volume(ctx, v.id)
		if err == nil {
			err = cmp.Or(b.unlikeVolume(created, now), now.usable())
		}
		if err == nil && now.Build != "" {
			b.show("", string(v.id))
		}
		done := now.State == VolumeAvailable
		if err == nil && done && now.Build != created.Build {
			if done = false; unmarked.IsZero() {
				unmarked = time.Now()
			}
			if time.Since(unmarked) >= b.waits.Unseen {
				err = foreign(v.id, "does not carry the tag of build %s", created.Build)
			}
		}
		return sight{state: string(now.State), done: done}, err
	}))
}

// usable returns why a new volume cannot become available and free; nil if it can.
func (v Volume) usable() error {
	if v.State == VolumeError || v.State == VolumeDeleting || v.State == VolumeInUse {
		return fmt.Errorf("it is in the state %s", v.State)
	}
	return nil
}

// volumeAttached waits for a new attachment.
func (b *build) volumeAttached(ctx context.Context, a attachment) error {
	what := fmt.Sprintf("%s to be attached as %s", a.volume, a.name)
	return b.waits.Attachment.until(ctx, what, func(ctx context.Context) (sight, error) {
		v, err := b.cloud.Volume(ctx, a.volume)
		if err == nil && (v.State == VolumeError || v.State == VolumeDeleting || v.Attach == Detaching) {
			err = fmt.Errorf("it is %s and %s", v.State, v.Attach)
		}
		if err == nil && v.Attach != Detached && v.Host != a.host {
			err = fmt.Errorf("it is %s to %q", v.Attach, v.Host)
		}
		return sight{state: string(v.Attach), done: v.Attach == Attached}, err
	})
}

// mostBetween is the longest interval at which something lost is looked for.
const mostBetween = 500 * time.Millisecond

// lost looks for the effect of a call that answered an error. The reading calls
// may lag behind, so that if nothing is found, they are asked again for a while.
func lost[ID ~string](ctx context.Context, limit time.Duration, find func(context.Context) ([]ID, error)) ([]ID, error) {
	for begun := (time.Time{}); ; {
		ids, err := find(ctx)
		if begun.IsZero() {
			begun = time.Now() // the first answer may have come late
		}
		if err != nil || len(ids) > 0 || time.Since(begun) >= limit {
			return ids, err
		}
		if err := sleep(ctx, min(limit/4, mostBetween)); err != nil {
			return nil, err
		}
	}
}
