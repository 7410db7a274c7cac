package amazon

import (
	"errors"
	"fmt"
)

// checkHome returns the errors in options that must fit the build's region.
func (c *Config) checkHome(region string) error {
	errs := c.checkPartitions(region)
	for _, k := range c.homeKeys() {
		errs = append(errs, checkKeyRegion(k.option, k.key, region))
	}
	return errors.Join(errs...)
}

// homeKeys returns the keys that are used in the build's own region, with their options.
func (c *Config) homeKeys() []givenKey {
	keys := []givenKey{{"root_volume_kms_key_id", c.RootVolumeKMSKeyID}, {"kms_key_id", c.KMSKeyID}}
	for i, m := range c.AMIBlockDeviceMappings {
		keys = append(keys, givenKey{fmt.Sprintf("%s[%d]: kms_key_id", mappingsOption, i), m.KMSKeyID})
	}
	return keys
}

// givenKey is a KMS key and the option that gives it.
type givenKey struct{ option, key string }
