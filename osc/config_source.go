//go:generate packer-sdc mapstructure-to-hcl2 -type SourceFilterConfig
//go:generate packer-sdc struct-markdown
package osc

import (
	"errors"
	"fmt"
	"regexp"
)

// SourceConfig holds the options for the source image.
type SourceConfig struct {
	// The ID of the OMI whose root volume is copied and provisioned, such as
	// `ami-3e158364`. Required, unless `source_omi_filter` or `from_scratch` is set. If
	// another account owns the OMI and shares it without its snapshots, the build starts
	// from a temporary copy. A value that is not the ID of an OMI is refused.
	SourceOMI string `mapstructure:"source_omi"`
	// A search for the source OMI. If `source_omi` is set too, that OMI must match the
	// filter. By default there is no search. See [Source OMI](#source-omi).
	SourceOMIFilter SourceFilterConfig `mapstructure:"source_omi_filter"`
}

// SourceFilterConfig holds the options of the block source_omi_filter.
type SourceFilterConfig struct {
	// A map of filters that the OMI must match. These are the filters of `ReadImages` in
	// the Outscale API, such as `image-name` (or `ImageNames`), and `tag:KEY`. In names `*`
	// matches any characters. Required, unless `most_recent` or `source_omi` is set.
	Filters map[string]string `mapstructure:"filters"`
	// The owners of the OMIs to search: account IDs, `self`, or an alias such as
	// `Outscale`. Required, because anybody can give an OMI any name.
	Owners []string `mapstructure:"owners"`
	// Choose the most recently created OMI that matches. Defaults to `false`: the build
	// fails if more than one matches.
	MostRecent bool `mapstructure:"most_recent"`
}

// Outscale's form of an id, or the longer one that AWS gives: an image made through EC2
// on the same loopcloud has it.
var (
	omiID      = regexp.MustCompile(`^ami-[0-9a-f]{8}([0-9a-f]{9})?$`)
	snapshotID = regexp.MustCompile(`^snap-[0-9a-f]{8}([0-9a-f]{9})?$`)
)

// checkSource returns the errors in the source of a build that has one.
func (s SourceConfig) checkSource() []error {
	switch {
	case s.SourceOMI == "" && !s.SourceOMIFilter.isSet():
		return []error{errors.New("source_omi is required, or source_omi_filter, unless the build is from_scratch")}
	case s.SourceOMI != "" && !omiID.MatchString(s.SourceOMI):
		return []error{fmt.Errorf("source_omi is %q, but must be the id of an OMI such as ami-3e158364", s.SourceOMI)}
	}
	return nil
}

func (c *Config) sourceWarnings() []string {
	var warnings []string
	if c.FromScratch && c.SourceOMI != "" {
		warnings = append(warnings, "source_omi is not used with from_scratch")
	}
	if c.FromScratch && c.SourceOMIFilter.isSet() {
		warnings = append(warnings, "source_omi_filter is not used with from_scratch")
	}
	return warnings
}
