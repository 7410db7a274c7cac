//go:generate packer-sdc struct-markdown
package osc

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/packer-plugin-sdk/template/config"
	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// ImageConfig holds the options for the attributes of the image.
type ImageConfig struct {
	// The name of the OMI: 3 to 128 letters, digits, spaces and characters of `()/._-`. The
	// build fails if another OMI of the account in the region has this name, unless
	// `force_deregister` is set. A function such as `{{timestamp}}` makes the name unique.
	OMIName string `mapstructure:"omi_name" required:"true"`
	// The description of the OMI and of its snapshot, of at most 255 characters. It is a
	// template: see [Build template data](#build-template-data). By default there is none.
	OMIDescription string `mapstructure:"omi_description"`
	// The virtualization type of the OMI. Defaults to `hvm`, the only type of Outscale.
	OMIVirtualizationType string `mapstructure:"omi_virtualization_type"`
	// The boot modes of VMs of the OMI: `legacy`, `uefi` or both. Defaults to those of the
	// source OMI, or to the default of the API with `from_scratch`. An unknown mode is
	// refused.
	OMIBootModes []string `mapstructure:"omi_boot_modes"`
	// Require a virtual TPM for VMs of the OMI. Defaults to the setting of the source OMI,
	// or to `false` with `from_scratch`.
	TPMMandatory config.Trilean `mapstructure:"tpm_mandatory"`
	// The product codes of the OMI, which determine the price of its VMs. Defaults to those
	// of the source OMI, or to the product code of Linux with `from_scratch`.
	ProductCodes []string `mapstructure:"product_codes"`
	// The block devices of VMs of the OMI. They are added to those of the source OMI and
	// replace those with the same name. Required with `from_scratch`. See
	// [Block device mappings](#block-device-mappings).
	OMIBlockDeviceMappings []BlockDevice `mapstructure:"omi_block_device_mappings"`

	// The spelling of the page's own example of a build from scratch.
	AMIName                string        `mapstructure:"ami_name" undocumented:"true"`
	AMIVirtualizationType  string        `mapstructure:"ami_virtualization_type" undocumented:"true"`
	AMIBlockDeviceMappings []BlockDevice `mapstructure:"ami_block_device_mappings" undocumented:"true"`
}

// resolveAliases takes the ami_ spelling for the omi_ one. Both at once are an
// error.
func (c *ImageConfig) resolveAliases() (warnings []string, errs []error) {
	alias := func(name string, aliased, given bool, take func()) {
		switch {
		case aliased && given:
			errs = append(errs, fmt.Errorf("ami_%s and omi_%s are the same option: use only omi_%s", name, name, name))
		case aliased:
			warnings = append(warnings, fmt.Sprintf("ami_%s is read as omi_%s: please write omi_%s", name, name, name))
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

// labelTexts returns the options for descriptions, and for tags with a value of their own.
func (c *Config) labelTexts() []builder.LabelText {
	return []builder.LabelText{
		builder.Description("omi_description", c.OMIDescription),
	}
}

func (c *Config) checkImage() []error {
	var errs []error
	if c.RootVolumeIOPS != 0 && c.RootVolumeType != "" && c.RootVolumeType != io1 {
		errs = append(errs, fmt.Errorf("root_volume_iops is for the root_volume_type io1, which is %s", c.RootVolumeType))
	} else if c.RootVolumeIOPS >= 0 && c.RootVolumeSize >= 0 {
		errs = append(errs, wanted{prefix: rootPrefix, sizeGiB: c.RootVolumeSize, iops: c.RootVolumeIOPS}.check())
	}
	var names []string
	for _, device := range c.OMIBlockDeviceMappings {
		names = append(names, device.DeviceName)
	}
	errs = append(errs, c.CheckScratchRoot("omi_block_device_mappings", names))
	return append(errs, c.checkRequest()...)
}

// checkRequest returns the errors in the source filter and in the image's own options.
func (c *Config) checkRequest() []error {
	errs := []error{c.checkVirtualization(), c.checkRootName()}
	if !c.FromScratch {
		errs = append(errs, c.SourceOMIFilter.check(c.SourceOMI != "")...)
	}
	return slices.Concat(errs, c.checkBoot(), builder.CheckAccounts("omi_account_ids", c.OMIAccountIDs), c.checkMappings())
}

func (c *Config) checkVirtualization() error {
	switch c.OMIVirtualizationType {
	case "", hvm:
		return nil
	case "paravirtual":
		return errors.New("omi_virtualization_type is paravirtual: Outscale has hvm only")
	}
	return fmt.Errorf("omi_virtualization_type is %q, but must be hvm", c.OMIVirtualizationType)
}

func (c *Config) checkRootName() error {
	if root := withDev(c.RootDeviceName); root != "" && !firstDisk.MatchString(root) && !dataDevice.MatchString(root) {
		return fmt.Errorf("root_device_name is %q: not the name of a disk, such as xvda", c.RootDeviceName)
	}
	return nil
}

// checkBoot returns the errors in the image's boot modes and product codes.
func (c *Config) checkBoot() []error {
	var errs []error
	for i, mode := range c.OMIBootModes {
		if mode != string(api.BootModeLegacy) && mode != string(api.BootModeUefi) {
			errs = append(errs, fmt.Errorf("omi_boot_modes[%d] is %q: it can be legacy or uefi", i, mode))
		}
	}
	if slices.Contains(c.ProductCodes, "") {
		errs = append(errs, errors.New("product_codes has an empty code"))
	}
	return errs
}
