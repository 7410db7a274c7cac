package ec2

import (
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// checkFirmware returns an error if the boot attributes of an image exclude each other.
//
// Sources: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html (ENA and
// SR-IOV need HVM), https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-boot.html (Graviton
// boots by UEFI, and only instances on Nitro do),
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/enable-nitrotpm-prerequisites.html, and for
// uefi-preferred, which that page does not mention, an observation in github.com/flatcar/mantle
// pull 582. The format of the messages is from github.com/balena-os/balena-yocto-scripts pull
// 298.
func checkFirmware(a state.ImageAttributes) error {
	if a.Virtualization == "paravirtual" {
		return checkParavirtual(a)
	}
	switch {
	case a.Architecture == arm64 && a.BootMode == "legacy-bios":
		return unfit("machineArchitecture", a.Architecture, "bootMode "+a.BootMode)
	case a.TPM != "" && a.BootMode != "uefi":
		return unfit("bootMode", a.BootMode, "tpmSupport")
	case a.UEFIData != "" && !bootsByUEFI(a):
		return unfit("bootMode", a.BootMode, "uefiData")
	}
	return nil
}

const arm64 = "arm64"

// bootsByUEFI reports whether instances of an image may boot by UEFI. If it has no boot
// mode, they boot as their type does by default.
func bootsByUEFI(a state.ImageAttributes) bool {
	return strings.HasPrefix(a.BootMode, "uefi") || a.BootMode == "" && a.Architecture == arm64
}

// checkParavirtual returns an error for attributes that need HVM. EC2 documents for some of them
// only that the instances can be unreachable; loopcloud refuses them too.
func checkParavirtual(a state.ImageAttributes) error {
	for _, p := range []struct {
		name  string
		given bool
	}{
		{"enaSupport", a.ENA},
		{"sriovNetSupport", a.SRIOV != ""},
		{"bootMode " + a.BootMode, strings.HasPrefix(a.BootMode, "uefi")},
		{"tpmSupport", a.TPM != ""},
		{"uefiData", a.UEFIData != ""},
		{"machineArchitecture " + a.Architecture, a.Architecture == arm64},
	} {
		if p.given {
			return unfit("virtualizationType", a.Virtualization, p.name)
		}
	}
	return nil
}

// unfit returns the error for a value of a parameter that another parameter excludes.
func unfit(name, value, other string) error {
	return query.Refuse("InvalidParameterValue", "Invalid %s value '%s' for %s", name, value, other)
}
