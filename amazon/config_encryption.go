//go:generate packer-sdc struct-markdown
package amazon

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/hashicorp/packer-plugin-sdk/template/config"
)

// EncryptionConfig holds the options for encrypting the image and its copies.
type EncryptionConfig struct {
	// Encrypt the volume that the AMI is built on, and so the root of the AMI, without a
	// copy at the end. `false` keeps the encryption of the source AMI. Defaults to `false`,
	// or to `true` if `root_volume_kms_key_id` is set.
	RootVolumeEncryptBoot config.Trilean `mapstructure:"root_volume_encrypt_boot"`
	// The KMS key for `root_volume_encrypt_boot`: an ID, an alias such as `alias/images`,
	// or an ARN of either. Defaults to the key of the source AMI's root volume if that
	// volume is encrypted and belongs to the account, otherwise to the region's default key
	// for EBS. With `encrypt_boot`, the AMI has the key of `encrypt_boot` instead. A shared
	// AMI needs a customer managed key: see [Sharing](#sharing). It is an error if
	// `root_volume_encrypt_boot` is `false`, or if the key belongs to another region.
	RootVolumeKMSKeyID string `mapstructure:"root_volume_kms_key_id"`
	// Encrypt every volume of the AMI, in every region, whatever its block device mapping
	// says. The whole AMI is copied once in two cases: if a volume other than the root has
	// a snapshot that is not known to be encrypted with the same key (set by its ID or
	// ARN), or if the source AMI is encrypted and `kms_key_id` is not set. EC2 accepts no
	// key for blank volumes: they are encrypted with the default key for EBS. Defaults to
	// `false`: the source AMI and the mappings decide which volumes are encrypted.
	EncryptBoot config.Trilean `mapstructure:"encrypt_boot"`
	// The KMS key for `encrypt_boot` in the region of the build: an ID, an alias such as
	// `alias/images`, or an ARN of either. Copies in other regions are encrypted with the
	// default key of their region, unless `region_kms_key_ids` sets another. Defaults to
	// the region's default key for EBS, even if the source AMI is encrypted with another
	// key. A shared AMI needs a customer managed key. It is an error without
	// `encrypt_boot`, or if the key belongs to another region.
	KMSKeyID string `mapstructure:"kms_key_id"`
	// The KMS keys for copies, as a map from regions to keys. An empty key means the
	// region's default key. By default the copies are encrypted with their region's default
	// key. Requires `encrypt_boot`. The regions must be the same as in `ami_regions`. A key
	// for the region of the build takes precedence over `kms_key_id`.
	RegionKMSKeyIDs map[string]string `mapstructure:"region_kms_key_ids"`
}

// encryptionWarnings names the keys that encrypt_boot replaces with its own.
func (c *Config) encryptionWarnings() []string {
	if !c.EncryptBoot.True() {
		return nil
	}
	var warnings []string
	warn := func(option, key string) {
		if key != "" && key != c.KMSKeyID {
			warnings = append(warnings, fmt.Sprintf(
				"%s is %q, but encrypt_boot encrypts every volume with kms_key_id, which is %q (empty is the region's default key)", option, key, c.KMSKeyID))
		}
	}
	warn("root_volume_kms_key_id", c.RootVolumeKMSKeyID)
	for i, device := range c.AMIBlockDeviceMappings {
		warn(fmt.Sprintf("%s[%d]: kms_key_id", mappingsOption, i), device.KMSKeyID)
	}
	return warnings
}

// keyID and keyARN are the forms of a KMS key.
// Source: KmsKeyId in https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopyImage.html
var (
	keyID  = regexp.MustCompile(`^((mrk-)?[a-f0-9]+[a-f0-9-]+|alias/[a-zA-Z0-9:/_-]+)$`)
	keyARN = regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]*):[0-9]{12}:(key/(mrk-)?[a-f0-9]+[a-f0-9-]+|alias/[a-zA-Z0-9:/_-]+)$`)
)

// checkKey returns an error if a key that was given as option has no form of a key, or is that of
// another region. An empty region is not known yet: Publication checks again with the region of
// the client, which may come from a profile, the environment or the instance.
func checkKey(option, key, region string) error {
	if key != "" && !keyID.MatchString(key) && !keyARN.MatchString(key) {
		return fmt.Errorf("%s is %q, but must be the id of a KMS key, an alias such as alias/images, or an ARN of either", option, key)
	}
	return checkKeyRegion(option, key, region)
}

// checkKeyRegion returns an error if a key is an ARN of another region.
func checkKeyRegion(option, key, region string) error {
	arn := keyARN.FindStringSubmatch(key)
	if arn == nil || arn[1] == "" || region == "" || arn[1] == region {
		return nil
	}
	return fmt.Errorf("%s is a key of region %s, but is needed in %s", option, arn[1], region)
}

func (c *Config) checkEncryption() []error {
	errs := []error{
		checkKey("root_volume_kms_key_id", c.RootVolumeKMSKeyID, c.Region),
		checkKey("kms_key_id", c.KMSKeyID, c.Region),
	}
	if c.RootVolumeKMSKeyID != "" && c.RootVolumeEncryptBoot.False() {
		errs = append(errs, errors.New("root_volume_kms_key_id needs root_volume_encrypt_boot, which is false"))
	}
	if c.KMSKeyID != "" && !c.EncryptBoot.True() {
		errs = append(errs, errors.New("kms_key_id needs encrypt_boot"))
	}
	return append(errs, c.checkRegionKeys()...)
}

// checkRegionKeys wants a key for each region, and a region for each key.
func (c *Config) checkRegionKeys() []error {
	if len(c.RegionKMSKeyIDs) == 0 {
		return nil
	}
	var errs []error
	for _, region := range slices.Sorted(maps.Keys(c.RegionKMSKeyIDs)) {
		if !slices.Contains(c.AMIRegions, region) {
			errs = append(errs, fmt.Errorf("region_kms_key_ids has %s, which is not in ami_regions", region))
		}
		errs = append(errs, checkKey(fmt.Sprintf("region_kms_key_ids[%q]", region), c.RegionKMSKeyIDs[region], region))
	}
	for _, region := range c.regions() {
		if _, known := c.RegionKMSKeyIDs[region]; !known {
			errs = append(errs, fmt.Errorf("ami_regions has %s, which is not in region_kms_key_ids", region))
		}
	}
	if slices.ContainsFunc(slices.Collect(maps.Values(c.RegionKMSKeyIDs)), func(key string) bool { return key != "" }) && !c.EncryptBoot.True() {
		errs = append(errs, errors.New("region_kms_key_ids needs encrypt_boot"))
	}
	return errs
}

// encryptsRoot says that the build's volume is to be encrypted: a key asks for it
// as well.
func (c *Config) encryptsRoot() bool {
	return c.RootVolumeEncryptBoot.True() || c.RootVolumeKMSKeyID != ""
}
