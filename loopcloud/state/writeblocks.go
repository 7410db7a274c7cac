package state

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"strconv"
	"time"
)

// The limits of snapshots that are written block by block.
const (
	// maxSnapshotGiB is the size of the largest volume
	// (https://docs.aws.amazon.com/ebs/latest/APIReference/API_StartSnapshot.html).
	maxSnapshotGiB = 65536
	// pendingSnapshots is the number of pending snapshots of an account in a region
	// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html).
	pendingSnapshots = 100
	// snapshotQuota is the default of Config.SnapshotQuota, and EC2's default (same page).
	snapshotQuota = 100_000
	// uploadTimeout is the default of UploadRequest.Timeout.
	uploadTimeout = time.Hour
)

// upload is the record of writing a snapshot block by block.
type upload struct {
	// Active is the time of the last write. It is saved with the next change of the state, and a
	// restart of the cloud counts as a write.
	Active   time.Time
	Timeout  time.Duration
	Progress int  // in percent, as the client reports it
	Sealed   bool // no further writes
}

// view returns the state of a snapshot that is not sealed. A snapshot whose client is gone ends in
// an error; EBS documents that it is canceled.
func (u *upload) view(now time.Time) (s SnapshotState, progress int, reason string) {
	if now.Sub(u.Active) >= u.Timeout {
		return SnapshotError, 0, "The snapshot was not completed within " + u.Timeout.String() + " of the last write"
	}
	return SnapshotPending, min(u.Progress, 99), ""
}

// blockDisks returns the disks if they can read and write blocks of snapshots.
func (c *Cloud) blockDisks() (BlockDisks, error) {
	if disks, ok := c.disks.(BlockDisks); ok {
		return disks, nil
	}
	return nil, errors.New("the disks of this cloud have no blocks")
}

// StartSnapshot creates a snapshot that the caller writes block by block.
func (c *Cloud) StartSnapshot(caller Caller, req UploadRequest) (Snapshot, error) {
	t := clientTokenOf(caller, "StartSnapshot", req.Token, req)
	o := c.begin(t.claim(), reading(req.ParentID))
	defer o.end()
	if ids, err := o.repeated(t); err != nil || ids != nil {
		return o.uploadAgain(caller, ids, err)
	}
	blocks, err := c.blockDisks()
	if err != nil {
		return Snapshot{}, err
	}
	s, parent, err := o.checkUpload(caller, req)
	if err != nil {
		return Snapshot{}, err
	}
	r := o.newSnapshot(caller, req.IDDigits, s)
	r.Lineage, r.Distorted = r.ID, s.Encrypted
	if parent != nil {
		r.Lineage = parent.lineage()
	}
	r.Upload = &upload{Active: o.now, Timeout: cmp.Or(req.Timeout, uploadTimeout)}
	atOnce := func(Timing, int64) time.Duration { return 0 }
	err = o.produceSnapshot(r, t, o.outcome(ActStartSnapshot), atOnce, func() error {
		return blocks.BeginSnapshot(r.ID, r.SizeGiB<<30, r.ParentID)
	})
	return o.pending(r), err
}

// uploadAgain returns the response to the first request with a client token.
func (o *op) uploadAgain(caller Caller, ids []string, err error) (Snapshot, error) {
	if err != nil {
		return Snapshot{}, err
	}
	r, err := o.anySnapshot(caller, ids[0])
	if err != nil {
		return Snapshot{}, err
	}
	return o.pending(r), nil
}

// checkUpload returns the attributes of a requested snapshot, and its parent, which may be nil.
func (o *op) checkUpload(caller Caller, req UploadRequest) (s Snapshot, parent *snapshotRecord, err error) {
	if err := o.inRegion(caller); err != nil {
		return s, nil, err
	}
	if err := o.underQuota(caller); err != nil {
		return s, nil, err
	}
	if req.ParentID != "" {
		if parent, err = o.parentOf(caller, req); err != nil {
			return s, nil, err
		}
	}
	if req.SizeGiB < 1 || req.SizeGiB > maxSnapshotGiB {
		return s, nil, refuse(InvalidValue, "size", decimal(req.SizeGiB), "a snapshot has 1 to %d GiB", maxSnapshotGiB)
	}
	if err := checkTags(req.Tags); err != nil {
		return s, nil, err
	}
	s = Snapshot{
		VolumeID: noVolume, SizeGiB: req.SizeGiB, Description: req.Description, ParentID: req.ParentID, Token: req.Token, Tags: req.Tags,
	}
	s.Encrypted, s.KMSKeyID, err = o.uploadKey(caller, req, parent)
	return s, parent, err
}

// underQuota returns an error if the caller has too many snapshots.
func (o *op) underQuota(caller Caller) error {
	pending, all := 0, 0
	for _, r := range o.db.Snapshots {
		if r.scope() != caller {
			continue
		}
		all++
		if r.Upload != nil && r.view(o.now).State == SnapshotPending {
			pending++
		}
	}
	switch {
	case pending >= pendingSnapshots:
		return refuse(Limit, "pending snapshot", "", "an account has at most %d in a region", pendingSnapshots)
	case all >= o.snapshotQuota:
		return refuse(Limit, "snapshot", "", "an account has at most %d in a region", o.snapshotQuota)
	}
	return nil
}

// parentOf returns the parent of a requested snapshot. It must be a completed snapshot of the
// caller, and not be larger.
func (o *op) parentOf(caller Caller, req UploadRequest) (*snapshotRecord, error) {
	r, err := o.snapshot(caller, req.ParentID)
	if err != nil {
		return nil, err
	}
	if err := owned(r, caller, "snapshot"); err != nil {
		return nil, err
	}
	if s := r.view(o.now); s.State != SnapshotCompleted {
		return nil, refuse(WrongState, "snapshot", r.ID, "it is %s", s.State)
	}
	if req.SizeGiB < r.SizeGiB {
		return nil, refuse(InvalidValue, "size", decimal(req.SizeGiB), "the parent %s has %d GiB", r.ID, r.SizeGiB)
	}
	return r, nil
}

// uploadKey returns the encryption of a requested snapshot. With a parent it is inherited. Source:
// https://docs.aws.amazon.com/ebs/latest/userguide/ebsapis-using-encryption.html
func (o *op) uploadKey(caller Caller, req UploadRequest, parent *snapshotRecord) (encrypted bool, key string, err error) {
	byDefault := o.settings(caller).EncryptByDefault
	asked := req.Encrypted != nil && *req.Encrypted
	switch {
	case parent != nil && (req.Encrypted != nil || req.KMSKeyID != ""):
		return false, "", refuse(Unsuited, "encryption", "", "it cannot be requested together with a parent snapshot")
	case parent != nil && !parent.Encrypted && byDefault:
		return false, "", refuse(Unsuited, "encryption", "", "the account encrypts by default, and the parent snapshot %s is not encrypted", parent.ID)
	case parent != nil:
		return parent.Encrypted, parent.KMSKeyID, nil
	case req.Encrypted != nil && !asked && byDefault:
		return false, "", refuse(Unsuited, "encryption", "false", "the account encrypts by default")
	case req.KMSKeyID != "" && !asked:
		return false, "", refuse(Unsuited, "encryption", "", "a key requires encryption")
	case req.KMSKeyID != "" && !KeyExists(caller, req.KMSKeyID):
		return false, "", refuse(NotFound, "key", req.KMSKeyID, "it does not exist or is not accessible")
	}
	encrypted = asked || byDefault
	key, err = o.encryptionKey(caller, encrypted, req.KMSKeyID)
	return encrypted, key, err
}

// PutBlock writes a block of a snapshot. The caller has verified its checksum.
func (c *Cloud) PutBlock(caller Caller, id string, b BlockData) error {
	o := c.begin(reading(id))
	defer o.end()
	blocks, err := c.blockDisks()
	if err != nil {
		return err
	}
	r, err := o.uploading(caller, id)
	if err == nil {
		err = o.checkPending(r)
	}
	if err != nil {
		return err
	}
	if b.Index < 0 || b.Index >= r.blocks() {
		return refuse(InvalidValue, "block", decimal(b.Index), "%s has the blocks 0 to %d", id, r.blocks()-1)
	}
	block := id + "/" + decimal(b.Index)
	if o.Cloud.claims[block] != 0 {
		return refuse(Busy, "block", decimal(b.Index), "another request writes it")
	}
	o.take(writing(block))
	outcome := o.outcome(ActPutSnapshotBlock)
	if err := o.bytes(outcome.bytes(func() error { return blocks.WriteBlock(id, b.Index, b.Data, b.Sum) })); err != nil {
		return err
	}
	r.Upload.Active = c.clock()
	r.Upload.Progress = max(r.Upload.Progress, b.Progress)
	return nil
}

// blocks returns the number of blocks of a snapshot.
func (r *snapshotRecord) blocks() int64 { return r.SizeGiB << 30 / BlockSize }

// uploading returns a snapshot of the caller that is or was written block by block.
func (o *op) uploading(caller Caller, id string) (*snapshotRecord, error) {
	r, err := o.anySnapshot(caller, id)
	if err != nil {
		return nil, err
	}
	if o.snapshotStale.hidden(id, caller, o.now) {
		return nil, refuse(NotFound, "snapshot", id, "it does not exist")
	}
	if err := owned(r, caller, "snapshot"); err != nil {
		return nil, err
	}
	if r.Upload == nil {
		return nil, refuse(WrongState, "snapshot", id, "it is not written block by block")
	}
	return r, nil
}

// checkPending returns an error if a snapshot is no longer written.
func (o *op) checkPending(r *snapshotRecord) error {
	if s, _, _ := r.Upload.view(o.now); r.Upload.Sealed || s != SnapshotPending {
		return refuse(WrongState, "snapshot", r.ID, "it is no longer written: its state is %s", r.view(o.now).State)
	}
	return nil
}

// CompleteSnapshot seals a snapshot that was written block by block. If the seal is wrong, it
// succeeds and the snapshot fails later. It may be called again.
func (c *Cloud) CompleteSnapshot(caller Caller, id string, seal Seal) (Snapshot, error) {
	o := c.begin(writing(id))
	defer o.end()
	blocks, err := c.blockDisks()
	if err != nil {
		return Snapshot{}, err
	}
	r, err := o.uploading(caller, id)
	if err != nil || r.Upload.Sealed {
		return o.viewOf(r), err
	}
	if err := o.checkPending(r); err != nil {
		return Snapshot{}, err
	}
	var count int64
	var sum [sha256.Size]byte
	err = o.bytes(func() error {
		count, sum, err = blocks.WrittenBlocks(id)
		return err
	})
	if err != nil {
		return Snapshot{}, err
	}
	if err := o.seal(r, seal.failure(count, sum)); err != nil {
		return Snapshot{}, err
	}
	return o.viewOf(r), o.bytes(func() error { return blocks.SealSnapshot(id) })
}

// seal ends the writing of a snapshot. It is completed after the time of the cloud, or fails then
// for a reason.
func (o *op) seal(r *snapshotRecord, failure string) error {
	outcome := o.outcome(ActCompleteSnapshot)
	before, shown := *r.Upload, r.view(o.now)
	r.Failed = cmp.Or(failure, outcome.failed())
	r.Upload.Sealed, r.Upload.Active = true, o.now
	r.Ready = outcome.ready(o.now, o.timing.Direct.Complete)
	if err := o.save(); err != nil {
		*r.Upload, r.Failed = before, ""
		return err
	}
	o.snapshotStale.add(outcome.Stale, r.ID, r.scope(), &shown, o.now)
	return nil
}

// viewOf returns the snapshot of a record that may be nil.
func (o *op) viewOf(r *snapshotRecord) Snapshot {
	if r == nil {
		return Snapshot{}
	}
	return r.view(o.now)
}

// failure returns why a snapshot with these blocks fails, "" if it does not. The real cloud was
// seen to accept a wrong checksum; that it treats a wrong count in the same way is an assumption.
func (s Seal) failure(count int64, sum [sha256.Size]byte) string {
	switch {
	case s.Count != count:
		return "The number of changed blocks is " + strconv.FormatInt(count, 10) + ", not " + strconv.FormatInt(s.Count, 10)
	case s.Sum != nil && *s.Sum != sum:
		return "The checksum of the changed blocks does not match"
	}
	return ""
}
