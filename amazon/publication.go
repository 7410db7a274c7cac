package amazon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Publication decides where the image is copied to, and refuses what EC2 would
// refuse, or ignore, after all the work.
func (c *Cloud) Publication(ctx context.Context, facts bake.Facts) (bake.Publication, error) {
	plan := c.planOf(facts)
	if err := cmp.Or(plan.fits(), plan.checkHVM()); err != nil {
		return bake.Publication{}, err
	}
	firmware, err := plan.settleFirmware(ctx)
	if err != nil {
		return bake.Publication{}, err
	}
	snapshots, err := c.givenSnapshots(ctx)
	if err != nil {
		return bake.Publication{}, err
	}
	if err := plan.checkDevices(snapshots); err != nil {
		return bake.Publication{}, err
	}
	if err := plan.checkFurther(ctx); err != nil {
		return bake.Publication{}, err
	}
	others, err := c.otherRegions(ctx)
	if err != nil {
		return bake.Publication{}, err
	}
	p, err := plan.publication(ctx, others, snapshots)
	if err != nil {
		return bake.Publication{}, err
	}
	plan.passing = p.Passing
	p.Root = plan.rootEncryption()
	decided := &decisions{firmware: firmware}
	err = plan.checkSharing(ctx, p, snapshots, decided)
	p.Details = decided
	return p, err
}

// publication returns the plan of copies. In the build's own region a copy is needed
// only if creating the root's volume does not give every volume the wanted key.
func (c imagePlan) publication(ctx context.Context, others []string, snapshots map[string]types.Snapshot) (bake.Publication, error) {
	home, skip := c.client.Region(), c.config.SkipSaveBuildRegion
	if skip && len(others) == 0 {
		return bake.Publication{}, fmt.Errorf("skip_save_build_region leaves no image at all: ami_regions has no region but %s", home)
	}
	var p bake.Publication
	if !skip && c.encryptsIn(home) && (c.keepsSourceKey() || c.leavesOtherKeys(ctx, snapshots)) {
		p.Copies = append(p.Copies, bake.Copy{Region: home, Encrypted: true, KMSKeyID: c.homeKey()})
	}
	p.Passing = skip || len(p.Copies) > 0
	p.Guarded = c.config.DeregistrationProtection.Enabled
	for _, region := range others {
		p.Copies = append(p.Copies, bake.Copy{
			Region: region, Encrypted: c.encryptsIn(region), KMSKeyID: c.config.RegionKMSKeyIDs[region],
		})
	}
	return p, nil
}

// encryptsIn tells whether all of the image is to be encrypted in a region: for
// encrypt_boot, or for a key that is given for the region.
func (c *Cloud) encryptsIn(region string) bool {
	_, keyed := c.config.RegionKMSKeyIDs[region]
	return keyed || c.config.EncryptBoot.True()
}

// encryptsAnywhere reports whether all of the image is to be encrypted in the build's
// region or in one that it is copied to.
func (c *Cloud) encryptsAnywhere() bool {
	return c.encryptsIn(c.client.Region()) || slices.ContainsFunc(c.config.regions(), c.encryptsIn)
}

// homeKey returns the key of an encrypted image in the build's own region; empty means
// the region's default key.
func (c *Cloud) homeKey() string {
	if key, given := c.config.RegionKMSKeyIDs[c.client.Region()]; given {
		return key
	}
	return c.config.KMSKeyID
}

// keepsSourceKey reports whether a volume of the source's root snapshot would have the
// source's key although the region's default key is wanted: EC2 takes the default key
// only for what was not encrypted before, and for the copy of an image.
// Source: https://docs.aws.amazon.com/ebs/latest/userguide/encryption-parameters.html
func (c imagePlan) keepsSourceKey() bool {
	source := c.source
	if source == nil || c.homeKey() != "" {
		return false
	}
	root, _ := find(mappingsOf(source), aws.ToString(source.RootDeviceName))
	return root.Encrypted
}

// wish is what the options say of the encryption of the build's volume.
type wish struct {
	encrypted bool
	// key is the key given; empty means the one that EC2 chooses.
	key string
	// cause is the option and value that asks for it, and option gives the key.
	cause, option string
}

// rootEncryption returns how the volume that the image is built on is encrypted, as far as
// the options say.
func (c imagePlan) rootEncryption() bake.Encryption {
	w := c.rootWish()
	return bake.Encryption{Encrypted: w.encrypted, KMSKeyID: w.key}
}

// rootWish returns how the volume that the image is built on is to be encrypted: its
// snapshot and the image have it from there, and EC2 takes no other word for it.
// An image that is there only to be copied is encrypted by the copying.
func (c imagePlan) rootWish() wish {
	root, _ := find(c.config.AMIBlockDeviceMappings, c.rootName())
	const option = "root_volume_kms_key_id"
	switch all := c.encryptsIn(c.client.Region()); {
	case all && !c.passing:
		return c.homeWish()
	case c.config.RootVolumeKMSKeyID != "":
		return wish{true, c.config.RootVolumeKMSKeyID, fmt.Sprintf("%s is %q", option, c.config.RootVolumeKMSKeyID), option}
	case c.config.encryptsRoot():
		return wish{true, "", "root_volume_encrypt_boot is true, and no key is given", option}
	case root.Encrypted && !all:
		return wish{true, root.KMSKeyID, fmt.Sprintf("ami_block_device_mappings has encrypted for %s, with the kms_key_id %q", root.DeviceName, root.KMSKeyID),
			"kms_key_id of " + root.DeviceName + " in ami_block_device_mappings"}
	default:
		return wish{option: option}
	}
}

// homeWish returns how the volume is to be encrypted if all of the image is.
func (c *Cloud) homeWish() wish {
	key := c.homeKey()
	option, given := c.copyKey(c.client.Region())
	if !given {
		return wish{true, key, "encrypt_boot is true, and no key is given", option}
	}
	return wish{true, key, fmt.Sprintf("%s is %q", option, key), option}
}

// leavesOtherKeys reports whether the image would have a snapshot beside its root's that
// is not encrypted, or not known to be encrypted with the wanted key.
func (c imagePlan) leavesOtherKeys(ctx context.Context, snapshots map[string]types.Snapshot) bool {
	var unread []string
	for _, m := range c.otherMappings(c.source, c.rootName()) {
		s, read := snapshots[m.SnapshotID]
		switch {
		case m.SnapshotID == "":
		case read && !sameKey(c.homeKey(), s):
			return true
		case !read && !m.Encrypted:
			return true
		case !read:
			unread = append(unread, m.SnapshotID)
		}
	}
	return len(unread) > 0 && !c.haveHomeKey(ctx, unread)
}

// haveHomeKey reports whether these snapshots are known to be encrypted with the
// wanted key. The account may not be allowed to read those of a source image.
func (c *Cloud) haveHomeKey(ctx context.Context, ids []string) bool {
	if !comparableKey(c.homeKey()) {
		return false
	}
	found, err := c.client.snapshotsAmong(ctx, ids)
	if err != nil {
		c.logf("the keys of %s are not known, so the image is copied to encrypt it: %v", strings.Join(ids, ", "), err)
		return false
	}
	same := map[string]bool{}
	for _, s := range found {
		same[aws.ToString(s.SnapshotId)] = sameKey(c.homeKey(), s)
	}
	return !slices.ContainsFunc(ids, func(id string) bool { return !same[id] })
}

// comparableKey reports whether a key is given by its id or ARN. The default key and what
// an alias stands for are not known here.
func comparableKey(key string) bool { return key != "" && !strings.Contains(key, "alias/") }

// sameKey reports whether a snapshot is known to be encrypted with a key.
func sameKey(key string, s types.Snapshot) bool {
	bare := func(key string) string { return key[strings.LastIndex(key, "/")+1:] }
	return aws.ToBool(s.Encrypted) && comparableKey(key) && bare(key) == bare(aws.ToString(s.KmsKeyId))
}

// checkHVM returns an error if an option is given that EC2 has for hvm images only, and the
// image will be paravirtual.
func (c imagePlan) checkHVM() error {
	virtualization := c.config.AMIVirtualizationType
	if virtualization == "" && c.source != nil {
		virtualization = string(c.source.VirtualizationType)
	}
	if virtualization != paravirtual {
		return nil
	}
	option := c.config.hvmOnly()
	if option == "" && c.config.BootMode != "" {
		option = "boot_mode"
	}
	if option != "" {
		return fmt.Errorf("%s is for hvm, and the image will be paravirtual", option)
	}
	return nil
}

// givenSnapshots reads the snapshots of the user's block devices.
func (c *Cloud) givenSnapshots(ctx context.Context) (map[string]types.Snapshot, error) {
	var ids []string
	for _, m := range c.config.AMIBlockDeviceMappings {
		if m.SnapshotID != "" {
			ids = append(ids, m.SnapshotID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	out, err := c.client.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: ids})
	if hasCode(err, codeSnapshotNotFound) {
		return nil, fmt.Errorf("ami_block_device_mappings: a snapshot_id is unknown in region %s, or not shared with this account: %w", c.client.Region(), err)
	}
	if err != nil {
		return nil, c.client.cannot(err, "read the snapshots of ami_block_device_mappings: %s", strings.Join(ids, ", "))
	}
	found := map[string]types.Snapshot{}
	for _, s := range out.Snapshots {
		found[aws.ToString(s.SnapshotId)] = s
	}
	return found, nil
}

// checkDevices refuses what RegisterImage would, of the user's block devices.
func (c imagePlan) checkDevices(snapshots map[string]types.Snapshot) error {
	var errs []error
	for _, m := range c.config.AMIBlockDeviceMappings {
		if sameDevice(m.DeviceName, c.rootName()) {
			continue
		}
		if err := c.checkDevice(m, snapshots); err != nil {
			errs = append(errs, fmt.Errorf("ami_block_device_mappings: %s: %w", m.DeviceName, err))
		}
	}
	return errors.Join(errs...)
}

// checkDevice checks one that is not the root. EC2 takes a key of encryption when
// an instance is started, and none for an image.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html
func (c *Cloud) checkDevice(m BlockDevice, snapshots map[string]types.Snapshot) error {
	if m.KMSKeyID != "" {
		return fmt.Errorf("kms_key_id is %q, but EC2 takes a key for an image's root device alone: without it, encrypted uses the account's default key",
			m.KMSKeyID)
	}
	if m.SnapshotID == "" {
		return nil
	}
	s, ok := snapshots[m.SnapshotID]
	switch size := number(s.VolumeSize); {
	case !ok:
		return fmt.Errorf("snapshot_id is %s: %w in region %s, or not shared with this account", m.SnapshotID, bake.ErrNotFound, c.client.Region())
	case s.State != types.SnapshotStateCompleted:
		return fmt.Errorf("snapshot_id is %s, whose state is %q, and must be completed", m.SnapshotID, s.State)
	case m.VolumeSize != 0 && m.VolumeSize < size:
		return fmt.Errorf("volume_size is %d GiB, but snapshot %s has %d GiB", m.VolumeSize, m.SnapshotID, size)
	case m.Encrypted && !aws.ToBool(s.Encrypted) && !c.encryptsIn(c.client.Region()):
		return fmt.Errorf("encrypted is set, but snapshot %s is not encrypted, and EC2 encrypts a device as its snapshot is: "+
			"copy the snapshot with encryption, or set encrypt_boot", m.SnapshotID)
	}
	return nil
}
