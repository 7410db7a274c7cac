package amazon

import (
	"fmt"
	"maps"
	"slices"
)

// checkSharedKeys returns errors for templates that share an image or its snapshots and
// encrypt them with a key that other accounts cannot use: a key that AWS manages, or, with
// encrypt_boot, the region's default key. An image shared with everybody must not be
// encrypted at all. Default keys that the template does not show are checked by
// Cloud.checkSharing.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/sharingamis-intro.html
func (c *Config) checkSharedKeys() []error {
	var errs []error
	everybody := shares{{"ami_groups", c.AMIGroups}, {"snapshot_groups", c.SnapshotGroups}}.first()
	if asked := c.encryption(); everybody.option != "" && asked != "" {
		errs = append(errs, fmt.Errorf("%s is %q, which shares with everybody, but nothing encrypted can be public, and %s: leave one of them out",
			everybody.option, everybody.with, asked))
	}
	others := shares{
		{"ami_users", c.AMIUsers}, {"ami_org_arns", c.AMIOrgARNs}, {"ami_ou_arns", c.AMIOUARNs}, {"snapshot_users", c.SnapshotUsers},
	}.first()
	if others.option == "" {
		return errs
	}
	if remedy := c.defaultKey(); remedy != "" {
		errs = append(errs, fmt.Errorf("%s is %q, but encrypt_boot is true, and what a region's default key encrypts is not shared: %s",
			others.option, others.with, remedy))
	}
	for _, given := range c.managedKeys() {
		errs = append(errs, fmt.Errorf("%s is %q, but %s, a key that AWS manages and no other account can use: give %s",
			others.option, others.with, given, customer))
	}
	return errs
}

// shares are options with the accounts, groups or ARNs that they share with.
type shares []share

type share struct {
	option string
	with   []string
}

// first returns the first option that shares with anybody.
func (all shares) first() share {
	for _, s := range all {
		if len(s.with) > 0 {
			return s
		}
	}
	return share{}
}

// encryption returns an option by which the user wants anything encrypted, with its
// value; empty if there is none.
func (c *Config) encryption() string {
	switch {
	case c.EncryptBoot.True():
		return "encrypt_boot is true"
	case c.RootVolumeKMSKeyID != "":
		return fmt.Sprintf("root_volume_kms_key_id is %q", c.RootVolumeKMSKeyID)
	case c.encryptsRoot():
		return "root_volume_encrypt_boot is true"
	case len(c.RegionKMSKeyIDs) > 0:
		return "region_kms_key_ids encrypts the copies in " + fmt.Sprint(slices.Sorted(maps.Keys(c.RegionKMSKeyIDs)))
	}
	for i, device := range c.AMIBlockDeviceMappings {
		if device.Encrypted {
			return fmt.Sprintf("%s[%d] has encrypted for %s", mappingsOption, i, device.DeviceName)
		}
	}
	return ""
}

// managedKeys returns the options that give an image, which is not there only to be
// copied, a key that AWS manages.
func (c *Config) managedKeys() []string {
	var given []string
	note := func(option, key string) {
		if managedKey.MatchString(key) {
			given = append(given, fmt.Sprintf("%s is %q", option, key))
		}
	}
	for _, region := range slices.Sorted(maps.Keys(c.RegionKMSKeyIDs)) {
		note(fmt.Sprintf("region_kms_key_ids[%q]", region), c.RegionKMSKeyIDs[region])
	}
	if _, other := c.RegionKMSKeyIDs[c.Region]; other || c.SkipSaveBuildRegion {
		return given
	}
	if c.EncryptBoot.True() {
		note("kms_key_id", c.KMSKeyID)
		return given
	}
	note("root_volume_kms_key_id", c.RootVolumeKMSKeyID)
	for i, device := range c.AMIBlockDeviceMappings {
		note(fmt.Sprintf("%s[%d]: kms_key_id", mappingsOption, i), device.KMSKeyID)
	}
	return given
}

// defaultKey returns which option to set so that encrypt_boot does not use a region's
// default key. It is empty if encrypt_boot uses none.
func (c *Config) defaultKey() string {
	switch {
	case !c.EncryptBoot.True():
		return ""
	case c.KMSKeyID == "" && len(c.RegionKMSKeyIDs) == 0:
		return "give kms_key_id, " + customer
	case len(c.RegionKMSKeyIDs) == 0:
		for _, region := range c.regions() {
			if region != c.Region {
				return fmt.Sprintf("give region_kms_key_ids[%q], %s", region, customer)
			}
		}
		return ""
	}
	for _, region := range slices.Sorted(maps.Keys(c.RegionKMSKeyIDs)) {
		if c.RegionKMSKeyIDs[region] == "" {
			return fmt.Sprintf("region_kms_key_ids[%q] is empty, give %s", region, customer)
		}
	}
	if _, here := c.RegionKMSKeyIDs[c.Region]; !here && c.Region != "" && c.KMSKeyID == "" && !c.SkipSaveBuildRegion {
		return fmt.Sprintf("give kms_key_id for %s, %s", c.Region, customer)
	}
	return ""
}
