package state

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
)

// Images lists the caller's images, those shared with it and the public ones;
// deprecated ones too.
func (c *Cloud) Images(caller Caller) []Image {
	o := c.begin()
	defer o.end()
	all := listed(c.db.Images,
		func(r *imageRecord) bool { return r.visible(caller) },
		func(r *imageRecord) Image { return r.view(o.now) })
	return c.imagePasts.told(all, caller, o.now)
}

func (r *imageRecord) visible(caller Caller) bool {
	return r.Region == caller.Region && (r.Account == caller.Account || r.Launch.allow(caller.Account))
}

// image returns an image that the caller can see and that changing calls know.
func (o *op) image(caller Caller, id string) (*imageRecord, error) {
	r, err := o.anyImage(caller, id)
	if err == nil {
		err = o.imagePasts.unborn("image", id, caller, string(ImagePending))
	}
	return r, err
}

// anyImage returns an image that the caller can see.
func (o *op) anyImage(caller Caller, id string) (*imageRecord, error) {
	return found(o.db.Images, imagePrefix, "image", id, func(r *imageRecord) bool { return r.visible(caller) })
}

// ownImage finds an image that the caller may change.
func (o *op) ownImage(caller Caller, id string) (*imageRecord, error) {
	r, err := o.image(caller, id)
	if err != nil {
		return nil, err
	}
	return r, owned(r, caller, "image")
}

// CreateImage makes an image of completed snapshots that the caller may use.
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
	var fate Fate
	if !req.Imported {
		fate = o.fate(ActRegisterImage)
	}
	r.Ready, r.Failed = fate.ready(o.now, o.timing.ImageCreate), fate.failed()
	c.imagePasts.keep(fate.Stale, r.ID, caller, nil, o.now)
	c.db.Images[r.ID] = r
	if err := o.save(); err != nil {
		delete(c.db.Images, r.ID)
		return Image{}, err
	}
	return r.view(o.now), nil
}

// snapshotClaims keep an image's snapshots from being deleted meanwhile.
func snapshotClaims(mappings []Mapping) []claim {
	var out []claim
	for _, m := range mappings {
		if m.Volume != nil {
			out = append(out, reading(m.Volume.SnapshotID))
		}
	}
	return out
}

// newImage makes the record that a request asks for.
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
	attributes.Architecture = either(attributes.Architecture, "x86_64")
	attributes.Virtualization = either(attributes.Virtualization, "hvm")
	return &imageRecord{
		Image: Image{
			ID: req.ID, Region: caller.Region, Account: caller.Account,
			Name: req.Name, Description: req.Description, Created: o.now,
			Mappings: mappings, Tags: maps.Clone(req.Tags), ImageAttributes: attributes,
		},
	}, nil
}

// imageNames are the names that EC2 takes (API reference of RegisterImage), of
// which Outscale's are a part.
var imageNames = regexp.MustCompile(`^[a-zA-Z0-9()\[\]. /'@_-]{3,128}$`)

// imageName refuses a name that cannot be one, and one that the account has.
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
		if r.place() == caller && r.Name == name {
			return refuse(Duplicate, "image", name, "%s has this name", id)
		}
	}
	if id := o.formerImage(caller, func(i Image) bool { return i.Name == name }); id != "" {
		return refuse(Duplicate, "image", name, "%s has this name", id)
	}
	return nil
}

// formerImage returns the id of a deleted image that changing calls still see, if that is a
// reason to refuse; "" otherwise.
func (o *op) formerImage(caller Caller, reason func(Image) bool) string {
	for _, id := range slices.Sorted(maps.Keys(o.imagePasts)) {
		if _, stale := o.imagePasts.former(id, caller, reason); stale {
			return id
		}
	}
	return ""
}

// imageID refuses an id asked for that is taken or cannot be one.
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

// mappings completes the mappings asked for.
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

// completeVolume fills in what the mapped volume has from its snapshot and type.
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
		v.Encrypted, v.KMSKeyID = s.Encrypted, either(v.KMSKeyID, s.KMSKeyID)
	}
	if v.SizeGiB == 0 {
		return refuse(Missing, "size", m.Device, "a mapping needs a snapshot or a size")
	}
	p, err := performance{v.Type, v.SizeGiB, v.IOPS, v.Throughput}.complete()
	if err != nil {
		return err
	}
	v.Type = p.Type
	if volumeKinds[p.Type].provisioned {
		v.IOPS, v.Throughput = p.IOPS, p.Throughput
	}
	v.KMSKeyID, err = o.encryptionKey(caller, v.Encrypted, v.KMSKeyID)
	return err
}

// hasRoot refuses mappings among which the root device is not a volume.
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

// CopyImage copies an available image that the caller can see in the source
// region, with its snapshots, into the caller's region. Who may launch it, its
// deprecation and its protection are not copied.
func (c *Cloud) CopyImage(caller Caller, req ImageCopyRequest) (Image, error) {
	t := ticketFor(caller, "CopyImage", req.Token, req)
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
	fate := o.fate(ActCopyImage)
	r.Failed = either(r.Failed, fate.failed())
	c.imagePasts.keep(fate.Stale, r.ID, caller, nil, o.now)
	for _, made := range copies {
		c.snapshotPasts.keep(Stale{Changes: fate.Stale.Changes}, made.to.ID, caller, nil, o.now)
	}
	if err := o.produceCopy(r, copies, t, fate); err != nil {
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

// imageSource finds the image to be copied, and refuses a copy that cannot be.
func (o *op) imageSource(caller Caller, req ImageCopyRequest) (*imageRecord, error) {
	if err := o.imageName(caller, req.Name); err != nil {
		return nil, err
	}
	there := Caller{caller.Account, either(req.SourceRegion, caller.Region)}
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

// readable tells whether a caller may use all snapshots of an image.
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

// newCopy is the record of a copy, its mappings still the source's.
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

// snapshotCopy is one snapshot that is copied along with an image.
type snapshotCopy struct {
	to     *snapshotRecord
	source string
}

// copyMappings points the copy's mappings to new snapshots, and answers those.
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
			copies = append(copies, snapshotCopy{to, from.ID})
			m.Volume.SnapshotID, m.Volume.Encrypted, m.Volume.KMSKeyID = to.ID, s.Encrypted, s.KMSKeyID
		} else if m.Volume.Encrypted { // blank: by a key of where it goes to
			m.Volume.KMSKeyID = KeyARN(caller, either(req.KMSKeyID, o.defaultKey(caller)))
		}
	}
	return copies
}

// copiedFor describes a snapshot that is made with the copy of an image, as EC2 does: it
// is all that says so while the image is pending.
func copiedFor(image, source, snapshot string, now time.Time) string {
	return fmt.Sprintf("Copied for DestinationAmi %s from SourceAmi %s for SourceSnapshot %s. Task created on %d.", image, source, snapshot, now.UnixMilli())
}

// produceCopy makes the snapshots' bytes and enters them and the image. When one
// fails, all go again.
func (o *op) produceCopy(r *imageRecord, copies []snapshotCopy, t ticket, fate Fate) error {
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
	err := produce(o, o.db.Images, r, t, making{
		bytes: fate.bytes(func() error {
			for _, c := range copies {
				if err := o.disks.CopySnapshot(c.to.ID, c.source); err != nil {
					return err
				}
				done++
			}
			return nil
		}),
		undo: undo,
		done: func() { o.copied(r, copies, fate) },
	})
	if err != nil {
		_ = o.bytes(undo)
		for _, c := range copies {
			delete(o.db.Snapshots, c.to.ID)
		}
		_ = o.save() // the first error tells more
	}
	return err
}

// copied sets when the copies are complete, and the image with the last of them.
func (o *op) copied(r *imageRecord, copies []snapshotCopy, fate Fate) {
	r.Ready = o.now.Add(o.timing.ImageCreate)
	for _, c := range copies {
		c.to.Work = noWork
		c.to.Ready = o.now.Add(o.timing.copy(o.written(c.to.ID, c.to.SizeGiB)))
		if c.to.Ready.After(r.Ready) {
			r.Ready = c.to.Ready
		}
	}
	if fate.Ending == NeverEnds {
		r.Ready = fate.ready(o.now, 0)
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
	c.imagePasts.keep(o.fate(ActDeleteImage).Stale, id, caller, &before, o.now)
	delete(c.db.Images, r.ID)
	return o.save()
}

// deletable refuses an image that is protected, or was until a short while ago.
func (r *imageRecord) deletable(now time.Time) error {
	switch {
	case either(r.Protection, Unprotected) != Unprotected:
		return refuse(Protected, "image", r.ID, "its deregistration protection is %s", r.Protection)
	case now.Before(r.ProtectedUntil):
		return refuse(Protected, "image", r.ID, "the cooldown of its deregistration protection lasts until %s",
			r.ProtectedUntil.UTC().Format(time.RFC3339))
	}
	return nil
}

// protectionCooldown is for how long an image stays protected whose protection was
// to have one (API reference of EnableImageDeregistrationProtection).
const protectionCooldown = 24 * time.Hour

// ProtectImage sets whether an image may be deleted. A protection with a cooldown
// that is taken away holds for a day more.
func (c *Cloud) ProtectImage(caller Caller, id string, p Protection, dry bool) (Image, error) {
	return c.UpdateImage(caller, id, func(i *Image) error {
		if p == Unprotected && i.Protection == ProtectedWithCooldown {
			i.ProtectedUntil = c.clock().Add(protectionCooldown)
		}
		i.Protection = p
		return nil
	}, dry)
}

// ShareImage changes who may launch an image.
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

// shareable refuses what EC2 refuses of encrypted images: to be public, and to be shared
// if AWS manages the key of a snapshot.
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

// UpdateImage lets change alter a copy of the image, and takes over the copy's
// description, deprecation, protection, whether it is disabled, and attributes.
// What else it alters is dropped; an error of change is answered as it is, and
// nothing changes. One that is disabled is shared with nobody any more.
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
