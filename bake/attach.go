package bake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// attachment is the root volume on the host.
type attachment struct {
	volume VolumeID
	host   HostID
	name   DeviceName
	// sizeGiB is the volume's, and before are the disks that existed before it: the last
	// resort to find it by.
	sizeGiB  int64
	before   disk.Seen
	attached armed[attachmentAct]
}

// attach attaches the volume to the host, under the first name that is free.
func (b *build) attach(ctx context.Context, host Host, v volume) (attachment, error) {
	if err := b.volumeAvailable(ctx, v); err != nil {
		return attachment{}, err
	}
	if err := b.cloud.Tag(ctx, string(v.id), v.tags); err != nil {
		return attachment{}, err
	}
	reserved, err := arm(b.undoer, scaffold, reservationAct{LockDir: b.plan.LockDir, held: &heldNames{}})
	if err != nil {
		return attachment{}, err
	}
	a := attachment{volume: v.id, host: host.ID, sizeGiB: v.sizeGiB, before: b.machine.Disks()}
	a.attached, err = arm(b.undoer, scaffold, attachmentAct{call: call{Begun: time.Now()}, Volume: v.id, Host: host.ID})
	if err != nil {
		return attachment{}, err
	}
	name, err := b.requestAttachment(ctx, host, v.id, reserved)
	if err != nil {
		return attachment{}, err
	}
	a.name = name
	a.attached.settle(func(a *attachmentAct) { a.Answered, a.Device = true, name })
	if err := b.volumeAttached(ctx, a); err != nil {
		return attachment{}, err
	}
	b.report.Detail("attached as %s", name)
	return a, nil
}

// requestAttachment tries one name after the other until the cloud accepts one. Refused
// names stay reserved: the cloud lists a name as taken only after a while.
func (b *build) requestAttachment(ctx context.Context, host Host, id VolumeID, reserved armed[reservationAct]) (DeviceName, error) {
	names, tries, refused := b.names(host), b.waits.Settling.try(), error(nil)
	held := reserved.value().held
	for {
		name, release, err := b.machine.Reserve(b.plan.LockDir, names)
		if err != nil {
			held.lost = errors.Is(err, chroot.ErrKeeperLost)
			return "", fmt.Errorf("cannot attach %s to %s: %w", id, host.ID, errors.Join(err, refused))
		}
		held.add(name, release)
		reserved.settle(func(a *reservationAct) {
			a.Answered, a.Reserved = true, append(slices.Clone(a.Reserved), name)
		})
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

// attachAs requests one name. If a cloud cannot tell whether the name is taken or the
// volume is not ready, there is a pause after the refusal, and a name that the user gave
// is requested again.
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

// names lists the device names to try.
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

// letters returns the part of a device name that distinguishes it: f for /dev/sdf,
// /dev/xvdf and their partitions, which both clouds treat as the same name.
func (n DeviceName) letters() string {
	name := strings.TrimPrefix(string(n), "/dev/")
	for _, prefix := range []string{"xvd", "sd"} {
		if letters, ok := strings.CutPrefix(name, prefix); ok {
			return strings.TrimRight(letters, "0123456789")
		}
	}
	return name
}

// volumeAttached waits for a new attachment.
func (b *build) volumeAttached(ctx context.Context, a attachment) error {
	what := fmt.Sprintf("%s to be attached as %s", a.volume, a.name)
	return b.watch(ctx, b.waits.Attachment, attachmentWait, what, func(ctx context.Context) (observation, error) {
		v, err := b.cloud.Volume(ctx, a.volume)
		if err == nil && (v.State == VolumeError || v.State == VolumeDeleting || v.Attach == Detaching) {
			err = fmt.Errorf("it is %s and %s", v.State, v.Attach)
		}
		if err == nil && v.Attach != Detached && v.Host != a.host {
			err = fmt.Errorf("it is %s to %q", v.Attach, v.Host)
		}
		return observation{state: string(v.Attach), done: v.Attach == Attached}, err
	})
}

// attachmentAct is the attachment of the root volume to the host.
type attachmentAct struct {
	call
	Volume VolumeID   `json:"volume,omitempty"`
	Host   HostID     `json:"host,omitempty"`
	Device DeviceName `json:"device,omitempty"`
}

func (attachmentAct) kind() string { return "attachment" }

// String implements act.
func (a attachmentAct) String() string {
	return fmt.Sprintf("attachment of %s to %s", a.Volume, a.Host)
}

func (a attachmentAct) check(BuildID) error { return named(a.Volume != "" && a.Host != "") }

func (a attachmentAct) removal([]act) string {
	return fmt.Sprintf("detach volume %s from %s (%s)", a.Volume, a.Host, a.Device)
}

// undo detaches the volume. If the cloud has not answered the request, the attachment is
// searched for.
func (a attachmentAct) undo(ctx context.Context, u *undoer, _ *entry) error {
	if !a.Answered {
		there, err := search(ctx, u.searchLimit(a.call, a.String()), func(ctx context.Context) ([]VolumeID, error) { return u.ifAttached(ctx, a.Volume) })
		if err != nil || len(there) == 0 {
			return nothingIf(true, err)
		}
	}
	if err := u.cloud.Detach(ctx, a.Volume, a.Host); err != nil {
		return err
	}
	what := fmt.Sprintf("%s to be detached from %s", a.Volume, a.Host)
	return u.watch(ctx, u.waits.Attachment, detachmentWait, what, goneIsDone(func(ctx context.Context) (observation, error) {
		v, err := u.cloud.Volume(ctx, a.Volume)
		if err == nil && v.Attach == Detached && v.State == VolumeAvailable {
			u.free.Store(a.Volume, true)
		}
		return observation{state: string(v.Attach), done: v.Attach == Detached}, err
	}))
}

// undoInherited detaches the volume, if it is the build's and attached to the host that it
// was attached to. An unanswered request may still take effect.
func (a attachmentAct) undoInherited(ctx context.Context, u *undoer, e *entry) error {
	v, err := u.attachedTo(ctx, a.Volume, a.Host)
	if err != nil {
		return err
	}
	if v == nil || v.Attach == Detached && a.Answered {
		return nothingIf(true, nil)
	}
	return a.undo(ctx, u, e)
}

// ifAttached returns the volume if it is attached, or none.
func (u *undoer) ifAttached(ctx context.Context, id VolumeID) ([]VolumeID, error) {
	v, err := u.cloud.Volume(ctx, id)
	if errors.Is(err, ErrNotFound) || (err == nil && v.Attach == Detached) {
		return nil, nil
	}
	return []VolumeID{id}, err
}

// attachedTo returns a volume, which must be the build's; nil if it is gone. It returns an
// error if the volume is attached to another host.
func (u *undoer) attachedTo(ctx context.Context, id VolumeID, host HostID) (*Volume, error) {
	if err := u.ownVolume(ctx, id); err != nil {
		return nil, ignoreGone(err)
	}
	v, err := u.cloud.Volume(ctx, id)
	switch {
	case err != nil:
		return nil, ignoreGone(err)
	case v.Attach != Detached && v.Host != host:
		return nil, fmt.Errorf("%s is attached to %s by now, not to %s: it is left alone", id, v.Host, host)
	}
	return &v, nil
}
