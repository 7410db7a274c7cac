//go:generate packer-sdc struct-markdown
package amazon

import (
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// ImageConfig holds the options for the attributes of the image. They default to those of
// the source.
type ImageConfig struct {
	// The name of the AMI: 3 to 128 letters, digits, spaces and characters of `()[]./-'@_`.
	// The build fails if another AMI of the account in the region has this name, unless
	// `force_deregister` is set. A function such as `{{timestamp}}` makes the name unique.
	AMIName string `mapstructure:"ami_name" required:"true"`
	// The description of the AMI, of at most 255 characters. It is a template: see
	// [Build template data](#build-template-data). By default there is none.
	AMIDescription string `mapstructure:"ami_description"`
	// The architecture of the AMI: `x86_64`, `arm64`, `i386`, `x86_64_mac` or `arm64_mac`.
	// Defaults to the architecture of the source AMI, or to that of this host with
	// `from_scratch`. The build fails if it differs from the source AMI's.
	AMIArchitecture string `mapstructure:"ami_architecture"`
	// The virtualization type of the AMI, `hvm` or `paravirtual`. Defaults to that of the
	// source AMI. Required with `from_scratch`.
	AMIVirtualizationType string `mapstructure:"ami_virtualization_type"`
	// Give instances of the AMI enhanced networking by ENA. `false` turns it off. Defaults
	// to the setting of the source AMI.
	ENASupport config.Trilean `mapstructure:"ena_support"`
	// Give instances of the AMI enhanced networking by SR-IOV (the Intel 82599 interface).
	// EC2 cannot turn it off. Defaults to the setting of the source AMI.
	SRIOVSupport bool `mapstructure:"sriov_support"`
	// The boot mode of instances of the AMI: `legacy-bios`, `uefi` or `uefi-preferred`.
	// Defaults to that of the source AMI. If the AMI has none, the instance type decides.
	BootMode string `mapstructure:"boot_mode"`
	// The UEFI variables of new instances of the AMI, such as the keys of Secure Boot, in
	// base64, or `none`. Requires the `boot_mode` `uefi` or `uefi-preferred`. Defaults to
	// the variables of the source AMI if the account owns it; if they cannot be read, the
	// build fails before anything is created. EC2 does not let other accounts read them, so
	// an AMI from another account's source AMI has none, and the build warns.
	UEFIData string `mapstructure:"uefi_data"`
	// Give instances of the AMI a NitroTPM. The only value is `v2.0`. Requires the
	// `boot_mode` `uefi`, which may be inherited from the source AMI; any other mode is
	// refused before anything is created. Defaults to the setting of the source AMI if the
	// AMI's boot mode is `uefi`. With any other boot mode the AMI has no TPM, and the build
	// warns if the source AMI has one.
	TPMSupport string `mapstructure:"tpm_support"`
	// Require a token (IMDSv2) at the metadata service of instances of the AMI. The only
	// value is `v2.0`. Defaults to the setting of the source AMI.
	IMDSSupport string `mapstructure:"imds_support"`
}

const (
	paravirtual   = "paravirtual"
	legacyBIOS    = "legacy-bios"
	uefi          = "uefi"
	uefiPreferred = "uefi-preferred"
	// version2 is the only version that tpm_support and imds_support can name.
	version2 = "v2.0"
	arm64    = "arm64"
	// maxUEFIData is the most characters that EC2 takes of it.
	// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html
	maxUEFIData = 64000
)

// labelTexts returns the options for descriptions, and for tags with a value of their own.
func (c *Config) labelTexts() []builder.LabelText {
	return []builder.LabelText{
		builder.Description("ami_description", c.AMIDescription),
	}
}

func (c *Config) checkImage() []error {
	return []error{
		builder.CheckVirtualization("ami_virtualization_type", c.AMIVirtualizationType, c.FromScratch),
		builder.CheckOneOf("ami_architecture", c.AMIArchitecture, "x86_64", arm64, "i386", "x86_64_mac", "arm64_mac"),
		builder.CheckOneOf("boot_mode", c.BootMode, legacyBIOS, uefi, uefiPreferred),
		builder.CheckOneOf("tpm_support", c.TPMSupport, version2),
		builder.CheckOneOf("imds_support", c.IMDSSupport, version2),
		c.checkUEFIData(),
		c.checkFirmware(),
		c.checkParavirtual(),
	}
}

func (c *Config) checkUEFIData() error {
	if c.UEFIData == noUEFIData {
		return nil
	}
	if n := len(c.UEFIData); n > maxUEFIData {
		return fmt.Errorf("uefi_data has %d characters, but may have %d", n, maxUEFIData)
	}
	if _, err := base64.StdEncoding.DecodeString(c.UEFIData); err != nil {
		return fmt.Errorf("uefi_data must be base64: %w", err)
	}
	return nil
}

// checkFirmware returns an error for options that the given boot mode excludes. A boot mode of the
// source is checked when the source is known.
func (c *Config) checkFirmware() error {
	named := c.BootMode != "" || c.FromScratch
	legacy := c.BootMode == legacyBIOS || c.BootMode == "" && c.FromScratch && c.AMIArchitecture != arm64
	switch {
	case legacy && c.givesUEFIData():
		return errors.New("uefi_data needs boot_mode uefi or uefi-preferred")
	case named && c.BootMode != uefi && c.TPMSupport != "":
		return fmt.Errorf("tpm_support needs boot_mode uefi, and boot_mode is %q", c.BootMode)
	case c.BootMode == legacyBIOS && c.AMIArchitecture == arm64:
		return errors.New("boot_mode is legacy-bios, but ami_architecture arm64 boots by uefi only")
	}
	return nil
}

// givesUEFIData reports whether uefi_data names variables.
func (c *Config) givesUEFIData() bool { return c.UEFIData != "" && c.UEFIData != noUEFIData }

// checkParavirtual returns an error if an option is given that paravirtual images do not have.
func (c *Config) checkParavirtual() error {
	if c.AMIVirtualizationType != paravirtual {
		return nil
	}
	option := c.hvmOnly()
	if option == "" && c.AMIArchitecture == arm64 {
		option = "ami_architecture"
	}
	if option != "" {
		return fmt.Errorf("%s needs ami_virtualization_type hvm, and it is paravirtual", option)
	}
	return nil
}

// hvmOnly returns the first given option that only hvm images have; empty if none is given.
func (c *Config) hvmOnly() string {
	for _, o := range []struct {
		option string
		given  bool
	}{
		{"ena_support", c.ENASupport.True()},
		{"sriov_support", c.SRIOVSupport},
		{"boot_mode", c.BootMode == uefi || c.BootMode == uefiPreferred},
		{"uefi_data", c.givesUEFIData()},
		{"tpm_support", c.TPMSupport != ""},
	} {
		if o.given {
			return o.option
		}
	}
	return ""
}
