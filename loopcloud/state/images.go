package state

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
)

// Images returns the caller's images, including deprecated ones, those shared with the caller,
// and the public ones.
func (c *Cloud) Images(caller Caller) []Image {
	o := c.begin()
	defer o.end()
	all := listed(c.db.Images,
		func(r *imageRecord) bool { return r.visible(caller) },
		func(r *imageRecord) Image { return r.view(o.now) })
	return c.imageStale.list(all, caller, o.now)
}

func (r *imageRecord) visible(caller Caller) bool {
	return r.Region == caller.Region && (r.Account == caller.Account || r.Launch.allow(caller.Account))
}

// image returns an image that the caller and its changing calls can see.
func (o *op) image(caller Caller, id string) (*imageRecord, error) {
	r, err := o.anyImage(caller, id)
	if err == nil {
		err = o.imageStale.checkCreated("image", id, caller, string(ImagePending))
	}
	return r, err
}

// anyImage returns an image that the caller can see.
func (o *op) anyImage(caller Caller, id string) (*imageRecord, error) {
	return found(o.db.Images, imagePrefix, "image", id, func(r *imageRecord) bool { return r.visible(caller) })
}

// ownImage returns an image that the caller may change.
func (o *op) ownImage(caller Caller, id string) (*imageRecord, error) {
	r, err := o.image(caller, id)
	if err != nil {
		return nil, err
	}
	return r, owned(r, caller, "image")
}

// CreateImage creates an image of completed snapshots that the caller may use.
func (c *Cloud) CreateImage(caller Caller, req ImageRequest) (Image, error) {
	o := c.begin(snapshotClaims(req.Mappings)...)
	defer o.end()
	r, err := o.newImage(caller, req)
	if err == nil {
		err = checkTags(req.Tags)
	}
	if err != nil {
		return Image{}, err
	}
	if req.DryRun {
		return Image{}, dryRun("image", "")
	}
	if r.ID == "" {
		r.ID = o.freshID(imagePrefix, req.IDDigits)
	}
	var outcome Outcome
	if !req.Imported {
		outcome = o.outcome(ActRegisterImage)
	}
	r.Ready, r.Failed = outcome.ready(o.now, o.timing.ImageCreate), outcome.failed()
	c.imageStale.add(outcome.Stale, r.ID, caller, nil, o.now)
	c.db.Images[r.ID] = r
	if err := o.save(); err != nil {
		delete(c.db.Images, r.ID)
		return Image{}, err
	}
	return r.view(o.now), nil
}

// snapshotClaims returns claims that prevent the deletion of an image's snapshots.
func snapshotClaims(mappings []Mapping) []claim {
	var out []claim
	for _, m := range mappings {
		if m.Volume != nil {
			out = append(out, reading(m.Volume.SnapshotID))
		}
	}
	return out
}

// newImage returns the record of a requested image.
func (o *op) newImage(caller Caller, req ImageRequest) (*imageRecord, error) {
	if err := o.imageName(caller, req.Name); err != nil {
		return nil, err
	}
	if err := o.imageID(req.ID); err != nil {
		return nil, err
	}
	mappings, err := o.mappings(caller, req.Mappings)
	if err != nil {
		return nil, err
	}
	if err := hasRoot(mappings, req.Attributes.RootDevice); err != nil {
		return nil, err
	}
	attributes := req.Attributes
	attributes.Architecture = cmp.Or(attributes.Architecture, "x86_64")
	attributes.Virtualization = cmp.Or(attributes.Virtualization, "hvm")
	return &imageRecord{
		Image: Image{
			ID: req.ID, Region: caller.Region, Account: caller.Account,
			Name: req.Name, Description: req.Description, Created: o.now,
			Mappings: mappings, Tags: maps.Clone(req.Tags), ImageAttributes: attributes,
		},
	}, nil
}

// imageNames matches the names that EC2 allows (API reference of RegisterImage). They include
// those that Outscale allows.
var imageNames = regexp.MustCompile(`^[a-zA-Z0-9()\[\]. /'@_-]{3,128}$`)

// imageName returns an error if a name is invalid or the account already has it.
func (o *op) imageName(caller Caller, name string) error {
	if err := o.inRegion(caller); err != nil {
		return err
	}
	if name == "" {
		return refuse(Missing, "name", "", "an image needs a name")
	}
	if !imageNames.MatchString(name) {
		return refuse(InvalidValue, "name", name, "an image's name has 3 to 128 letters, digits, spaces and ()[]./-'@_")
	}
	for id, r := range o.db.Images {
		if r.scope() == caller && r.Name == name {
			return refuse(Duplicate, "image", name, "%s has this name", id)
		}
	}
	if id := o.outdatedImage(caller, func(i Image) bool { return i.Name == name }); id != "" {
		return refuse(Duplicate, "image", name, "%s has this name", id)
	}
	return nil
}

// outdatedImage returns the ID of a deleted image that changing calls still see, if it is a
// reason to refuse; "" otherwise.
func (o *op) outdatedImage(caller Caller, reason func(Image) bool) string {
	for _, id := range slices.Sorted(maps.Keys(o.imageStale)) {
		if _, stale := o.imageStale.outdated(id, caller, reason); stale {
			return id
		}
	}
	return ""
}

// imageID returns an error if a requested ID is invalid or in use.
func (o *op) imageID(id string) error {
	if id == "" {
		return nil
	}
	if err := checkID(imagePrefix, "image", id); err != nil {
		return err
	}
	if o.db.has(id) {
		return refuse(Duplicate, "image", id, "it exists")
	}
	return nil
}

// mappings returns the requested block devices with all values filled in.
func (o *op) mappings(caller Caller, in []Mapping) ([]Mapping, error) {
	out := cloneMappings(in)
	seen := map[string]bool{}
	for i := range out {
		m := &out[i]
		if m.Device == "" {
			return nil, refuse(Missing, "device", "", "a mapping needs a device name")
		}
		if seen[m.Device] {
			return nil, refuse(InvalidValue, "device", m.Device, "it is mapped twice")
		}
		seen[m.Device] = true
		if err := o.completeMapping(caller, m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (o *op) completeMapping(caller Caller, m *Mapping) error {
	said := 0
	for _, is := range []bool{m.Volume != nil, m.VirtualName != "", m.NoDevice} {
		if is {
			said++
		}
	}
	if said != 1 {
		return refuse(InvalidValue, "device", m.Device, "it must be mapped to a volume, a virtual device or no device")
	}
	if m.Volume == nil {
		return nil
	}
	return o.completeVolume(caller, m)
}

// completeVolume fills in the values that follow from the snapshot and the volume type.
func (o *op) completeVolume(caller Caller, m *Mapping) error {
	v := m.Volume
	if v.SnapshotID != "" {
		s, err := o.usableSnapshot(caller, v.SnapshotID)
		if err != nil {
			return err
		}
		if v.SizeGiB, err = sizeFrom(s, v.SizeGiB); err != nil {
			return err
		}
		if v.Encrypted && !s.Encrypted {
			return refuse(InvalidValue, "device", m.Device, "%s is not encrypted", s.ID)
		}
		v.Encrypted, v.KMSKeyID = s.Encrypted, cmp.Or(v.KMSKeyID, s.KMSKeyID)
	}
	if v.SizeGiB == 0 {
		return refuse(Missing, "size", m.Device, "a mapping needs a snapshot or a size")
	}
	p, err := performance{v.Type, v.SizeGiB, v.IOPS, v.Throughput}.complete()
	if err != nil {
		return err
	}
	v.Type = p.Type
	if volumeTypes[p.Type].provisioned {
		v.IOPS, v.Throughput = p.IOPS, p.Throughput
	}
	v.KMSKeyID, err = o.encryptionKey(caller, v.Encrypted, v.KMSKeyID)
	return err
}

// hasRoot returns an error if the root device is not among the volumes.
func hasRoot(mappings []Mapping, root string) error {
	if root == "" {
		return refuse(Missing, "device", "", "no root device name was given")
	}
	isRoot := func(m Mapping) bool { return m.Device == root && m.Volume != nil }
	if !slices.ContainsFunc(mappings, isRoot) {
		return refuse(InvalidValue, "device", root, "the root device is mapped to no volume")
	}
	return nil
}

// CopyImage copies an available image that the caller can see in the source region, with its
// snapshots, into the caller's region. Launch permissions, deprecation and protection are not
// copied.
func (c *Cloud) CopyImage(caller Caller, req ImageCopyRequest) (Image, error) {
	t := clientTokenOf(caller, "CopyImage", req.Token, req)
	o := c.begin(t.claim(), reading(req.SourceID))
	defer o.end()
	if ids, err := o.repeated(t); err != nil || ids != nil {
		return o.imageAgain(caller, ids, err)
	}
	req.Encrypted = req.Encrypted || req.Defaults && o.settings(caller).EncryptByDefault
	source, err := o.imageSource(caller, req)
	if err == nil {
		err = errors.Join(checkTags(req.Tags), checkTags(req.SnapshotTags))
	}
	if err != nil {
		return Image{}, err
	}
	if req.DryRun {
		return Image{}, dryRun("image", "")
	}
	r := o.newCopy(caller, req, source)
	copies := o.copyMappings(caller, req, source, r)
	outcome := o.outcome(ActCopyImage)
	r.Failed = cmp.Or(r.Failed, outcome.failed())
	c.imageStale.add(outcome.Stale, r.ID, caller, nil, o.now)
	for _, made := range copies {
		c.snapshotStale.add(Stale{Changes: outcome.Stale.Changes}, made.to.ID, caller, nil, o.now)
	}
	if err := o.produceCopy(r, copies, t, outcome); err != nil {
		return Image{}, fmt.Errorf("cannot copy %s to %s: %w", source.ID, r.ID, err)
	}
	return r.view(o.now), nil
}

func (o *op) imageAgain(caller Caller, ids []string, err error) (Image, error) {
	if err != nil {
		return Image{}, err
	}
	r, err := o.anyImage(caller, ids[0])
	if err != nil {
		return Image{}, err
	}
	return r.view(o.now), nil
}

// imageSource returns the image to copy, or an error if it cannot be copied.
func (o *op) imageSource(caller Caller, req ImageCopyRequest) (*imageRecord, error) {
	if err := o.imageName(caller, req.Name); err != nil {
		return nil, err
	}
	there := Caller{caller.Account, cmp.Or(req.SourceRegion, caller.Region)}
	if err := o.inRegion(there); err != nil {
		return nil, err
	}
	source, err := o.image(there, req.SourceID)
	if err != nil {
		return nil, err
	}
	if s := source.view(o.now).State; s != ImageAvailable {
		return nil, refuse(WrongState, "image", source.ID, "it is %s", s)
	}
	if req.Readable && !o.readable(there, source) {
		return nil, refuse(Unreadable, "image", source.ID, "You do not have permission to access the storage of this ami")
	}
	if _, err := o.encryptionKey(caller, req.Encrypted || source.encrypted(), req.KMSKeyID); err != nil {
		return nil, err
	}
	return source, nil
}

// readable reports whether a caller may use all snapshots of an image.
func (o *op) readable(caller Caller, r *imageRecord) bool {
	return !slices.ContainsFunc(r.Mappings, func(m Mapping) bool {
		if m.Volume == nil {
			return false
		}
		s := o.db.Snapshots[m.Volume.SnapshotID]
		return s != nil && !s.visible(caller)
	})
}

func (r *imageRecord) encrypted() bool {
	return slices.ContainsFunc(r.Mappings, func(m Mapping) bool { return m.Volume != nil && m.Volume.Encrypted })
}

// newCopy returns the record of a copy. Its mappings are still those of the source.
func (o *op) newCopy(caller Caller, req ImageCopyRequest, source *imageRecord) *imageRecord {
	r := &imageRecord{Image: source.view(o.now), Ready: o.now}
	r.ID = o.freshID(imagePrefix, req.IDDigits)
	o.take(writing(r.ID))
	r.Region, r.Account, r.Created = caller.Region, caller.Account, o.now
	r.Name, r.Description = req.Name, req.Description
	r.SourceImageID, r.SourceRegion = source.ID, source.Region
	r.Launch, r.Deprecated, r.LastLaunched = Permissions{}, time.Time{}, time.Time{}
	r.Protection, r.ProtectedUntil = Unprotected, time.Time{}
	r.Tags = map[string]string{}
	if req.CopyTags && source.Account == caller.Account { // only the owner's tags are copied
		maps.Copy(r.Tags, source.Tags)
	}
	maps.Copy(r.Tags, req.Tags)
	return r
}

// snapshotCopy is a snapshot that is copied with an image.
type snapshotCopy struct {
	to     *snapshotRecord
	source string
}

// copyMappings points the copy's mappings to new snapshots, and returns these.
func (o *op) copyMappings(caller Caller, req ImageCopyRequest, source, r *imageRecord) []snapshotCopy {
	var copies []snapshotCopy
	for _, m := range r.Mappings {
		if m.Volume == nil {
			continue
		}
		if from := o.db.Snapshots[m.Volume.SnapshotID]; from != nil {
			s, failed := o.copyOf(from, caller, req.Encrypted, req.KMSKeyID)
			s.Description = copiedFor(r.ID, source.ID, from.ID, o.now)
			s.Tags = req.SnapshotTags
			to := o.newSnapshot(caller, req.IDDigits, s)
			to.Failed, r.Failed = failed, failed
			to.Lineage, to.Distorted = to.ID, from.Distorted
			copies = append(copies, snapshotCopy{to, from.ID})
			m.Volume.SnapshotID, m.Volume.Encrypted, m.Volume.KMSKeyID = to.ID, s.Encrypted, s.KMSKeyID
		} else if m.Volume.Encrypted { // blank: encrypted with a key of the target region
			m.Volume.KMSKeyID = KeyARN(caller, cmp.Or(req.KMSKeyID, o.defaultKey(caller)))
		}
	}
	return copies
}

// copiedFor returns the description of a snapshot that was copied with an image, as EC2 sets it.
// Only the description connects the two while the image is pending.
func copiedFor(image, source, snapshot string, now time.Time) string {
	return fmt.Sprintf("Copied for DestinationAmi %s from SourceAmi %s for SourceSnapshot %s. Task created on %d.", image, source, snapshot, now.UnixMilli())
}

// produceCopy creates the snapshots' data and records the snapshots and the image. If one fails,
// all are removed.
func (o *op) produceCopy(r *imageRecord, copies []snapshotCopy, t clientToken, outcome Outcome) error {
	done := 0
	undo := func() error {
		for _, c := range copies[:done] {
			_ = o.disks.DeleteSnapshot(c.to.ID)
		}
		return nil
	}
	for _, c := range copies {
		c.to.Work = creating
		o.db.Snapshots[c.to.ID] = c.to
	}
	err := produce(o, o.db.Images, r, t, creation{
		bytes: outcome.bytes(func() error {
			for _, c := range copies {
				if err := o.disks.CopySnapshot(c.to.ID, c.source); err != nil {
					return err
				}
				done++
			}
			return nil
		}),
		undo: undo,
		done: func() { o.copied(r, copies, outcome) },
	})
	if err != nil {
		_ = o.bytes(undo)
		for _, c := range copies {
			delete(o.db.Snapshots, c.to.ID)
		}
		_ = o.save() // the first error is more informative
	}
	return err
}

// copied sets the times at which the copies are complete, and the image with the last of them.
func (o *op) copied(r *imageRecord, copies []snapshotCopy, outcome Outcome) {
	r.Ready = o.now.Add(o.timing.ImageCreate)
	for _, c := range copies {
		c.to.Work = noWork
		c.to.Ready = o.now.Add(o.timing.copy(o.written(c.to.ID, c.to.SizeGiB)))
		if c.to.Ready.After(r.Ready) {
			r.Ready = c.to.Ready
		}
	}
	if outcome.Ending == NeverEnds {
		r.Ready = outcome.ready(o.now, 0)
	}
}

// DeleteImage removes an image. Its snapshots stay.
func (c *Cloud) DeleteImage(caller Caller, id string, dry bool) error {
	o := c.begin(writing(id))
	defer o.end()
	r, err := o.ownImage(caller, id)
	if err != nil {
		return err
	}
	if err := r.deletable(o.now); err != nil {
		return err
	}
	if dry {
		return dryRun("image", id)
	}
	before := r.view(o.now)
	c.imageStale.add(o.outcome(ActDeleteImage).Stale, id, caller, &before, o.now)
	delete(c.db.Images, r.ID)
	return o.save()
}

// deletable returns an error if an image is protected or was protected until recently.
func (r *imageRecord) deletable(now time.Time) error {
	switch {
	case cmp.Or(r.Protection, Unprotected) != Unprotected:
		return refuse(Protected, "image", r.ID, "its deregistration protection is %s", r.Protection)
	case now.Before(r.ProtectedUntil):
		return refuse(Protected, "image", r.ID, "the cooldown of its deregistration protection lasts until %s",
			r.ProtectedUntil.UTC().Format(time.RFC3339))
	}
	return nil
}

// protectionCooldown is how long an image stays protected after a protection with a cooldown was
// disabled (API reference of EnableImageDeregistrationProtection).
const protectionCooldown = 24 * time.Hour

// ProtectImage sets the protection of an image from deletion. Disabling a protection with a
// cooldown takes effect after a day.
func (c *Cloud) ProtectImage(caller Caller, id string, p Protection, dry bool) (Image, error) {
	return c.UpdateImage(caller, id, func(i *Image) error {
		if p == Unprotected && i.Protection == ProtectedWithCooldown {
			i.ProtectedUntil = c.clock().Add(protectionCooldown)
		}
		i.Protection = p
		return nil
	}, dry)
}

// ShareImage changes an image's launch permissions.
func (c *Cloud) ShareImage(caller Caller, id string, ch PermissionChange, dry bool) (Image, error) {
	o := c.begin(writing(id))
	defer o.end()
	r, err := o.ownImage(caller, id)
	if err != nil {
		return Image{}, err
	}
	next, err := r.Launch.changed(ch)
	if err != nil {
		return Image{}, err
	}
	if err := o.shareable(r, next); err != nil {
		return Image{}, err
	}
	if dry {
		return Image{}, dryRun("image", id)
	}
	r.Launch = next
	return r.view(o.now), o.save()
}

// shareable returns an error if EC2 does not let an encrypted image be shared: it cannot be
// public, and it cannot be shared if AWS manages the key of a snapshot.
func (o *op) shareable(r *imageRecord, p Permissions) error {
	if p.Public && r.encrypted() {
		return refuse(Secret, "image", r.ID, "Encrypted snapshots can't be shared publicly. Specify another snapshot.")
	}
	if len(p.Accounts)+len(p.Organizations)+len(p.OrganizationalUnits) == 0 {
		return nil
	}
	for _, m := range r.Mappings {
		if m.Volume == nil {
			continue
		}
		if s := o.db.Snapshots[m.Volume.SnapshotID]; s != nil && Managed(s.KMSKeyID) {
			return refuse(Unshareable, "image", r.ID, "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another snapshot.")
		}
	}
	return nil
}

// UpdateImage calls change with a copy of the image, and stores the copy's description,
// deprecation, protection, disabled flag and attributes. It ignores other changes. An error of
// change is returned as it is, and nothing changes. A disabled image is no longer shared.
func (c *Cloud) UpdateImage(caller Caller, id string, change func(*Image) error, dry bool) (Image, error) {
	o := c.begin(writing(id))
	defer o.end()
	r, err := o.ownImage(caller, id)
	if err != nil {
		return Image{}, err
	}
	next := r.view(o.now)
	if err := change(&next); err != nil {
		return Image{}, err
	}
	if dry {
		return Image{}, dryRun("image", id)
	}
	r.Description, r.Deprecated, r.ImageAttributes = next.Description, next.Deprecated, next.ImageAttributes
	r.Protection, r.ProtectedUntil, r.Disabled = next.Protection, next.ProtectedUntil, next.Disabled
	if r.Disabled {
		r.Launch = Permissions{}
	}
	return r.view(o.now), o.save()
}
