//go:generate packer-sdc mapstructure-to-hcl2 -type Config
package osc

import (
	"errors"
	"regexp"

	"github.com/hashicorp/packer-plugin-sdk/common"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// Config holds the options of the builder osc-chroot, by topic. The comments of their
// fields are the user's documentation.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	builder.Config      `mapstructure:",squash"`
	AccessConfig        `mapstructure:",squash"`
	SourceConfig        `mapstructure:",squash"`
	ImageConfig         `mapstructure:",squash"`
	PublishConfig       `mapstructure:",squash"`
	MovedConfig         `mapstructure:",squash"`
}

// kind is osc-chroot toward Packer. The limits are those of CreateImage,
// CreateSnapshot, whose description is the image's, and CreateTags in the
// reference of the Outscale API.
var kind = builder.Kind{
	Type:     "osc-chroot",
	ID:       "oapi.outscale.chroot",
	Provider: "outscale",
	Image:    "OMI",
	Limits: builder.Limits{
		Name:        regexp.MustCompile(`^[a-zA-Z0-9 ()/._-]+$`),
		NameSet:     "letters, digits, spaces and ()/._-",
		Device:      dataDevice,
		DeviceSet:   "/dev/sdX, /dev/sdXX, /dev/xvdX or /dev/xvdXX, with a first letter from b to z",
		Description: 255,
		TagKey:      255,
		TagValue:    255,
	},
	VolumeTypes: builder.VolumeTypes{"gp2", io1, "standard"},
}

// Prepare decodes the options that Packer gives, fills in the defaults, and
// answers everything that is wrong at once.
func (c *Config) Prepare(raws ...any) (warnings []string, err error) {
	*c = Config{}
	usable, err := builder.Decode(c, &c.Config, kind, []string{"omi_description"}, raws...)
	if !usable {
		return nil, builder.Join([]error{err})
	}
	errs := []error{err}
	warnings, aliasErrs := c.resolveAliases()
	errs = append(errs, aliasErrs...)
	errs = append(errs, c.checkMoved()...)
	errs = append(errs, c.Config.Prepare(kind)...)
	errs = append(errs, c.checkAccess()...)
	if !c.FromScratch {
		errs = append(errs, c.checkSource()...)
	}
	errs = append(errs, c.checkImage()...)
	builder.Hide(c.AccessKey, c.SecretKey)
	return append(warnings, c.sourceWarnings()...), builder.Join(errs)
}

// joined opens an error of errors.Join.
func joined(err error) []error {
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		return several.Unwrap()
	}
	return []error{err}
}
