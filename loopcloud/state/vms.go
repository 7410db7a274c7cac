package state

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"maps"
	"net/netip"
	"runtime"
	"strings"
)

const (
	// hostDigits is the number of digits in the ID of a host. Every dialect accepts eight: the
	// Outscale API uses them, and EC2 used them first.
	hostDigits   = 8
	hostType     = "m5.large"
	hostRootGiB  = 8
	rootDevice   = "/dev/sda1"
	hvm          = "hvm"
	smallestType = "m1.small"
)

// addHosts gives every account a VM in every region that stands for this machine. The machine may
// have had another zone when the cloud was served before.
func (c *Cloud) addHosts() {
	for _, a := range c.accounts {
		for _, region := range c.regions {
			if len(region.Zones) == 0 || region.OptIn == NotOptedIn {
				continue
			}
			at := Caller{a.ID, region.Name}
			for number := range c.hosts {
				if host := c.host(at, number); host == nil {
					c.addHost(at, c.locationIn(region), number)
				} else {
					c.move(host, c.locationIn(region))
				}
			}
		}
	}
}

// location is a zone and an Outpost in a region.
type location struct{ zone, outpost string }

// locationIn returns the location of this machine in a region: HostZone and Outpost in the
// default region.
func (c *Cloud) locationIn(r Region) location {
	if r.Name == c.defaultRegion {
		return location{c.hostZone, c.outpost}
	}
	return location{zone: r.Zones[0]}
}

// move changes the location of a VM and of the volumes created with it.
func (c *Cloud) move(vm *vmRecord, to location) {
	vm.Zone, vm.Outpost = to.zone, to.outpost
	for _, r := range c.db.Volumes {
		if r.RecordOnly && r.Link != nil && r.Link.VMID == vm.ID {
			r.Zone, r.Outpost = to.zone, to.outpost
		}
	}
}

// addHost adds the record of this machine, and of its root volume, which has no data.
func (c *Cloud) addHost(at Caller, in location, number int) {
	now := c.clock()
	vm := &vmRecord{VM: VM{
		ID: c.freshID(vmPrefix, hostDigits), Region: at.Region, Zone: in.zone, Outpost: in.outpost, Account: at.Account,
		Type: hostType, Architecture: architecture(), Virtualization: hvm, RootDevice: rootDevice,
		Launched: now, Host: true, Number: number,
	}, Ready: now}
	c.db.VMs[vm.ID] = vm
	c.addRecordVolume(vm, Mapping{Device: rootDevice, Volume: &MappedVolume{
		SizeGiB: hostRootGiB, Type: defaultVolumeType, DeleteOnTermination: true,
	}}, hostDigits)
}

// architecture returns the architecture of this machine by its name in the clouds.
func architecture() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "386":
		return "i386"
	}
	return runtime.GOARCH
}

// addRecordVolume adds a volume without data to a VM.
func (c *Cloud) addRecordVolume(vm *vmRecord, m Mapping, digits int) *volumeRecord {
	v := m.Volume
	r := &volumeRecord{
		Volume: Volume{
			ID: c.freshID(volumePrefix, digits), Region: vm.Region, Zone: vm.Zone, Account: vm.Account,
			SizeGiB: v.SizeGiB, Type: v.Type, IOPS: v.IOPS, Throughput: v.Throughput,
			SnapshotID: v.SnapshotID, Encrypted: v.Encrypted, KMSKeyID: v.KMSKeyID, Created: vm.Launched, Outpost: vm.Outpost,
		},
		Ready:      vm.Launched,
		RecordOnly: true,
	}
	if r.Type == "gp2" {
		p, _ := r.performance().complete() // only fills in the IOPS
		r.set(p)
	}
	r.Link = &link{
		Attachment: Attachment{
			VolumeID: r.ID, VMID: vm.ID, Device: m.Device, Attached: vm.Launched,
			DeleteOnTermination: v.DeleteOnTermination,
		},
		Host:  vm.Host,
		Ready: vm.Ready,
	}
	c.db.Volumes[r.ID] = r
	return r
}

// host returns the record of this machine in an account and region, nil if there is none.
func (c *Cloud) host(at Caller, number int) *vmRecord {
	for _, r := range c.db.VMs {
		if r.Host && r.scope() == at && r.Number == number {
			return r
		}
	}
	return nil
}

// HostVM returns the VM that stands for this machine in a region, as the first account sees it.
// Other accounts have their own VM.
func (c *Cloud) HostVM(region string) (VM, bool) { return c.HostVMs(region, 0) }

// HostVMs is like HostVM, for one of several hosts, from 0 on.
func (c *Cloud) HostVMs(region string, number int) (VM, bool) {
	o := c.begin()
	defer o.end()
	r := c.host(Caller{c.accounts[0].ID, region}, number)
	if r == nil || number >= c.hosts {
		return VM{}, false
	}
	return r.view(o.now), true
}

// SetMetadata calls change with the metadata options of a VM and stores them.
func (c *Cloud) SetMetadata(caller Caller, id string, change func(*MetadataOptions), dry bool) (VM, error) {
	o := c.begin()
	defer o.end()
	r, err := o.vm(caller, id)
	if err != nil {
		return VM{}, err
	}
	if dry {
		return VM{}, dryRun("instance", id)
	}
	change(&r.Metadata)
	return r.view(o.now), o.save()
}

// VMs returns the caller's VMs, and terminated ones for an hour.
func (c *Cloud) VMs(caller Caller) []VM {
	o := c.begin()
	defer o.end()
	return listed(c.db.VMs,
		func(r *vmRecord) bool { return r.scope() == caller },
		func(r *vmRecord) VM { return r.view(o.now) })
}

func (o *op) vm(caller Caller, id string) (*vmRecord, error) {
	return found(o.db.VMs, vmPrefix, "instance", id, func(r *vmRecord) bool { return r.scope() == caller })
}

// RunVMs creates VM records. No machine runs, and their volumes have no data.
func (c *Cloud) RunVMs(caller Caller, req VMRequest) ([]VM, error) {
	t := clientTokenOf(caller, "RunVMs", req.Token, req)
	o := c.begin(t.claim(), reading(req.ImageID))
	defer o.end()
	ids, err := o.repeated(t)
	if err != nil {
		return nil, err
	}
	if ids == nil {
		if ids, err = o.runVMs(caller, req); err != nil {
			return nil, err
		}
		o.remember(t, ids...)
	}
	var out []VM
	for _, id := range ids {
		r, err := o.vm(caller, id)
		if err != nil {
			return nil, err
		}
		out = append(out, r.view(o.now))
	}
	return out, o.save()
}

func (o *op) runVMs(caller Caller, req VMRequest) ([]string, error) {
	img, err := o.launchable(caller, &req)
	if err == nil {
		err = errors.Join(checkTags(req.Tags), checkTags(req.VolumeTags))
	}
	if err != nil {
		return nil, err
	}
	if req.DryRun {
		return nil, dryRun("instance", "")
	}
	img.LastLaunched = o.now
	var ids []string
	for range req.Count {
		vm := &vmRecord{VM: VM{
			ID: o.freshID(vmPrefix, req.IDDigits), Region: caller.Region, Zone: req.Zone, Account: caller.Account,
			ImageID: img.ID, Type: req.Type, Architecture: img.Architecture, Virtualization: img.Virtualization,
			RootDevice: img.RootDevice, BootMode: img.BootMode, UEFIData: img.UEFIData, Launched: o.now, Tags: maps.Clone(req.Tags),
		}, Ready: o.now.Add(o.timing.VMStart)}
		o.db.VMs[vm.ID] = vm
		for _, m := range img.Mappings {
			if m.Volume != nil {
				o.addRecordVolume(vm, m, req.IDDigits).Tags = maps.Clone(req.VolumeTags)
			}
		}
		ids = append(ids, vm.ID)
	}
	return ids, nil
}

// launchable returns the image of a request and fills in the defaults of the request.
func (o *op) launchable(caller Caller, req *VMRequest) (*imageRecord, error) {
	if err := o.inRegion(caller); err != nil {
		return nil, err
	}
	if req.Zone == "" {
		req.Zone = o.region(caller.Region).Zones[0]
	}
	if err := o.inZone(caller, req.Zone); err != nil {
		return nil, err
	}
	req.Type = cmp.Or(req.Type, smallestType)
	req.Count = cmp.Or(req.Count, 1)
	if req.Count < 0 {
		return nil, refuse(InvalidValue, "instance", "", "it cannot be run %d times", req.Count)
	}
	img, err := o.image(caller, req.ImageID)
	if err != nil {
		return nil, err
	}
	if s := img.view(o.now).State; s != ImageAvailable {
		return nil, refuse(WrongState, "image", img.ID, "it is %s", s)
	}
	return img, nil
}

// TerminateVMs terminates all of the VMs, or none of them. Their volumes are detached, or deleted
// if they are marked for deletion on termination.
func (c *Cloud) TerminateVMs(caller Caller, ids []string, dry bool) ([]VM, error) {
	o := c.begin()
	defer o.end()
	var vms []*vmRecord
	for _, id := range ids {
		r, err := o.vm(caller, id)
		if err != nil {
			return nil, err
		}
		if r.Host {
			return nil, refuse(NotAllowed, "instance", id, "it is the machine that loopcloud runs on")
		}
		vms = append(vms, r)
	}
	if dry {
		return nil, dryRun("instance", "")
	}
	out := make([]VM, len(vms))
	for i, r := range vms {
		if r.Ended.IsZero() {
			o.terminate(r)
		}
		out[i] = r.view(o.now)
	}
	return out, o.save()
}

func (o *op) terminate(vm *vmRecord) {
	vm.Ended = o.now.Add(o.timing.VMStop)
	for _, r := range o.db.Volumes {
		if r.Link != nil && r.Link.VMID == vm.ID {
			r.Link.Detaching, r.Link.Due = true, vm.Ended
			r.Link.Remove = r.Link.DeleteOnTermination
		}
	}
}

// PrivateIP returns a VM's address in its cloud, in 10.0.0.0/8. It follows from the ID. Nothing
// listens there.
func (vm VM) PrivateIP() netip.Addr {
	sum := sha256.Sum256([]byte(vm.ID))
	return netip.AddrFrom4([4]byte{10, sum[0], sum[1], 4 + sum[2]%250})
}

// PrivateDNS returns the name that EC2 gives to the private address.
func (vm VM) PrivateDNS() string {
	return "ip-" + strings.ReplaceAll(vm.PrivateIP().String(), ".", "-") + "." + vm.Region + ".compute.internal"
}
