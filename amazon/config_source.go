//go:generate packer-sdc mapstructure-to-hcl2 -type SourceFilterConfig
//go:generate packer-sdc struct-markdown
package amazon

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// SourceConfig holds the options for the source image.
type SourceConfig struct {
	// The ID of the AMI whose root volume is copied and provisioned, such as
	// `ami-e81d5881`. Required, unless `source_ami_filter` or `from_scratch` is set. The
	// root device must be an EBS volume with a snapshot that the account may use. A value
	// that is not the ID of an AMI is refused.
	SourceAMI string `mapstructure:"source_ami"`
	// A search for the source AMI. If `source_ami` is set too, that AMI must match the
	// filter. By default there is no search. See [Source AMI](#source-ami).
	SourceAMIFilter SourceFilterConfig `mapstructure:"source_ami_filter"`
}

// SourceFilterConfig holds the options of the block source_ami_filter.
type SourceFilterConfig struct {
	// A map of filters that the AMI must match. These are the filters of `DescribeImages`
	// in the EC2 API, such as `name` or `virtualization-type`. In a value `*` matches any
	// characters and `?` matches one. Required, unless `most_recent` or `source_ami` is
	// set.
	Filters map[string]string `mapstructure:"filters"`
	// The owners of the AMIs to search: account IDs, `self`, or an alias such as `amazon`
	// or `aws-marketplace`. Required, because anybody can give an AMI any name.
	Owners []string `mapstructure:"owners"`
	// Choose the newest AMI that matches. Defaults to `false`: the build fails if more than
	// one matches.
	MostRecent bool `mapstructure:"most_recent"`
	// Include AMIs that their owner has deprecated. Defaults to `false`.
	IncludeDeprecated bool `mapstructure:"include_deprecated"`
}

var (
	amiID      = regexp.MustCompile(`^ami-([0-9a-f]{8}|[0-9a-f]{17})$`)
	snapshotID = regexp.MustCompile(`^snap-([0-9a-f]{8}|[0-9a-f]{17})$`)
	// ownerName is an account's id, self or an alias.
	ownerName = regexp.MustCompile(`^([0-9]{12}|[a-z][a-z0-9-]*)$`)
)

// isZero says that there is no filter.
func (f SourceFilterConfig) isZero() bool {
	return len(f.Filters) == 0 && len(f.Owners) == 0 && !f.MostRecent && !f.IncludeDeprecated
}

// checkSource returns the errors in the source of a build that has one.
func (s SourceConfig) checkSource() []error {
	var errs []error
	switch {
	case s.SourceAMI == "" && s.SourceAMIFilter.isZero():
		errs = append(errs, errors.New("source_ami is required, or source_ami_filter, unless the build is from_scratch"))
	case s.SourceAMI != "" && !amiID.MatchString(s.SourceAMI):
		errs = append(errs, fmt.Errorf("source_ami is %q, but must be the id of an AMI such as ami-e81d5881", s.SourceAMI))
	}
	if s.SourceAMIFilter.isZero() {
		return errs
	}
	return append(errs, s.SourceAMIFilter.check(s.SourceAMI != "")...)
}

// check returns the errors in a filter; pinned says that source_ami is given
// too.
func (f SourceFilterConfig) check(pinned bool) []error {
	errs := f.search(pinned).Check()
	for i, owner := range f.Owners {
		if !ownerName.MatchString(owner) {
			errs = append(errs, fmt.Errorf("source_ami_filter: owners[%d] is %q, but must be the id of an account, self, or an alias such as amazon", i, owner))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Filters)) {
		if name == "" || f.Filters[name] == "" {
			errs = append(errs, fmt.Errorf("source_ami_filter: filters has %q with the value %q, but neither may be empty", name, f.Filters[name]))
		}
	}
	return errs
}

// search returns the search; pinned says that source_ami is given too.
func (f SourceFilterConfig) search(pinned bool) builder.Search {
	return builder.Search{
		Option: "source_ami_filter", Kind: kind, Filters: f.Filters, Owners: f.Owners, MostRecent: f.MostRecent, Pinned: pinned,
	}
}

func (c *Config) sourceWarnings() []string {
	var warnings []string
	if c.FromScratch && c.SourceAMI != "" {
		warnings = append(warnings, "source_ami is not used with from_scratch")
	}
	if c.FromScratch && !c.SourceAMIFilter.isZero() {
		warnings = append(warnings, "source_ami_filter is not used with from_scratch")
	}
	return warnings
}
