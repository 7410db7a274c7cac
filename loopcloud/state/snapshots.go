package state

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"
)

// Snapshots returns the caller's snapshots, those shared with the caller, and the public ones.
func (c *Cloud) Snapshots(caller Caller) []Snapshot {
	o := c.begin()
	defer o.end()
	all := listed(c.db.Snapshots,
		func(r *snapshotRecord) bool { return r.visible(caller) },
		func(r *snapshotRecord) Snapshot { return r.view(o.now) })
	return c.snapshotStale.list(all, caller, o.now)
}

func (r *snapshotRecord) visible(caller Caller) bool {
	return r.Region == caller.Region && r.Work != deleting &&
		(r.Account == caller.Account || r.CreateVolume.allow(caller.Account))
}

// snapshot returns a snapshot that the caller and its changing calls can see.
func (o *op) snapshot(caller Caller, id string) (*snapshotRecord, error) {
	r, err := o.anySnapshot(caller, id)
	if err == nil {
		err = o.snapshotStale.checkCreated("snapshot", id, caller, string(SnapshotPending))
	}
	return r, err
}

// anySnapshot returns a snapshot that the caller can see.
func (o *op) anySnapshot(caller Caller, id string) (*snapshotRecord, error) {
	return found(o.db.Snapshots, snapshotPrefix, "snapshot", id, func(r *snapshotRecord) bool { return r.visible(caller) })
}

// ownSnapshot returns a snapshot that the caller may change.
func (o *op) ownSnapshot(caller Caller, id string) (*snapshotRecord, error) {
	r, err := o.snapshot(caller, id)
	if err != nil {
		return nil, err
	}
	return r, owned(r, caller, "snapshot")
}

// usableSnapshot returns a snapshot that volumes and images can be created from.
func (o *op) usableSnapshot(caller Caller, id string) (*snapshotRecord, error) {
	r, err := o.snapshot(caller, id)
	if err != nil {
		return nil, err
	}
	if s := r.view(o.now); s.State != SnapshotCompleted {
		return nil, refuse(WrongState, "snapshot", id, "it is %s", s.State)
	}
	return r, nil
}

// CreateSnapshot creates a snapshot of the flushed data of a volume.
func (c *Cloud) CreateSnapshot(caller Caller, req SnapshotRequest) (Snapshot, error) {
	t := clientTokenOf(caller, "CreateSnapshot", req.Token, req)
	o := c.begin(t.claim(), reading(req.VolumeID))
	defer o.end()
	if ids, err := o.repeated(t); err != nil || ids != nil {
		return o.snapshotAgain(caller, ids, err)
	}
	v, err := o.snappable(caller, req.VolumeID)
	if err == nil {
		err = checkTags(req.Tags)
	}
	if err != nil {
		return Snapshot{}, err
	}
	if req.DryRun {
		return Snapshot{}, dryRun("snapshot", "")
	}
	r := o.newSnapshot(caller, req.IDDigits, Snapshot{
		VolumeID: v.ID, SizeGiB: v.SizeGiB, Encrypted: v.Encrypted, KMSKeyID: v.KMSKeyID,
		Description: req.Description, Token: req.Token, Tags: req.Tags,
	})
	r.Lineage = cmp.Or(v.Lineage, v.ID)
	err = o.produceSnapshot(r, t, o.outcome(ActCreateSnapshot), Timing.snapshot, func() error { return c.disks.CreateSnapshot(r.ID, v.ID) })
	return o.pending(r), err
}

func (o *op) snapshotAgain(caller Caller, ids []string, err error) (Snapshot, error) {
	if err != nil {
		return Snapshot{}, err
	}
	r, err := o.anySnapshot(caller, ids[0])
	if err != nil {
		return Snapshot{}, err
	}
	return r.view(o.now), nil
}

// snappable returns a volume in a state that allows snapshots.
func (o *op) snappable(caller Caller, id string) (*volumeRecord, error) {
	v, err := o.volume(caller, id)
	if err != nil {
		return nil, err
	}
	if s := v.state(o.now); s != VolumeAvailable && s != VolumeInUse {
		return nil, refuse(WrongState, "volume", id, "it is %s", s)
	}
	if v.RecordOnly {
		return nil, refuse(WrongState, "volume", id, "it is of a machine that loopcloud does not run, and has no bytes")
	}
	return v, nil
}

// newSnapshot returns the record of a new snapshot and claims its ID.
func (o *op) newSnapshot(caller Caller, digits int, s Snapshot) *snapshotRecord {
	s.ID = o.freshID(snapshotPrefix, digits)
	s.Region, s.Account, s.Started = caller.Region, caller.Account, o.now
	s.Tags = maps.Clone(s.Tags)
	o.take(writing(s.ID))
	return &snapshotRecord{Snapshot: s, Ready: o.now}
}

// produceSnapshot creates the data of a snapshot, and sets the time at which the snapshot
// completes by the amount of data.
func (o *op) produceSnapshot(r *snapshotRecord, t clientToken, outcome Outcome, takes func(Timing, int64) time.Duration, bytes func() error) error {
	var size int64
	r.Failed = cmp.Or(r.Failed, outcome.failed())
	o.snapshotStale.add(outcome.Stale, r.ID, r.scope(), nil, o.now)
	err := produce(o, o.db.Snapshots, r, t, creation{
		bytes: outcome.bytes(func() error {
			if err := bytes(); err != nil {
				return err
			}
			size = o.written(r.ID, r.SizeGiB)
			return nil
		}),
		undo: func() error { return o.disks.DeleteSnapshot(r.ID) },
		done: func() { r.Ready = outcome.ready(r.Started, takes(o.timing, size)) },
	})
	if err != nil {
		return fmt.Errorf("cannot create %s: %w", r.ID, err)
	}
	return nil
}

// pending returns the snapshot for the response of the call that creates it.
func (o *op) pending(r *snapshotRecord) Snapshot {
	out := r.view(r.Started)
	out.State, out.Progress = SnapshotPending, 0
	return out
}

// CopySnapshot copies a completed snapshot that the caller can see in the source region into the
// caller's region.
func (c *Cloud) CopySnapshot(caller Caller, req SnapshotCopyRequest) (Snapshot, error) {
	t := clientTokenOf(caller, "CopySnapshot", req.Token, req)
	o := c.begin(t.claim(), reading(req.SourceID))
	defer o.end()
	if ids, err := o.repeated(t); err != nil || ids != nil {
		return o.snapshotAgain(caller, ids, err)
	}
	req.Encrypted = req.Encrypted || req.Defaults && o.settings(caller).EncryptByDefault
	source, err := o.copySource(caller, req)
	if err == nil {
		err = checkTags(req.Tags)
	}
	if err != nil {
		return Snapshot{}, err
	}
	if req.DryRun {
		return Snapshot{}, dryRun("snapshot", "")
	}
	copied, failed := o.copyOf(source, caller, req.Encrypted, req.KMSKeyID)
	copied.Description, copied.Token, copied.Tags = req.Description, req.Token, req.Tags
	r := o.newSnapshot(caller, req.IDDigits, copied)
	r.Failed, r.Lineage, r.Distorted = failed, r.ID, source.Distorted
	err = o.produceSnapshot(r, t, o.outcome(ActCopySnapshot), Timing.copy, func() error { return c.disks.CopySnapshot(r.ID, source.ID) })
	return o.pending(r), err
}

// copySource returns the snapshot to copy.
func (o *op) copySource(caller Caller, req SnapshotCopyRequest) (*snapshotRecord, error) {
	if err := o.inRegion(caller); err != nil {
		return nil, err
	}
	there := Caller{caller.Account, cmp.Or(req.SourceRegion, caller.Region)}
	if err := o.inRegion(there); err != nil {
		return nil, err
	}
	source, err := o.usableSnapshot(there, req.SourceID)
	if err != nil {
		return nil, err
	}
	_, err = o.encryptionKey(caller, req.Encrypted || source.Encrypted, req.KMSKeyID)
	return source, err
}

// copyOf returns the attributes of a copy, and the reason if the copy will fail. The key is the
// given one or the default one of the target region: keys belong to a region.
func (o *op) copyOf(source *snapshotRecord, to Caller, encrypted bool, key string) (s Snapshot, failed string) {
	s = Snapshot{
		VolumeID: noVolume, SizeGiB: source.SizeGiB, Description: source.Description,
		Encrypted: source.Encrypted || encrypted, ProductCodes: source.ProductCodes,
	}
	if s.Encrypted {
		s.KMSKeyID = KeyARN(to, cmp.Or(key, o.defaultKey(to)))
	}
	if key != "" && !keyExists(to, key) {
		failed = noKey
	}
	return s, failed
}

// DeleteSnapshot removes a snapshot that no image uses.
func (c *Cloud) DeleteSnapshot(caller Caller, id string, dry bool) error {
	o := c.begin(writing(id))
	defer o.end()
	r, err := o.ownSnapshot(caller, id)
	if err != nil {
		return err
	}
	if user := o.imageUsing(caller, id); user != "" {
		return inUse("snapshot", id, user, "image %s uses it", user)
	}
	if dry {
		return dryRun("snapshot", id)
	}
	before := r.view(o.now)
	c.snapshotStale.add(o.outcome(ActDeleteSnapshot).Stale, id, caller, &before, o.now)
	return o.removeSnapshot(r)
}

func (o *op) removeSnapshot(r *snapshotRecord) error {
	r.Work = deleting
	err := o.save()
	if err == nil {
		err = o.bytes(func() error { return o.disks.DeleteSnapshot(r.ID) })
	}
	if err != nil {
		r.Work = noWork
		_ = o.save() // the first error is more informative
		return fmt.Errorf("cannot delete %s: %w", r.ID, err)
	}
	delete(o.db.Snapshots, r.ID)
	return o.save()
}

// imageUsing returns the ID of an image that has the snapshot in its mappings, or that changing
// calls still see; "" if there is none.
func (o *op) imageUsing(caller Caller, snapshot string) string {
	uses := func(i Image) bool {
		return slices.ContainsFunc(i.Mappings, func(m Mapping) bool { return m.Volume != nil && m.Volume.SnapshotID == snapshot })
	}
	for id, r := range o.db.Images {
		if uses(r.Image) {
			return id
		}
	}
	return o.outdatedImage(caller, uses)
}

// ShareSnapshot changes the permissions to create volumes of a snapshot.
func (c *Cloud) ShareSnapshot(caller Caller, id string, ch PermissionChange, dry bool) (Snapshot, error) {
	o := c.begin(writing(id))
	defer o.end()
	r, err := o.ownSnapshot(caller, id)
	if err != nil {
		return Snapshot{}, err
	}
	next, err := r.CreateVolume.changed(ch)
	if err != nil {
		return Snapshot{}, err
	}
	if err := r.shareable(next); err != nil {
		return Snapshot{}, err
	}
	if dry {
		return Snapshot{}, dryRun("snapshot", id)
	}
	r.CreateVolume = next
	return r.view(o.now), o.save()
}

// shareable returns an error if EC2 does not let an encrypted snapshot be shared: it cannot be
// public, and it cannot be shared if it is encrypted with the key that AWS manages.
func (r *snapshotRecord) shareable(p Permissions) error {
	switch {
	case r.Encrypted && p.Public:
		return refuse(Secret, "snapshot", r.ID, "Encrypted snapshots cannot be made public")
	case r.Encrypted && len(p.Accounts) > 0 && Managed(r.KMSKeyID):
		return refuse(Unshareable, "snapshot", r.ID, "Encrypted snapshots with EBS default key cannot be shared")
	}
	return nil
}

// noVolume is EC2's ID of the volume of snapshots without a volume: imported and copied ones.
const noVolume = volumePrefix + "-ffffffff"

// ImportSnapshot creates a completed snapshot of a file on this machine.
func (c *Cloud) ImportSnapshot(caller Caller, req SnapshotImport) (Snapshot, error) {
	o := c.begin()
	defer o.end()
	if err := o.inRegion(caller); err != nil {
		return Snapshot{}, err
	}
	size, err := importSize(req)
	if err != nil {
		return Snapshot{}, err
	}
	r := o.newSnapshot(caller, req.IDDigits, Snapshot{
		VolumeID: noVolume,
		SizeGiB:  size, Description: req.Description, Tags: req.Tags,
	})
	r.Lineage = r.ID
	atOnce := func(Timing, int64) time.Duration { return 0 }
	if err := o.produceSnapshot(r, clientToken{}, Outcome{}, atOnce, func() error { return c.disks.ImportSnapshot(r.ID, req.File) }); err != nil {
		return Snapshot{}, err
	}
	return r.view(o.now), nil
}

// importSize returns the size in GiB of the snapshot of a file.
func importSize(req SnapshotImport) (int64, error) {
	info, err := os.Stat(req.File)
	if err != nil {
		return 0, fmt.Errorf("cannot import a snapshot: %w", err)
	}
	whole := (info.Size() + 1<<30 - 1) >> 30
	switch {
	case whole == 0:
		return 0, refuse(InvalidValue, "size", "0", "%s is empty", req.File)
	case req.SizeGiB == 0:
		return whole, nil
	case req.SizeGiB < whole:
		return 0, refuse(InvalidValue, "size", decimal(req.SizeGiB), "%s needs %d GiB", req.File, whole)
	}
	return req.SizeGiB, nil
}

// ExportSnapshot writes a snapshot that the caller can see into a file, as a sparse raw disk.
func (c *Cloud) ExportSnapshot(caller Caller, id, file string) error {
	o := c.begin(reading(id))
	defer o.end()
	r, err := o.usableSnapshot(caller, id)
	if err != nil {
		return err
	}
	return o.bytes(func() error {
		if err := c.disks.ExportSnapshot(id, file, r.SizeGiB<<30); err != nil || !r.Distorted {
			return err
		}
		blocks, err := c.blockDisks()
		if err != nil {
			return err
		}
		return blocks.DistortFile(file, id)
	})
}
