package amazon

import "fmt"

// given is an option and whether it is set.
type given struct {
	option string
	is     bool
}

// directWarnings names the options that have no effect because ebs_direct is set, or is not.
func (c *Config) directWarnings() []string {
	if c.EBSDirect {
		return noEffect("attached volumes, and ebs_direct is set",
			given{"root_volume_tags", len(c.RootVolumeTags) > 0}, given{"instance_id", c.InstanceID != ""})
	}
	return noEffect("ebs_direct, which is not set",
		given{"keep_source_copy", c.KeepSourceCopy.ToBoolPointer() != nil}, given{"block_cache_dir", c.BlockCacheDir != ""},
		given{"block_cache_size", c.BlockCacheSize != ""}, given{"block_cache_encrypted", c.BlockCacheEncrypted},
		given{"custom_endpoint_ebs", c.CustomEndpointEBS != ""})
}

// noEffect returns a warning for each option that is set.
func noEffect(reason string, options ...given) []string {
	var warnings []string
	for _, o := range options {
		if o.is {
			warnings = append(warnings, fmt.Sprintf("%s has no effect: it is for %s", o.option, reason))
		}
	}
	return warnings
}
