package amazon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// encryptedVolume is a volume of the image, or all of those of a copy, that will be encrypted.
type encryptedVolume struct {
	region string
	// what names it in a message.
	what string
	// key is the key as an option or EC2 names it; empty is the region's default key, and
	// unread a key that EC2 does not name.
	key string
	// told reports whether EC2 named the key, and not an option.
	told bool
	// cause is what encrypts it, and remedy how it gets another key.
	cause, remedy string
	// created reports whether the build creates its snapshot; a blank volume has none.
	created, blank bool
	// later reports whether the key is known only when the volume exists.
	later bool
}

// unread stands for a key that is not known.
const unread = "unknown"

// encryptedVolumes returns the volumes of the registered image that will be encrypted, as far
// as that is known before they are made.
func (c imagePlan) encryptedVolumes(ctx context.Context, snapshots map[string]types.Snapshot) ([]encryptedVolume, error) {
	further := c.otherMappings(c.source, c.rootName())
	read, err := c.encryptedSnapshots(ctx, further, snapshots)
	if err != nil {
		return nil, err
	}
	var all []encryptedVolume
	if root, encrypted := c.encryptedRoot(ctx, read); encrypted {
		all = append(all, root)
	}
	for _, m := range further {
		if s, encrypted := c.encryptedDevice(m, read); encrypted {
			all = append(all, s)
		}
	}
	return all, nil
}

// encryptedSnapshots reads the source's encrypted snapshots, beside those of the user's
// block devices, which are read already. One that the account may not read is left out.
func (c imagePlan) encryptedSnapshots(ctx context.Context, further []BlockDevice, given map[string]types.Snapshot) (map[string]types.Snapshot, error) {
	read := map[string]types.Snapshot{}
	var ids []string
	for _, m := range append(slices.Clone(further), c.sourceRoot()) {
		s, known := given[m.SnapshotID]
		if known {
			read[m.SnapshotID] = s
		} else if m.SnapshotID != "" && m.Encrypted {
			ids = append(ids, m.SnapshotID)
		}
	}
	if len(ids) == 0 {
		return read, nil
	}
	found, err := c.client.snapshotsAmong(ctx, ids)
	if err != nil {
		return nil, c.client.cannot(err, "read the keys of the source's snapshots %s", strings.Join(ids, ", "))
	}
	for _, s := range found {
		read[aws.ToString(s.SnapshotId)] = s
	}
	return read, nil
}

// sourceRoot is the root device of the source; the zero value from scratch.
func (c imagePlan) sourceRoot() BlockDevice {
	source := c.source
	if source == nil {
		return BlockDevice{}
	}
	root, _ := find(mappingsOf(source), aws.ToString(source.RootDeviceName))
	return root
}

// encryptedRoot returns how the volume that the image is built on will be encrypted, and
// whether it will. If no key is given it has that of a snapshot of the account's own, and else the
// default key.
// Source: https://docs.aws.amazon.com/ebs/latest/userguide/encryption-parameters.html
func (c imagePlan) encryptedRoot(ctx context.Context, read map[string]types.Snapshot) (s encryptedVolume, encrypted bool) {
	wish, root := c.rootWish(), c.sourceRoot()
	snapshot, known := read[root.SnapshotID]
	own := known && aws.ToString(snapshot.OwnerId) == c.host.Account
	s = encryptedVolume{
		region: c.client.Region(), what: "the root volume", key: wish.key, cause: wish.cause, created: true,
		remedy: fmt.Sprintf("give %s, %s", wish.option, customer),
	}
	switch {
	case wish.key != "":
	case root.Encrypted && (own || !known):
		s.key, s.told, s.cause = keyOf(snapshot.KmsKeyId), true, fmt.Sprintf("that is the key of the source's root snapshot %s, and none is given", root.SnapshotID)
	case wish.encrypted:
	case root.Encrypted:
		s.cause = fmt.Sprintf("the source's root snapshot %s is encrypted, and no key is given", root.SnapshotID)
	default:
		return encryptedVolume{}, false // or it will be by default: checkVolume sees it
	}
	if s.key == "" {
		s.key = c.client.defaultKey(ctx)
		s.later = s.key == ""
	}
	return s, true
}

// byDefault is the cause if the account encrypts all new volumes in a region.
func byDefault(region string) string {
	return fmt.Sprintf("the account's setting for EBS encryption by default is on in %s, and no key is given", region)
}

// keyOf returns a key as EC2 names it, or unread.
func keyOf(told *string) string { return cmp.Or(aws.ToString(told), unread) }

// encryptedDevice returns how another device of the image will be encrypted, and whether it
// will.
func (c *Cloud) encryptedDevice(m BlockDevice, read map[string]types.Snapshot) (s encryptedVolume, encrypted bool) {
	snapshot := read[m.SnapshotID]
	if m.NoDevice || m.VirtualName != "" || !m.Encrypted && !aws.ToBool(snapshot.Encrypted) {
		return encryptedVolume{}, false
	}
	s = encryptedVolume{
		region: c.client.Region(), what: "the device " + m.DeviceName, key: keyOf(snapshot.KmsKeyId), told: true, cause: "it is so in ami_block_device_mappings, or in the source",
		remedy: "set encrypt_boot, and give kms_key_id, " + customer, blank: m.SnapshotID == "",
	}
	if !s.blank {
		s.cause = fmt.Sprintf("its snapshot %s is encrypted with it", m.SnapshotID)
	}
	return s, true
}

// encryptedCopy returns how the volumes of a copy will be encrypted, and whether any will.
func (c *Cloud) encryptedCopy(ctx context.Context, wanted bake.Copy, registered []encryptedVolume) (s encryptedVolume, encrypted bool) {
	s = encryptedVolume{region: wanted.Region, what: "the copy", key: wanted.KMSKeyID, created: true, remedy: c.copyRemedy(wanted.Region)}
	option, given := c.copyKey(wanted.Region)
	withSnapshot := slices.IndexFunc(registered, func(s encryptedVolume) bool { return !s.blank })
	switch {
	case wanted.KMSKeyID != "":
		s.cause = fmt.Sprintf("%s is %q", option, wanted.KMSKeyID)
	case wanted.Encrypted && given:
		s.cause = fmt.Sprintf("%s is empty, which is the region's default key", option)
	case wanted.Encrypted:
		s.cause = "encrypt_boot is true, and no key is given for the region"
	case withSnapshot >= 0:
		s.cause = fmt.Sprintf("the copy of what is encrypted has its region's default key if none is given for the region, and %s in %s will be encrypted (%s)",
			registered[withSnapshot].what, registered[withSnapshot].region, registered[withSnapshot].cause)
	case c.there(wanted.Region).client.encryptsByDefault(ctx):
		s.cause = byDefault(wanted.Region)
	case len(registered) > 0:
		s.blank, s.cause = true, registered[0].cause
	default:
		return encryptedVolume{}, false
	}
	return s, true
}

// copyKey returns the option of a copy's key, and reports whether it is given.
func (c *Cloud) copyKey(region string) (option string, given bool) {
	_, given = c.config.RegionKMSKeyIDs[region]
	if !given && region == c.client.Region() {
		return "kms_key_id", c.config.KMSKeyID != ""
	}
	return fmt.Sprintf("region_kms_key_ids[%q]", region), given
}

// copyRemedy returns how a copy gets a key that can be shared.
func (c *Cloud) copyRemedy(region string) string {
	option, _ := c.copyKey(region)
	if c.config.EncryptBoot.True() {
		return fmt.Sprintf("give %s, %s", option, customer)
	}
	return fmt.Sprintf("set encrypt_boot, and give kms_key_id and %s, each %s", option, customer)
}

// encryptedUnasked returns the volume that was encrypted by the account's setting. Its key is
// the default key, which GetEbsDefaultKmsKeyId names more clearly than the volume does.
func (c *Cloud) encryptedUnasked(ctx context.Context, out *ec2.CreateVolumeOutput) encryptedVolume {
	s := encryptedVolume{
		region: c.client.Region(), what: "the root volume", key: c.client.defaultKey(ctx), created: true,
		cause: byDefault(c.client.Region()), remedy: "give root_volume_kms_key_id, " + customer,
	}
	if s.key == "" {
		s.key, s.told = keyOf(out.KmsKeyId), true
	}
	return s
}
