//go:generate packer-sdc mapstructure-to-hcl2 -type ProtectionConfig
//go:generate packer-sdc struct-markdown
package amazon

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// PublishConfig holds the options for sharing, copying, deprecating and protecting the image.
type PublishConfig struct {
	// The IDs of the accounts that may launch the AMI. By default only the account itself
	// may. An ID that does not have 12 digits is refused.
	AMIUsers []string `mapstructure:"ami_users"`
	// The groups that may launch the AMI. The only group is `all`, which makes the AMI
	// public. By default there are none. The build fails before anything is created if the
	// AMI would be encrypted, or if the account blocks public access to AMIs in one of its
	// regions.
	AMIGroups []string `mapstructure:"ami_groups"`
	// The ARNs of the organizations whose accounts may launch the AMI. By default there are
	// none.
	AMIOrgARNs []string `mapstructure:"ami_org_arns"`
	// The ARNs of the organizational units whose accounts may launch the AMI. By default
	// there are none.
	AMIOUARNs []string `mapstructure:"ami_ou_arns"`
	// The AWS Marketplace product codes of the AMI. By default there are none.
	AMIProductCodes []string `mapstructure:"ami_product_codes"`
	// The regions that the AMI is copied to, in parallel. Each copy gets the tags,
	// permissions, deprecation and deregistration protection of the AMI. By default the AMI
	// is not copied.
	AMIRegions []string `mapstructure:"ami_regions"`
	// Keep no AMI in the region of the build. The AMI has a temporary name there and is
	// removed after it has been copied to `ami_regions`. Defaults to `false`. It is an
	// error if `ami_regions` names no other region.
	SkipSaveBuildRegion bool `mapstructure:"skip_save_build_region"`
	// The time in which AWS must complete each copy of a snapshot, in minutes: from 15 to
	// 2880, in steps of 15. AWS charges for it. By default there is no such limit. A number
	// out of range is refused.
	SnapshotCopyDurationMinutes int64 `mapstructure:"snapshot_copy_duration_minutes"`
	// The time when the AMI becomes deprecated and searches no longer show it to other
	// accounts, such as `2030-01-31T12:00:00Z`. By default the AMI is not deprecated. A
	// time in the past is refused, and so is a time more than ten years from now, or two
	// years if the AMI is public.
	DeprecateAt string `mapstructure:"deprecate_at"`
	// Protect the AMI from being deregistered. By default it is not protected. See
	// [Deregistration protection](#deregistration-protection).
	DeregistrationProtection ProtectionConfig `mapstructure:"deregistration_protection"`
}

// ProtectionConfig holds the options of the block deregistration_protection.
type ProtectionConfig struct {
	// Protect the AMI. Defaults to `false`.
	Enabled bool `mapstructure:"enabled"`
	// Keep the protection for 24 hours after it is turned off. Defaults to `false`. It is
	// an error without `enabled`.
	WithCooldown bool `mapstructure:"with_cooldown"`
}

// The forms of organizations and units that an image can be shared with.
// Source: https://docs.aws.amazon.com/organizations/latest/APIReference/API_Organization.html
// and API_OrganizationalUnit.html beside it.
var (
	organizationARN = regexp.MustCompile(`^arn:aws[a-z-]*:organizations::[0-9]{12}:organization/o-[a-z0-9]{10,32}$`)
	unitARN         = regexp.MustCompile(`^arn:aws[a-z-]*:organizations::[0-9]{12}:ou/o-[a-z0-9]{10,32}/ou-[0-9a-z]{4,32}-[0-9a-z]{8,32}$`)
	notEmpty        = regexp.MustCompile(`.`)
)

func (c *Config) checkPublishing(now time.Time) []error {
	errs := slices.Concat(
		builder.CheckAccounts("ami_users", c.AMIUsers),
		builder.CheckGroups("ami_groups", c.AMIGroups),
		builder.CheckEach("ami_org_arns", c.AMIOrgARNs, organizationARN, "such as arn:aws:organizations::123456789012:organization/o-123example"),
		builder.CheckEach("ami_ou_arns", c.AMIOUARNs, unitARN, "such as arn:aws:organizations::123456789012:ou/o-123example/ou-1234-5example"),
		builder.CheckEach("ami_product_codes", c.AMIProductCodes, notEmpty, "a product code"),
		builder.CheckEach("ami_regions", c.AMIRegions, notEmpty, "the name of a region"),
	)
	if c.DeregistrationProtection.WithCooldown && !c.DeregistrationProtection.Enabled {
		errs = append(errs, errors.New("deregistration_protection: with_cooldown needs enabled"))
	}
	return append(errs, c.checkRegions(), c.checkCopyDuration(), c.checkDeprecation(now))
}

// checkRegions wants a region where the image stays.
func (c *Config) checkRegions() error {
	elsewhere := slices.DeleteFunc(c.regions(), func(region string) bool { return region == c.Region })
	if c.SkipSaveBuildRegion && len(elsewhere) == 0 {
		return errors.New("skip_save_build_region needs another region in ami_regions, or no AMI is left")
	}
	return nil
}

// The limits of a copy in time, in minutes.
// Source: https://docs.aws.amazon.com/ebs/latest/userguide/time-based-copies.html
const (
	copyStep = 15
	maxCopy  = 2880
)

func (c *Config) checkCopyDuration() error {
	n := c.SnapshotCopyDurationMinutes
	if n < 0 || n > maxCopy || n%copyStep != 0 {
		return fmt.Errorf("snapshot_copy_duration_minutes is %d, but must be from %d to %d, in steps of %d", n, copyStep, maxCopy, copyStep)
	}
	return nil
}

// afterSnapshots is how long a copy may take beside its snapshots.
const afterSnapshots = 30 * time.Minute

// waits are how a build waits. EC2 may take all of the time that it is given for a
// copy.
func (c *Config) waits() bake.Waits {
	w := c.AWSPolling.waits()
	wanted := time.Duration(c.SnapshotCopyDurationMinutes)*time.Minute + afterSnapshots
	if usual := cmp.Or(w.Copy.Limit, bake.DefaultWaits().Copy.Limit); wanted > usual {
		w.Copy.Limit = wanted
	}
	return w
}

// The years that the deprecation of an image may be away.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EnableImageDeprecation.html
const (
	maxDeprecation       = 10
	maxPublicDeprecation = 2
)

func (c *Config) checkDeprecation(now time.Time) error {
	if c.DeprecateAt == "" {
		return nil
	}
	years := maxDeprecation
	if len(c.AMIGroups) > 0 {
		years = maxPublicDeprecation
	}
	at, err := time.Parse(time.RFC3339, c.DeprecateAt)
	switch {
	case err != nil:
		return fmt.Errorf("deprecate_at is %q, but must be a time such as 2030-01-31T12:00:00Z", c.DeprecateAt)
	case !at.After(now):
		return fmt.Errorf("deprecate_at is %s, but must be in the future", c.DeprecateAt)
	case at.After(now.AddDate(years, 0, 0)):
		return fmt.Errorf("deprecate_at is %s, but may be %d years away at the most", c.DeprecateAt, years)
	}
	return nil
}

// deprecation is when the image becomes deprecated; zero is never.
func (p PublishConfig) deprecation() time.Time {
	at, err := time.Parse(time.RFC3339, p.DeprecateAt)
	if err != nil {
		return time.Time{} // it is empty: a value was checked by now
	}
	return at.UTC()
}

// regions are ami_regions, each once.
func (p PublishConfig) regions() []string {
	var once []string
	for _, region := range p.AMIRegions {
		if !slices.Contains(once, region) {
			once = append(once, region)
		}
	}
	return once
}

func (c *Config) publishWarnings() []string {
	var warnings []string
	if n := len(c.AMIRegions) - len(c.regions()); n > 0 {
		warnings = append(warnings, "ami_regions names a region more than once: it is copied to once")
	}
	if c.Region != "" && slices.Contains(c.AMIRegions, c.Region) {
		warnings = append(warnings, fmt.Sprintf("ami_regions names %s, where the AMI is built: it is not copied there", c.Region))
	}
	if c.SnapshotCopyDurationMinutes > 0 && len(c.AMIRegions) == 0 && !c.EncryptBoot.True() {
		warnings = append(warnings, "snapshot_copy_duration_minutes is for copies, and none is asked for by ami_regions or encrypt_boot")
	}
	return warnings
}
