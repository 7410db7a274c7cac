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

// EncryptionConfig is how the image and its copies are encrypted.
type EncryptionConfig struct {
	// Encrypt the volume that the AMI is built on, and so the root of the AMI: that
	// takes no copy at the end. `false` leaves the encryption as the source AMI has
	// it. Defaults to `false`, and to `true` with `root_volume_kms_key_id`.
	RootVolumeEncryptBoot config.Trilean `mapstructure:"root_volume_encrypt_boot"`
	// The KMS key that `root_volume_encrypt_boot` encrypts with: an id, an alias such
	// as `alias/images`, or an ARN of either. Defaults to the key of the source AMI's
	// root volume if that is encrypted and belongs to the account, and else to the
	// region's default key for EBS. With `encrypt_boot` the AMI has the key of that.
	RootVolumeKMSKeyID string `mapstructure:"root_volume_kms_key_id"`
	// Encrypt every volume of the AMI, in every region, whatever its block device
	// mapping says. One copy of the whole AMI is made for this if another volume than
	// the root has a snapshot, unless that is known to be encrypted with the same key
	// (given by its id or ARN), and if the source AMI is encrypted and the default key
	// is wanted. EC2 takes no key for blank volumes: they are encrypted with the default
	// key for EBS. By default, and with `false`, volumes are encrypted as the source AMI
	// and the mappings say.
	EncryptBoot config.Trilean `mapstructure:"encrypt_boot"`
	// The KMS key that `encrypt_boot` encrypts with in the region of the build: an id,
	// an alias such as `alias/images`, or an ARN of either. Copies in other regions
	// are encrypted with their region's default key, unless `region_kms_key_ids` says
	// otherwise. Defaults to the region's default key for EBS, also if the source AMI is
	// encrypted with another key.
	KMSKeyID string `mapstructure:"kms_key_id"`
	// The KMS keys that copies are encrypted with, as a map from regions to keys. Its
	// regions are those of `ami_regions`; an empty key means the region's default key.
	// Needs `encrypt_boot`. An entry for the region of the build takes precedence over
	// `kms_key_id`.
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

// checkKey fails when a key that was given as option has no form of a key, or is
// that of another region. An empty region is not known.
func checkKey(option, key, region string) error {
	if key == "" || keyID.MatchString(key) {
		return nil
	}
	arn := keyARN.FindStringSubmatch(key)
	if arn == nil {
		return fmt.Errorf("%s is %q, but must be the id of a KMS key, an alias such as alias/images, or an ARN of either", option, key)
	}
	if of := arn[1]; of != "" && region != "" && of != region {
		return fmt.Errorf("%s is a key of region %s, but is needed in %s", option, of, region)
	}
	return nil
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

// checkSharedKeys refuses to share what is encrypted with a key that cannot be
// shared: a region's default key, and with everybody any key at all.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/sharingamis-intro.html
func (c *Config) checkSharedKeys() []error {
	var errs []error
	if option := firstOf(shares{{"ami_groups", c.AMIGroups}, {"snapshot_groups", c.SnapshotGroups}}); option != "" && c.encrypts() {
		errs = append(errs, fmt.Errorf("%s shares with everybody, and that cannot be done with what is encrypted", option))
	}
	option := firstOf(shares{
		{"ami_users", c.AMIUsers}, {"ami_org_arns", c.AMIOrgARNs}, {"ami_ou_arns", c.AMIOUARNs}, {"snapshot_users", c.SnapshotUsers},
	})
	if remedy := c.defaultKey(); option != "" && remedy != "" {
		errs = append(errs, fmt.Errorf("%s cannot share what is encrypted with a region's default key: %s", option, remedy))
	}
	return errs
}

// shares are options and whom they share with.
type shares []struct {
	option string
	with   []string
}

// firstOf is the first option that shares with anybody.
func firstOf(all shares) string {
	for _, s := range all {
		if len(s.with) > 0 {
			return s.option
		}
	}
	return ""
}

// encrypts says that the user wants anything encrypted.
func (c *Config) encrypts() bool {
	return c.EncryptBoot.True() || c.encryptsRoot()
}

// encryptsRoot says that the build's volume is to be encrypted: a key asks for it
// as well.
func (c *Config) encryptsRoot() bool {
	return c.RootVolumeEncryptBoot.True() || c.RootVolumeKMSKeyID != ""
}

// defaultKey tells what to give where encrypt_boot would take a region's default
// key; it is empty where that is nowhere.
func (c *Config) defaultKey() string {
	switch {
	case !c.EncryptBoot.True():
		return ""
	case c.KMSKeyID == "" && len(c.RegionKMSKeyIDs) == 0:
		return "give kms_key_id"
	case len(c.RegionKMSKeyIDs) == 0:
		for _, region := range c.regions() {
			if region != c.Region {
				return "give region_kms_key_ids, with a key of " + region
			}
		}
		return ""
	}
	for _, region := range slices.Sorted(maps.Keys(c.RegionKMSKeyIDs)) {
		if c.RegionKMSKeyIDs[region] == "" {
			return fmt.Sprintf("region_kms_key_ids[%q] is empty", region)
		}
	}
	if _, here := c.RegionKMSKeyIDs[c.Region]; !here && c.Region != "" && c.KMSKeyID == "" && !c.SkipSaveBuildRegion {
		return "give kms_key_id for " + c.Region
	}
	return ""
}
