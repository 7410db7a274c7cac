package ec2

import (
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// checkFirmware refuses attributes of an image that do not go together.
//
// Sources: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html
// (ENA and SR-IOV are for HVM only),
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-boot.html (Graviton boots by
// UEFI, instances on Nitro alone do so),
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/enable-nitrotpm-prerequisites.html,
// and for uefi-preferred, which that page does not mention, an observation in
// github.com/flatcar/mantle pull 582. The form of the messages is that of one in
// github.com/balena-os/balena-yocto-scripts pull 298.
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

// checkParavirtual refuses what only HVM has. EC2's documentation says of some of it
// only that the instances can be unreachable: such an image is refused here, too.
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

// unfit refuses the value of a parameter that another one excludes.
func unfit(name, value, other string) error {
	return query.Refuse("InvalidParameterValue", "Invalid %s value '%s' for %s", name, value, other)
}
