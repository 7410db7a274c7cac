//go:generate packer-sdc mapstructure-to-hcl2 -type Config
//go:generate packer-sdc struct-markdown
package osc

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/hashicorp/packer-plugin-sdk/common"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// Config is the options of the builder osc-chroot. The comments of its fields
// are the user's documentation.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`
	builder.Config      `mapstructure:",squash"`

	// The access key that requests to Outscale are signed with; `secret_key` goes
	// with it. Defaults to the environment variable `OSC_ACCESS_KEY`.
	AccessKey string `mapstructure:"access_key"`
	// The secret key that belongs to `access_key`. Defaults to the environment
	// variable `OSC_SECRET_KEY`.
	SecretKey string `mapstructure:"secret_key"`
	// The region to build in, such as `eu-west-2`: that of the VM which Packer runs
	// on. Defaults to the environment variable `OSC_REGION`.
	Region string `mapstructure:"region"`
	// The URL of another service that speaks the Outscale API, such as
	// `https://api.example.com/api/v1`. Without a scheme `https` is meant, without
	// a path `/api/v1`. Defaults to the environment variable `OSC_ENDPOINT_API`, or
	// else to Outscale's own in the region.
	CustomEndpointOAPI string `mapstructure:"custom_endpoint_oapi"`
	// Accept any certificate of the API's endpoint. Defaults to `false`.
	InsecureSkipTLSVerify bool `mapstructure:"insecure_skip_tls_verify"`

	// The name of the OMI: 3 to 128 letters, digits, spaces and characters of
	// `()/._-`. No other OMI of the account in the region may have it; a function
	// like `{{timestamp}}` makes it unique.
	OMIName string `mapstructure:"omi_name" required:"true"`
	// The OMI whose root volume is copied and provisioned, such as `ami-3e158364`.
	// The account must be able to use its snapshot. Not used with `from_scratch`.
	SourceOMI string `mapstructure:"source_omi" required:"true"`
	// The description of the OMI. By default there is none. A template: see
	// [Build template data](#build-template-data).
	OMIDescription string `mapstructure:"omi_description"`
	// The virtualization type of the OMI. Outscale has `hvm` only. Defaults to that
	// of the source OMI. Required with `from_scratch`.
	OMIVirtualizationType string `mapstructure:"omi_virtualization_type"`
	// Block devices that VMs of the OMI start with, added to those of the source
	// OMI or in place of those with the same name. Required with `from_scratch`.
	// See [Block device mappings](#block-device-mappings).
	OMIBlockDeviceMappings []BlockDevice `mapstructure:"omi_block_device_mappings"`

	// The spelling of the page's own example of a build from scratch.
	AMIName                string        `mapstructure:"ami_name" undocumented:"true"`
	AMIVirtualizationType  string        `mapstructure:"ami_virtualization_type" undocumented:"true"`
	AMIBlockDeviceMappings []BlockDevice `mapstructure:"ami_block_device_mappings" undocumented:"true"`
}

// kind is osc-chroot toward Packer. The limits are those of CreateImage and
// CreateTags in the reference of the Outscale API.
var kind = builder.Kind{
	Type:     "osc-chroot",
	ID:       "oapi.outscale.chroot",
	Provider: "outscale",
	Image:    "OMI",
	Limits: builder.Limits{
		Name:     regexp.MustCompile(`^[a-zA-Z0-9 ()/._-]+$`),
		NameSet:  "letters, digits, spaces and ()/._-",
		TagKey:   255,
		TagValue: 255,
	},
	VolumeTypes: builder.VolumeTypes{"gp2", "io1", "standard"},
}

// omiID is Outscale's form of an id, or the longer one that AWS gives: an image
// made through EC2 on the same loopcloud has it.
var omiID = regexp.MustCompile(`^ami-[0-9a-f]{8}([0-9a-f]{9})?$`)

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
	errs = append(errs, c.Config.Prepare(kind)...)
	errs = append(errs, c.checkAccess()...)
	errs = append(errs, c.checkImage()...)
	packersdk.LogSecretFilter.Set(c.AccessKey, c.SecretKey)
	if c.FromScratch && c.SourceOMI != "" {
		warnings = append(warnings, "source_omi is not used with from_scratch")
	}
	return warnings, builder.Join(errs)
}

// resolveAliases takes the ami_ spelling for the omi_ one. Both at once are an
// error.
func (c *Config) resolveAliases() (warnings []string, errs []error) {
	alias := func(name string, aliased, given bool, take func()) {
		switch {
		case aliased && given:
			errs = append(errs, fmt.Errorf("ami_%s and omi_%s are the same option: give omi_%s alone", name, name, name))
		case aliased:
			warnings = append(warnings, fmt.Sprintf("ami_%s is taken for omi_%s: please write omi_%s", name, name, name))
			take()
		}
	}
	alias("name", c.AMIName != "", c.OMIName != "", func() { c.OMIName = c.AMIName })
	alias("virtualization_type", c.AMIVirtualizationType != "", c.OMIVirtualizationType != "",
		func() { c.OMIVirtualizationType = c.AMIVirtualizationType })
	alias("block_device_mappings", len(c.AMIBlockDeviceMappings) > 0, len(c.OMIBlockDeviceMappings) > 0,
		func() { c.OMIBlockDeviceMappings = c.AMIBlockDeviceMappings })
	for i := range c.OMIBlockDeviceMappings {
		warnings = append(warnings, c.OMIBlockDeviceMappings[i].resolveAlias(i)...)
	}
	return warnings, errs
}

func (c *Config) checkAccess() []error {
	endpoint, err := builder.Endpoint("custom_endpoint_oapi", c.CustomEndpointOAPI)
	c.CustomEndpointOAPI = endpoint
	return []error{builder.CheckKeys(c.AccessKey, c.SecretKey), err}
}

func (c *Config) checkImage() []error {
	errs := []error{kind.CheckName("omi_name", c.OMIName)}
	switch {
	case c.FromScratch && c.OMIVirtualizationType == "":
		errs = append(errs, errors.New("omi_virtualization_type is required with from_scratch"))
	case c.FromScratch:
	case c.SourceOMI == "":
		errs = append(errs, errors.New("source_omi is required, unless the build is from_scratch"))
	case !omiID.MatchString(c.SourceOMI):
		errs = append(errs, fmt.Errorf("source_omi is %q, but must be the id of an OMI such as ami-3e158364", c.SourceOMI))
	}
	var names []string
	for _, device := range c.OMIBlockDeviceMappings {
		names = append(names, device.DeviceName)
	}
	errs = append(errs, c.CheckScratchRoot("omi_block_device_mappings", names))
	errs = append(errs, joined(c.options().Validate())...)
	return append(errs, kind.CheckLabels(&c.Config, "omi_description", c.OMIDescription)...)
}

// joined opens an error of errors.Join.
func joined(err error) []error {
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		return several.Unwrap()
	}
	return []error{err}
}

// options are what only Outscale understands of the configuration.
func (c *Config) options() Options {
	o := Options{
		ImageName:          c.OMIName,
		SourceOMI:          c.SourceOMI,
		FromScratch:        c.FromScratch,
		VirtualizationType: c.OMIVirtualizationType,
		RootDeviceName:     c.RootDeviceName,
	}
	for _, device := range c.OMIBlockDeviceMappings {
		o.Mappings = append(o.Mappings, device.mapping())
	}
	return o
}
