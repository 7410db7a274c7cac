//go:generate packer-sdc mapstructure-to-hcl2 -type Config
//go:generate packer-sdc struct-markdown
package amazon

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/hashicorp/packer-plugin-sdk/common"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// Config is the options of the builder amazon-chroot. The comments of its fields
// are the user's documentation.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	builder.Config      `mapstructure:",squash"`

	// The access key that requests to AWS are signed with; `secret_key` goes with
	// it. By default both come from the environment (`AWS_ACCESS_KEY_ID` and
	// `AWS_SECRET_ACCESS_KEY`), the shared configuration files or the role of the
	// instance, in this order.
	AccessKey string `mapstructure:"access_key"`
	// The secret key that belongs to `access_key`.
	SecretKey string `mapstructure:"secret_key"`
	// The region to build in, such as `eu-west-1`: that of the instance which
	// Packer runs on. By default it comes from the environment (`AWS_REGION` or
	// `AWS_DEFAULT_REGION`), the shared configuration file or the instance's
	// metadata, in this order.
	Region string `mapstructure:"region"`
	// The URL of another service that speaks the EC2 API, such as
	// `https://ec2.example.com`. Without a scheme `https` is meant. By default it
	// is AWS's own in the region.
	CustomEndpointEC2 string `mapstructure:"custom_endpoint_ec2"`
	// Accept any certificate of the EC2 endpoint. Defaults to `false`.
	InsecureSkipTLSVerify bool `mapstructure:"insecure_skip_tls_verify"`

	// The name of the AMI: 3 to 128 letters, digits, spaces and characters of
	// `()[]./-'@_`. No other AMI of the account in the region may have it; a
	// function like `{{timestamp}}` makes it unique.
	AMIName string `mapstructure:"ami_name" required:"true"`
	// The AMI whose root volume is copied and provisioned, such as
	// `ami-e81d5881`. Its root device must be an EBS volume with a snapshot that
	// the account may use. Not used with `from_scratch`.
	SourceAMI string `mapstructure:"source_ami" required:"true"`
	// The description of the AMI, of at most 255 characters. By default there is
	// none. A template: see [Build template data](#build-template-data).
	AMIDescription string `mapstructure:"ami_description"`
	// The virtualization type of the AMI, `hvm` or `paravirtual`. Defaults to that
	// of the source AMI. Required with `from_scratch`.
	AMIVirtualizationType string `mapstructure:"ami_virtualization_type"`
	// Block devices that instances of the AMI start with, added to those of the
	// source AMI or in place of those with the same name. Required with
	// `from_scratch`. See [Block device mappings](#block-device-mappings).
	AMIBlockDeviceMappings []BlockDevice `mapstructure:"ami_block_device_mappings"`
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
		Description: 255,
		TagKey:      128,
		TagValue:    256,
		Tags:        50,
		ReservedTag: "aws:",
	},
	VolumeTypes: builder.VolumeTypes{"gp2", "gp3", "io1", "io2", "sc1", "st1", "standard"},
}

var amiID = regexp.MustCompile(`^ami-([0-9a-f]{8}|[0-9a-f]{17})$`)

// Prepare decodes the options that Packer gives, fills in the defaults, and
// answers everything that is wrong at once.
func (c *Config) Prepare(raws ...any) (warnings []string, err error) {
	*c = Config{}
	usable, err := builder.Decode(c, &c.Config, kind, []string{"ami_description"}, raws...)
	if !usable {
		return nil, builder.Join([]error{err})
	}
	errs := []error{err}
	errs = append(errs, c.Config.Prepare(kind)...)
	errs = append(errs, c.checkAccess()...)
	errs = append(errs, c.checkImage()...)
	errs = append(errs, c.checkMappings()...)
	packersdk.LogSecretFilter.Set(c.AccessKey, c.SecretKey)
	return c.warnings(), builder.Join(errs)
}

func (c *Config) checkAccess() []error {
	endpoint, err := CheckEndpoint("custom_endpoint_ec2", c.CustomEndpointEC2)
	c.CustomEndpointEC2 = endpoint
	return []error{builder.CheckKeys(c.AccessKey, c.SecretKey), err}
}

func (c *Config) checkImage() []error {
	errs := []error{kind.CheckName("ami_name", c.AMIName)}
	switch {
	case c.FromScratch:
	case c.SourceAMI == "":
		errs = append(errs, errors.New("source_ami is required, unless the build is from_scratch"))
	case !amiID.MatchString(c.SourceAMI):
		errs = append(errs, fmt.Errorf("source_ami is %q, but must be the id of an AMI such as ami-e81d5881", c.SourceAMI))
	}
	errs = append(errs, builder.CheckVirtualization("ami_virtualization_type", c.AMIVirtualizationType, c.FromScratch))
	return append(errs, kind.CheckLabels(&c.Config, "ami_description", c.AMIDescription)...)
}

func (c *Config) warnings() []string {
	if c.FromScratch && c.SourceAMI != "" {
		return []string{"source_ami is not used with from_scratch"}
	}
	return nil
}
