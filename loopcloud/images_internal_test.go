//go:build linux

package loopcloud

import (
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// TestBootModeOf checks that an image's boot mode has EC2's name.
func TestBootModeOf(t *testing.T) {
	for _, test := range []struct {
		is   state.ImageAttributes
		want string
	}{
		{state.ImageAttributes{}, ""},
		{state.ImageAttributes{BootMode: "uefi", BootModes: []string{"legacy"}}, "uefi"},
		{state.ImageAttributes{BootModes: []string{"legacy"}}, "legacy-bios"},
		{state.ImageAttributes{BootModes: []string{"uefi"}}, "uefi"},
		{state.ImageAttributes{BootModes: []string{"uefi", "legacy"}}, "uefi-preferred"},
	} {
		if got := bootModeOf(test.is); got != test.want {
			t.Errorf("%+v: %q, want %q", test.is, got, test.want)
		}
	}
}
