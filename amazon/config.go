//go:generate packer-sdc mapstructure-to-hcl2 -type Config
package amazon

import (
	"regexp"
	"slices"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/common"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// Config holds the options of the builder amazon-chroot, by topic. The comments of their
// fields are the user's documentation.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	builder.Config      `mapstructure:",squash"`
	AccessConfig        `mapstructure:",squash"`
	SourceConfig        `mapstructure:",squash"`
	ImageConfig         `mapstructure:",squash"`
	VolumeConfig        `mapstructure:",squash"`
	EncryptionConfig    `mapstructure:",squash"`
	CopyConfig          `mapstructure:",squash"`
	DirectConfig        `mapstructure:",squash"`
	PublishConfig       `mapstructure:",squash"`
}

// kind is amazon-chroot toward Packer. The limits are those of RegisterImage and
// CreateTags in the EC2 API reference.
var kind = builder.Kind{
	Type:     "amazon-chroot",
	ID:       "mitchellh.amazon.chroot",
	Provider: "aws",
	Image:    "AMI",
	Limits: builder.Limits{
		Name:        regexp.MustCompile(`^[a-zA-Z0-9 ()\[\]./\-'@_]+$`),
		NameSet:     "letters, digits, spaces and ()[]./-'@_",
		Device:      deviceName,
		DeviceSet:   "/dev/sdX or /dev/xvdX",
		Description: 255,
		TagKey:      128,
		TagValue:    256,
		Tags:        50,
		ReservedTag: "aws:",
	},
	VolumeTypes: builder.VolumeTypes{"gp2", "gp3", "io1", "io2", "sc1", "st1", "standard"},
}

// Prepare implements builder.Options.
func (c *Config) Prepare(raws ...any) (warnings []string, err error) {
	return builder.Prepare(c, c.Job, c.check, raws...)
}

// check returns the warnings and the errors of the options that only this builder has.
func (c *Config) check() (warnings []string, errs []error) {
	errs = slices.Concat(
		c.checkAccess(),
		c.checkImage(),
		c.checkMappings(),
		c.checkRootVolume(),
		c.checkEncryption(),
		c.checkSharedKeys(),
		c.checkPartitions(c.Region),
		c.checkCopies(),
		c.checkPublishing(time.Now()),
		c.checkDirect(),
	)
	if !c.FromScratch {
		errs = append(errs, c.checkSource()...)
	}
	builder.Hide(c.secrets()...)
	return slices.Concat(c.accessWarnings(), c.sourceWarnings(), c.terminationWarnings(), c.encryptionWarnings(), c.copyWarnings(), c.directWarnings()), errs
}
