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
	// what names the volume or image in messages.
	what string
	// key is the key as an option or EC2 names it; empty is the region's default key, and
	// unread a key that EC2 does not name.
	key string
	// told reports whether EC2 named the key, and not an option.
	told bool
	// cause is the option or setting that encrypts it; remedy names the option of another key.
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
	requested, root := c.rootRequest(), c.sourceRoot()
	snapshot, known := read[root.SnapshotID]
	own := known && aws.ToString(snapshot.OwnerId) == c.host.Account
	s = encryptedVolume{
		region: c.client.Region(), what: "the root volume", key: requested.key, cause: requested.cause, created: true,
		remedy: fmt.Sprintf("give %s, %s", requested.option, customer),
	}
	switch {
	case requested.key != "":
	case root.Encrypted && (own || !known):
		s.key, s.told, s.cause = keyOf(snapshot.KmsKeyId), true, fmt.Sprintf("that is the key of the source's root snapshot %s, and none is given", root.SnapshotID)
	case requested.encrypted:
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

// encryptsIn reports whether all of the image is to be encrypted in a region: for
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

// keepsSourceKey reports whether a volume of the source's root snapshot would have the source's
// key although the region's default key is wanted: EC2 takes the default key only for unencrypted
// snapshots, and for the copy of an image.
// Source: https://docs.aws.amazon.com/ebs/latest/userguide/encryption-parameters.html
func (c imagePlan) keepsSourceKey() bool {
	source := c.source
	if source == nil || c.homeKey() != "" {
		return false
	}
	root, _ := find(mappingsOf(source), aws.ToString(source.RootDeviceName))
	return root.Encrypted
}

// requestedEncryption is the encryption of the build's volume as far as options ask for it.
type requestedEncryption struct {
	encrypted bool
	// key is the key given; empty means the one that EC2 chooses.
	key string
	// cause is the option and value that asks for it, and option gives the key.
	cause, option string
}

// rootEncryption returns how the volume that the image is built on is encrypted, as far as
// the options say.
func (c imagePlan) rootEncryption() bake.Encryption {
	w := c.rootRequest()
	return bake.Encryption{Encrypted: w.encrypted, KMSKeyID: w.key}
}

// rootRequest returns how the volume that the image is built on is to be encrypted: its
// snapshot and the image have it from there, and EC2 takes no other word for it.
// An image that is there only to be copied is encrypted by the copying.
func (c imagePlan) rootRequest() requestedEncryption {
	root, _ := find(c.config.AMIBlockDeviceMappings, c.rootName())
	const option = "root_volume_kms_key_id"
	switch all := c.encryptsIn(c.client.Region()); {
	case all && !c.passing:
		return c.homeRequest()
	case c.config.RootVolumeKMSKeyID != "":
		return requestedEncryption{true, c.config.RootVolumeKMSKeyID, fmt.Sprintf("%s is %q", option, c.config.RootVolumeKMSKeyID), option}
	case c.config.encryptsRoot():
		return requestedEncryption{true, "", "root_volume_encrypt_boot is true, and no key is given", option}
	case root.Encrypted && !all:
		return requestedEncryption{true, root.KMSKeyID, fmt.Sprintf("ami_block_device_mappings has encrypted for %s, with the kms_key_id %q", root.DeviceName, root.KMSKeyID),
			"kms_key_id of " + root.DeviceName + " in ami_block_device_mappings"}
	default:
		return requestedEncryption{option: option}
	}
}

// homeRequest returns how the volume is to be encrypted if all of the image is.
func (c *Cloud) homeRequest() requestedEncryption {
	key := c.homeKey()
	option, given := c.copyKey(c.client.Region())
	if !given {
		return requestedEncryption{true, key, "encrypt_boot is true, and no key is given", option}
	}
	return requestedEncryption{true, key, fmt.Sprintf("%s is %q", option, key), option}
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

// comparableKey reports whether a key is given by its ID or ARN. The keys behind the default key
// and an alias are not known here.
func comparableKey(key string) bool { return key != "" && !strings.Contains(key, "alias/") }

// sameKey reports whether a snapshot is known to be encrypted with a key.
func sameKey(key string, s types.Snapshot) bool {
	bare := func(key string) string { return key[strings.LastIndex(key, "/")+1:] }
	return aws.ToBool(s.Encrypted) && comparableKey(key) && bare(key) == bare(aws.ToString(s.KmsKeyId))
}
