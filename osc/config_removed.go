package osc

import "fmt"

// RemovedConfig holds the options that only the public builder outscale-chroot has. They are
// decoded so that the error can name their replacement.
type RemovedConfig struct {
	MFACode              string   `mapstructure:"mfa_code" undocumented:"true"`
	Token                string   `mapstructure:"token" undocumented:"true"`
	SkipMetadataAPICheck bool     `mapstructure:"skip_metadata_api_check" undocumented:"true"`
	SnapshotAccountIDs   []string `mapstructure:"snapshot_account_ids" undocumented:"true"`
	OMIGroups            []string `mapstructure:"omi_groups" undocumented:"true"`
	OMIProductCodes      []string `mapstructure:"omi_product_codes" undocumented:"true"`
	OMIRegions           []string `mapstructure:"omi_regions" undocumented:"true"`
}

// movingPage is where the options of outscale-chroot are listed.
const movingPage = "docs/moving-from-outscale-chroot.md"

// checkRemoved refuses the options of outscale-chroot that are not here.
func (r RemovedConfig) checkRemoved() []error {
	const idle = "it has no effect in outscale-chroot: remove it"
	var errs []error
	for _, option := range []struct {
		name   string
		given  bool
		remedy string
	}{
		{"mfa_code", r.MFACode != "", idle},
		{"token", r.Token != "", idle},
		{"skip_metadata_api_check", r.SkipMetadataAPICheck, idle},
		{"snapshot_account_ids", r.SnapshotAccountIDs != nil, "use snapshot_users"},
		{"omi_groups", r.OMIGroups != nil, "use global_permission"},
		{"omi_product_codes", r.OMIProductCodes != nil, "use product_codes"},
		{"omi_regions", r.OMIRegions != nil, "an OMI cannot leave its region: remove it"},
	} {
		if option.given {
			errs = append(errs, fmt.Errorf("%s is an option of outscale-chroot only: %s (see %s)", option.name, option.remedy, movingPage))
		}
	}
	return errs
}
