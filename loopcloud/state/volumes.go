package state

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// deletedShown is the minimum time for which a deleted volume is listed as deleting. It was
// observed in the Outscale API.
const deletedShown = time.Minute

// Volumes returns the caller's volumes. A deleted one is listed as VolumeDeleting for a while:
// EC2 hides these, the Outscale API shows them.
func (c *Cloud) Volumes(caller Caller) []Volume {
	o := c.begin()
	defer o.end()
	all := listed(c.db.Volumes,
		func(r *volumeRecord) bool { return r.scope() == caller },
		func(r *volumeRecord) Volume { return r.view(o.now) })
	return c.volumeStale.list(all, caller, o.now)
}

// CreateVolume creates a volume, blank or from a completed snapshot that the caller may use. Its
// data exists when CreateVolume returns.
func (c *Cloud) CreateVolume(caller Caller, req VolumeRequest) (Volume, error) {
	t := clientTokenOf(caller, "CreateVolume", req.Token, req)
	o := c.begin(t.claim(), reading(req.SnapshotID))
	defer o.end()
	if ids, err := o.repeated(t); err != nil || ids != nil {
		return o.volumeAgain(caller, ids, err)
	}
	r, err := o.newVolume(caller, req)
	if err == nil {
		err = checkTags(req.Tags)
	}
	if err != nil {
		return Volume{}, err
	}
	if req.DryRun {
		return Volume{}, dryRun("volume", "")
	}
	r.ID = o.freshID(volumePrefix, req.IDDigits)
	if req.KMSKeyID != "" && !keyExists(caller, req.KMSKeyID) {
		// EC2 responds with success, and the volume disappears.
		out := r.view(o.now)
		out.State = VolumeCreating
		return out, nil
	}
	o.take(writing(r.ID))
	outcome := o.outcome(ActCreateVolume)
	r.Ready, r.Failed, r.Stuck = outcome.ready(o.now, o.timing.VolumeCreate), outcome.failed(), outcome.Ending == NeverEnds
	c.volumeStale.add(outcome.Stale, r.ID, caller, nil, o.now)
	err = produce(o, c.db.Volumes, r, t, creation{
		bytes: outcome.bytes(func() error { return o.createVolume(r) }),
		undo:  func() error { return c.disks.DeleteVolume(r.ID) },
	})
	if err != nil {
		return Volume{}, fmt.Errorf("cannot create %s: %w", r.ID, err)
	}
	out := r.view(o.now)
	out.State = VolumeCreating
	return out, nil
}

// createVolume creates the data of a volume.
func (o *op) createVolume(r *volumeRecord) error {
	if err := o.disks.CreateVolume(r.ID, r.SizeGiB<<30, r.SnapshotID); err != nil || !r.distorted {
		return err
	}
	blocks, err := o.blockDisks()
	if err != nil {
		return err
	}
	return blocks.DistortVolume(r.ID, r.SnapshotID)
}

func (o *op) volumeAgain(caller Caller, ids []string, err error) (Volume, error) {
	if err != nil {
		return Volume{}, err
	}
	r, err := o.anyVolume(caller, ids[0])
	if err != nil {
		return Volume{}, err
	}
	return r.view(o.now), nil
}

// newVolume returns the record of a requested volume, without an ID.
func (o *op) newVolume(caller Caller, req VolumeRequest) (*volumeRecord, error) {
	if err := o.inZone(caller, req.Zone); err != nil {
		return nil, err
	}
	if err := o.onOutpost(caller, req); err != nil {
		return nil, err
	}
	r := &volumeRecord{Volume: Volume{
		Region: caller.Region, Zone: req.Zone, Outpost: req.Outpost, Account: caller.Account,
		SnapshotID: req.SnapshotID, Encrypted: req.Encrypted || req.Defaults && o.settings(caller).EncryptByDefault, KMSKeyID: req.KMSKeyID,
		Created: o.now, Token: req.Token, Tags: maps.Clone(req.Tags),
	}}
	size := req.SizeGiB
	if req.SnapshotID != "" {
		s, err := o.usableSnapshot(caller, req.SnapshotID)
		if err != nil {
			return nil, err
		}
		if size, err = sizeFrom(s, size); err != nil {
			return nil, err
		}
		r.inherit(s)
	}
	if size == 0 {
		return nil, refuse(Missing, "size", "", "a volume needs a size or a snapshot")
	}
	p, err := performance{req.Type, size, req.IOPS, req.Throughput}.complete()
	if err != nil {
		return nil, err
	}
	r.set(p)
	r.KMSKeyID, err = o.encryptionKey(caller, r.Encrypted, r.KMSKeyID)
	return r, err
}

// outpostTypes are the volume types of an Outpost. Newer racks have more. Source:
// github.com/kubernetes-sigs/aws-ebs-csi-driver issue 662.
var outpostTypes = []string{"gp2"}

// onOutpost returns an error if the Outpost does not exist or does not offer the volume type.
func (o *op) onOutpost(caller Caller, req VolumeRequest) error {
	switch {
	case req.Outpost == "":
		return nil
	case req.Outpost != o.outpost || caller.Region != o.defaultRegion:
		return refuse(InvalidValue, "outpost", req.Outpost, "there is no such Outpost in %s", caller.Region)
	case req.Zone != o.hostZone:
		return refuse(InvalidValue, "outpost", req.Outpost, "it is in zone %s, and not in %s", o.hostZone, req.Zone)
	case !slices.Contains(outpostTypes, cmp.Or(req.Type, defaultVolumeType)):
		return refuse(InvalidValue, "volume", req.Type, "Outpost %s does not have this volume type", req.Outpost)
	}
	return nil
}

// inZone returns an error if a zone is not in the caller's region.
func (o *op) inZone(caller Caller, zone string) error {
	if err := o.inRegion(caller); err != nil {
		return err
	}
	if zone == "" {
		return refuse(Missing, "zone", "", "no zone was given")
	}
	if !slices.Contains(o.region(caller.Region).Zones, zone) {
		return refuse(NotFound, "zone", zone, "region %s has no such zone", caller.Region)
	}
	return nil
}

// inherit takes over the encryption of a snapshot: a volume of an encrypted snapshot is
// encrypted. Its default key is the snapshot's key, or the account's default key if the snapshot
// belongs to another account.
// https://docs.aws.amazon.com/ebs/latest/userguide/encryption-parameters.html
func (r *volumeRecord) inherit(s *snapshotRecord) {
	r.Lineage, r.distorted = s.lineage(), s.Distorted
	if s.Encrypted {
		r.Encrypted = true
		if r.KMSKeyID == "" && s.Account == r.Account {
			r.KMSKeyID = s.KMSKeyID
		}
	}
}

func (r *volumeRecord) set(p performance) {
	r.Type, r.SizeGiB, r.IOPS, r.Throughput = p.Type, p.SizeGiB, p.IOPS, p.Throughput
}

func (r *volumeRecord) performance() performance {
	return performance{r.Type, r.SizeGiB, r.IOPS, r.Throughput}
}

// sizeFrom returns the size of a volume of a snapshot: the given size if it is not smaller, or
// the snapshot's size.
func sizeFrom(s *snapshotRecord, size int64) (int64, error) {
	if size == 0 {
		return s.SizeGiB, nil
	}
	if size < s.SizeGiB {
		return 0, refuse(InvalidValue, "size", decimal(size), "%s has %d GiB", s.ID, s.SizeGiB)
	}
	return size, nil
}

// volume returns a volume of the caller that is not deleted and that its changing calls can see.
func (o *op) volume(caller Caller, id string) (*volumeRecord, error) {
	r, err := o.anyVolume(caller, id)
	if err == nil {
		err = o.volumeStale.checkCreated("volume", id, caller, string(VolumeCreating))
	}
	return r, err
}

// anyVolume returns a volume of the caller that is not deleted.
func (o *op) anyVolume(caller Caller, id string) (*volumeRecord, error) {
	return found(o.db.Volumes, volumePrefix, "volume", id, func(r *volumeRecord) bool {
		return r.scope() == caller && r.Removed.IsZero()
	})
}

// ModifyVolume grows a volume or changes its type, attached or not. The device has its new size
// when ModifyVolume returns.
func (c *Cloud) ModifyVolume(caller Caller, id string, ch VolumeChange) (Volume, error) {
	o := c.begin(writing(id))
	defer o.end()
	r, err := o.volume(caller, id)
	if err != nil {
		return Volume{}, err
	}
	p, err := o.changed(r, ch)
	if err == nil && ch.LimitRate {
		err = r.checkRate(o.now)
	}
	if err != nil {
		return Volume{}, err
	}
	if ch.DryRun {
		return Volume{}, dryRun("volume", id)
	}
	if p.SizeGiB > r.SizeGiB && !r.RecordOnly {
		if err := o.bytes(func() error { return c.disks.ResizeVolume(id, p.SizeGiB<<30) }); err != nil {
			return Volume{}, fmt.Errorf("cannot resize %s: %w", id, err)
		}
	}
	r.Change = o.newChange(r.performance(), p)
	r.Changes = append(r.recentChanges(o.now), o.now)
	r.set(p)
	return r.view(o.now), o.save()
}

// changesPerDay is the maximum number of modifications of a volume in changesPeriod.
// https://docs.aws.amazon.com/ebs/latest/userguide/modify-volume-requirements.html
const (
	changesPerDay = 4
	changesPeriod = 24 * time.Hour
)

// recentChanges returns the times of the modifications that count towards the limit.
func (r *volumeRecord) recentChanges(now time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(r.Changes), func(t time.Time) bool { return now.Sub(t) >= changesPeriod })
}

// checkRate returns an error if a volume has been modified too often.
func (r *volumeRecord) checkRate(now time.Time) error {
	if len(r.recentChanges(now)) >= changesPerDay {
		return refuse(Limit, "modification", r.ID, "it has been modified %d times in the last %s, which is the maximum", changesPerDay, changesPeriod)
	}
	return nil
}

// changed returns the attributes of a volume after a change.
func (o *op) changed(r *volumeRecord, ch VolumeChange) (performance, error) {
	if s := r.state(o.now); s != VolumeAvailable && s != VolumeInUse {
		return performance{}, refuse(WrongState, "volume", r.ID, "it is %s", s)
	}
	if r.Change != nil && o.now.Before(r.Change.Ended) {
		return performance{}, refuse(WrongState, "modification", r.ID, "it is still being modified: its modification is %s", r.Change.view(o.now).State)
	}
	if ch.SizeGiB != 0 && ch.SizeGiB < r.SizeGiB {
		return performance{}, refuse(InvalidValue, "size", decimal(ch.SizeGiB), "%s has %d GiB and cannot shrink", r.ID, r.SizeGiB)
	}
	p := r.performance()
	if ch.Type != "" && ch.Type != p.Type || p.Type == "gp2" {
		p.IOPS, p.Throughput = 0, 0
	}
	p.Type = cmp.Or(ch.Type, p.Type)
	p.SizeGiB = cmp.Or(ch.SizeGiB, p.SizeGiB)
	p.IOPS = cmp.Or(ch.IOPS, p.IOPS)
	p.Throughput = cmp.Or(ch.Throughput, p.Throughput)
	if p.IOPS == 0 && (p.Type == "io1" || p.Type == "io2") {
		p.IOPS = gp3IOPS // the default of ModifyVolume when the type changes
	}
	return p.complete()
}

func (o *op) newChange(from, to performance) *change {
	half := o.timing.VolumeModify
	return &change{
		Modification: Modification{
			Started: o.now, Ended: o.now.Add(2 * half),
			FromType: from.Type, ToType: to.Type, FromSize: from.SizeGiB, ToSize: to.SizeGiB,
			FromIOPS: from.IOPS, ToIOPS: to.IOPS, FromThroughput: from.Throughput, ToThroughput: to.Throughput,
		},
		Optimizing: o.now.Add(half),
	}
}

// DeleteVolume deletes a volume that is not attached.
func (c *Cloud) DeleteVolume(caller Caller, id string, dry bool) error {
	o := c.begin(writing(id))
	defer o.end()
	r, err := o.volume(caller, id)
	if err != nil {
		return err
	}
	if err := o.unattached(r, caller); err != nil {
		return err
	}
	if s := r.state(o.now); s == VolumeCreating && !r.Stuck {
		return refuse(WrongState, "volume", id, "it is %s", s)
	}
	if dry {
		return dryRun("volume", id)
	}
	before := r.view(o.now)
	c.volumeStale.add(o.outcome(ActDeleteVolume).Stale, id, caller, &before, o.now)
	return o.removeVolume(r)
}

// unattached returns an error if a volume is attached, or if changing calls still see it
// attached.
func (o *op) unattached(r *volumeRecord, caller Caller) error {
	if r.Link != nil {
		return inUse("volume", r.ID, r.Link.VMID, "it is attached to %s", r.Link.VMID)
	}
	if was, stale := o.volumeStale.outdated(r.ID, caller, func(v Volume) bool { return v.Attachment != nil }); stale {
		return inUse("volume", r.ID, was.Attachment.VMID, "it is attached to %s", was.Attachment.VMID)
	}
	return nil
}

func (o *op) removeVolume(r *volumeRecord) error {
	r.Work, r.Removed = deleting, o.now
	r.Gone = o.now.Add(max(deletedShown, o.timing.VolumeDelete))
	err := o.save()
	if err == nil && !r.RecordOnly {
		err = o.bytes(func() error { return o.disks.DeleteVolume(r.ID) })
	}
	r.Work = noWork
	if err != nil {
		r.Removed = time.Time{}
		_ = o.save() // the first error is more informative
		return fmt.Errorf("cannot delete %s: %w", r.ID, err)
	}
	return o.save()
}
