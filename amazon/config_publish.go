//go:generate packer-sdc mapstructure-to-hcl2 -type ProtectionConfig
//go:generate packer-sdc struct-markdown
package amazon

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// PublishConfig holds the options for sharing, deprecating and protecting the image.
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
	)
	if c.DeregistrationProtection.WithCooldown && !c.DeregistrationProtection.Enabled {
		errs = append(errs, errors.New("deregistration_protection: with_cooldown needs enabled"))
	}
	return append(errs, c.checkDeprecation(now))
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
