package amazon

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// noUEFIData is the value of uefi_data that gives the image no UEFI variables, even if its source
// has some. A variable store begins with AMZNUEFI, in base64, so it is never equal to it.
const noUEFIData = "none"

// firmware holds the boot settings of an image: boot mode, TPM and UEFI variables.
type firmware struct {
	mode types.BootModeValues
	tpm  types.TpmSupportValues
	// data are the UEFI variables, in base64; nil if there are none.
	data *string
}

// settleFirmware returns the firmware of the image: the user's options, or else the source's. It
// returns an error for a combination that EC2 would refuse when the image is registered, and logs
// attributes that cannot be inherited.
func (c imagePlan) settleFirmware(ctx context.Context) (firmware, error) {
	source := c.source
	if source == nil {
		source = &types.Image{Architecture: hostArchitecture()}
	}
	if cmp.Or(c.config.AMIVirtualizationType, string(source.VirtualizationType)) == paravirtual {
		return firmware{mode: types.BootModeValues(c.config.BootMode)}, nil
	}
	f := firmware{
		mode: cmp.Or(types.BootModeValues(c.config.BootMode), source.BootMode),
		tpm:  types.TpmSupportValues(c.config.TPMSupport),
		data: optional(c.config.UEFIData),
	}
	architecture := cmp.Or(types.ArchitectureValues(c.config.AMIArchitecture), source.Architecture)
	if err := c.checkFirmware(f, architecture); err != nil {
		return firmware{}, err
	}
	f.tpm = cmp.Or(f.tpm, c.inheritedTPM(f, source))
	if c.config.UEFIData == noUEFIData {
		f.data = nil
		return f, nil
	}
	if f.data == nil && byUEFI(f.mode, architecture) {
		var err error
		f.data, err = c.inheritedUEFI(ctx, source)
		return f, err
	}
	return f, nil
}

// checkFirmware returns an error for options that the boot mode excludes.
//
// Sources: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-boot.html,
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/enable-nitrotpm-prerequisites.html;
// that RegisterImage takes TpmSupport with uefi and not with uefi-preferred is an
// observation in github.com/flatcar/mantle pull 582.
func (c *Cloud) checkFirmware(f firmware, architecture types.ArchitectureValues) error {
	is := "is not set, and the source image has none"
	if c.config.FromScratch {
		is = "is not set"
	}
	if f.mode != "" {
		is = fmt.Sprintf("is %q", f.mode)
		if c.config.BootMode == "" {
			is = fmt.Sprintf("of the source image is %q", f.mode)
		}
	}
	switch {
	case architecture == arm64 && f.mode == legacyBIOS:
		return fmt.Errorf("boot_mode %s, but images of architecture arm64 boot by uefi only", is)
	case f.tpm != "" && f.mode != uefi:
		return fmt.Errorf(`tpm_support needs boot_mode = "uefi", and boot_mode %s`, is)
	case f.data != nil && *f.data != noUEFIData && !byUEFI(f.mode, architecture):
		return fmt.Errorf(`uefi_data needs boot_mode = "uefi" or "uefi-preferred", and boot_mode %s`, is)
	}
	return nil
}

// byUEFI reports whether instances may boot by UEFI, and so have its variables. An
// image without a boot mode boots as the instance's type does by default.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-boot-mode.html
func byUEFI(mode types.BootModeValues, architecture types.ArchitectureValues) bool {
	return mode == uefi || mode == uefiPreferred || mode == "" && architecture == arm64
}

// inheritedTPM is the source's TPM, as far as the image's boot mode allows it.
func (c *Cloud) inheritedTPM(f firmware, source *types.Image) types.TpmSupportValues {
	if source.TpmSupport == "" || f.tpm != "" || f.mode == uefi {
		return source.TpmSupport
	}
	c.logf("warning: instances of source image %s have a TPM, and those of the new image will not: "+
		`EC2 gives one to images with the boot_mode "uefi" only, and it is %q`, nameOf(*source), f.mode)
	return ""
}

// inheritedUEFI reads the source's UEFI variables, the keys of Secure Boot among them.
// EC2 returns them to the image's owner only. An image without them starts as one that
// has none, and does not check signatures: the build fails if they exist for all that
// is known, and a permission is missing.
func (c imagePlan) inheritedUEFI(ctx context.Context, source *types.Image) (*string, error) {
	if !byUEFI(source.BootMode, source.Architecture) || source.ImageId == nil {
		return nil, nil
	}
	id, owner, account := *source.ImageId, aws.ToString(source.OwnerId), c.host.Account
	if owner != "" && account != "" && owner != account {
		c.warnOfUEFI(source, fmt.Sprintf("only the image's owner, account %s, can read them", owner))
		return nil, nil
	}
	data, err := c.client.uefiData(ctx, id)
	switch {
	case err == nil:
		return data, nil
	case hasCode(err, codeNotOwner, codeUnknownAction, codeUnsupported, codeInvalidValue):
		c.warnOfUEFI(source, fmt.Sprintf("EC2 does not return them: %v", err))
		return nil, nil
	}
	err = c.client.cannot(err, "read the UEFI variables of source image %s, Secure Boot's keys among them", nameOf(*source))
	if hasCode(err, codeUnauthorized) {
		err = errors.Join(err, fmt.Errorf(`without this permission, give them in uefi_data, or set uefi_data = %q if the image needs none`, noUEFIData))
	}
	return nil, err
}

// warnOfUEFI says that UEFI variables may be lost, and why.
func (c *Cloud) warnOfUEFI(source *types.Image, why string) {
	c.logf("warning: UEFI variables of source image %s, such as the keys of Secure Boot, are not inherited: %s. "+
		`If it has any, give them in uefi_data; uefi_data = %q says that the image needs none`, nameOf(*source), why, noUEFIData)
}

// uefiData reads an image's UEFI variables, in base64; nil if it has none.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImageAttribute.html
func (c *Client) uefiData(ctx context.Context, image string) (*string, error) {
	out, err := c.ec2.DescribeImageAttribute(ctx, &ec2.DescribeImageAttributeInput{
		ImageId: aws.String(image), Attribute: types.ImageAttributeNameUefiData,
	})
	if err != nil || out.UefiData == nil {
		return nil, err
	}
	return optional(aws.ToString(out.UefiData.Value)), nil
}
