//go:generate packer-sdc mapstructure-to-hcl2 -type Config
package osc

import (
	"errors"
	"regexp"
	"slices"

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
	RemovedConfig       `mapstructure:",squash"`
}

// kind describes osc-chroot to Packer. The limits are those of CreateImage, CreateSnapshot and
// CreateTags in the reference of the Outscale API.
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

// Prepare implements builder.Options.
func (c *Config) Prepare(raws ...any) (warnings []string, err error) {
	return builder.Prepare(c, c.Job, c.check, raws...)
}

// check returns the warnings and the errors of the options that only this builder has.
func (c *Config) check() (warnings []string, errs []error) {
	warnings, errs = c.resolveAliases()
	errs = slices.Concat(errs, c.checkRemoved(), c.checkAccess(), c.checkImage())
	if !c.FromScratch {
		errs = append(errs, c.checkSource()...)
	}
	builder.Hide(c.AccessKey, c.SecretKey)
	return append(warnings, c.sourceWarnings()...), errs
}

// joined opens an error of errors.Join.
func joined(err error) []error {
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		return several.Unwrap()
	}
	return []error{err}
}
