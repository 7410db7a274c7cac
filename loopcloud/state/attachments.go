package state

import (
	"errors"
	"fmt"
	"time"
)

// volumesPerVM is the largest number of volumes of a VM, including its root volume. It is
// Outscale's limit, and the number up to which EC2 supports Xen instances.
const volumesPerVM = 40

// AttachVolume attaches a volume to a running VM in its zone. If the VM is the machine that
// loopcloud runs on, the device exists when AttachVolume returns.
func (c *Cloud) AttachVolume(caller Caller, req AttachRequest) (Attachment, error) {
	o := c.begin(writing(req.VolumeID))
	defer o.end()
	r, vm, err := o.attachable(caller, req)
	if err != nil {
		return Attachment{}, err
	}
	if req.DryRun {
		return Attachment{}, dryRun("volume", r.ID)
	}
	outcome, before := o.outcome(ActAttachVolume), r.view(o.now)
	l := &link{
		Attachment: Attachment{VolumeID: r.ID, VMID: vm.ID, Device: req.Device, Attached: o.now},
		Host:       vm.Host,
		Ready:      outcome.ready(o.now, o.timing.Attach),
	}
	c.volumeStale.add(outcome.Stale, r.ID, caller, &before, o.now)
	r.Link = l
	if err := o.connect(r, outcome); err != nil {
		r.Link = nil
		_ = o.save() // the first error is more informative
		return Attachment{}, err
	}
	out := l.view(o.now)
	out.State = Attaching
	return out, o.save()
}

// connect creates the device, if the attachment is to this machine and its outcome includes one.
func (o *op) connect(r *volumeRecord, outcome Outcome) error {
	if !r.Link.Host || outcome.Ending == NeverEnds || outcome.Ending == NoDevice {
		return nil
	}
	if err := o.save(); err != nil {
		return err
	}
	var path string
	device := r.Link.Device
	r.Link.Making = true
	err := o.bytes(outcome.bytes(func() (err error) {
		path, err = o.disks.AttachVolume(r.ID, device)
		return err
	}))
	if errors.Is(err, ErrDeviceTaken) {
		return refuse(InUse, "device", device, "it is in use on this machine")
	}
	if err != nil {
		return fmt.Errorf("cannot attach %s as %s: %w", r.ID, device, err)
	}
	r.Link.Path, r.Link.Making = path, false
	return nil
}

// attachable returns the volume and the VM, or an error if the volume cannot be attached.
func (o *op) attachable(caller Caller, req AttachRequest) (*volumeRecord, *vmRecord, error) {
	r, err := o.volume(caller, req.VolumeID)
	if err != nil {
		return nil, nil, err
	}
	vm, err := o.vm(caller, req.VMID)
	if err != nil {
		return nil, nil, err
	}
	if err := o.unattached(r, caller); err != nil {
		return nil, nil, err
	}
	switch s, vs := r.state(o.now), vm.view(o.now).State; {
	case s != VolumeAvailable:
		err = refuse(WrongState, "volume", r.ID, "it is %s", s)
	case req.RefuseModifying && r.Change != nil && o.now.Before(r.Change.Optimizing):
		err = refuse(NotAllowed, "volume", r.ID, "it is being modified")
	case vs != VMRunning:
		err = refuse(WrongState, "instance", vm.ID, "it is %s", vs)
	case r.Zone != vm.Zone:
		err = refuse(InvalidValue, "zone", r.Zone, "%s is in %s", vm.ID, vm.Zone)
	case r.Outpost != vm.Outpost:
		err = refuse(InvalidValue, "zone", r.Zone, "%s and %s are not on the same Outpost, or not both in the Region", r.ID, vm.ID)
	case r.RecordOnly && vm.Host:
		err = refuse(WrongState, "volume", r.ID, "it is of a machine that loopcloud does not run, and has no bytes")
	case req.Device == "":
		err = refuse(Missing, "device", "", "no device name was given")
	default:
		err = o.deviceFree(vm.ID, req.Device)
	}
	return r, vm, err
}

// deviceFree returns an error if the VM already uses the device name or has too many volumes.
func (o *op) deviceFree(vmID, device string) error {
	count := 0
	for _, r := range o.db.Volumes {
		if r.Link == nil || r.Link.VMID != vmID {
			continue
		}
		if r.Link.Device == device {
			return refuse(InUse, "device", device, "%s has %s there", vmID, r.ID)
		}
		count++
	}
	if count >= volumesPerVM {
		return refuse(Limit, "instance", vmID, "it has %d volumes, which is all it can", count)
	}
	return nil
}

// DetachVolume starts to detach a volume. The attachment stays in the state detaching for the
// configured time and, on this machine, as long as the device is in use. Force does not wait for
// the device.
func (c *Cloud) DetachVolume(caller Caller, req DetachRequest) (Attachment, error) {
	o := c.begin(writing(req.VolumeID))
	defer o.end()
	r, err := o.detachable(caller, req)
	if err != nil {
		return Attachment{}, err
	}
	if req.DryRun {
		return Attachment{}, dryRun("volume", r.ID)
	}
	l := r.Link
	if !l.Detaching {
		outcome, before := o.outcome(ActDetachVolume), r.view(o.now)
		c.volumeStale.add(outcome.Stale, r.ID, caller, &before, o.now)
		l.Detaching, l.Due = true, outcome.ready(o.now, o.timing.Detach)
	}
	if req.Force {
		l.Force, l.Due = true, earlier(l.Due, o.now.Add(o.timing.Detach))
	}
	out := l.view(o.now)
	return out, o.startDetach(r)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// startDetach ends an attachment that is due at once, and leaves others to later attempts.
func (o *op) startDetach(r *volumeRecord) error {
	if err := o.save(); err != nil {
		return err
	}
	if !o.now.Before(r.Link.Due) {
		err := o.endLink(r)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrBusy) {
			return fmt.Errorf("cannot detach %s: %w", r.ID, err)
		}
	}
	select {
	case o.wake <- struct{}{}:
	default: // it is already awake
	}
	return nil
}

// detachable returns a volume with the requested attachment.
func (o *op) detachable(caller Caller, req DetachRequest) (*volumeRecord, error) {
	r, err := o.volume(caller, req.VolumeID)
	if err != nil {
		return nil, err
	}
	l := r.Link
	if was, stale := o.volumeStale.outdated(r.ID, caller, func(v Volume) bool { return l != nil && v.Attachment == nil }); stale {
		return nil, refuse(WrongState, "volume", r.ID, "it is %s", was.State)
	}
	switch {
	case l == nil:
		return nil, refuse(WrongState, "volume", r.ID, "it is %s", r.state(o.now))
	case req.VMID != "" && req.VMID != l.VMID:
		return nil, refuse(InvalidValue, "instance", req.VMID, "%s is attached to %s", r.ID, l.VMID)
	case req.Device != "" && req.Device != l.Device:
		return nil, refuse(InvalidValue, "device", req.Device, "%s is attached as %s", r.ID, l.Device)
	case o.isRoot(l):
		return nil, refuse(WrongState, "root", r.ID, "Unable to detach root volume '%s' from instance '%s'", r.ID, l.VMID)
	}
	return r, nil
}

// isRoot reports whether an attachment is that of the root volume of a VM that is not terminated.
func (o *op) isRoot(l *link) bool {
	vm := o.db.VMs[l.VMID]
	return vm != nil && vm.view(o.now).State != VMTerminated && l.Device == vm.RootDevice
}
