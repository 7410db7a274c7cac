package osc

import (
	"reflect"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

// TestEveryOptionIsDecoded checks that each option sets the field with its name.
func TestEveryOptionIsDecoded(t *testing.T) { buildertest.EveryOptionDecoded(t, Plugin) }

// TestEveryOptionIsRead checks that no option is accepted and not used.
func TestEveryOptionIsRead(t *testing.T) { buildertest.EveryOptionRead(t, Config{}, ".", "../builder") }

// TestOptionsTogether prepares a template with most of the options. The checks change none of them.
func TestOptionsTogether(t *testing.T) {
	var c Config
	give := with(t, map[string]any{
		"omi_name": "web", "omi_description": "a web server",
		"source_omi_filter": map[string]any{
			"filters": map[string]any{"image-name": "debian-*"}, "owners": []any{"self", "Outscale"}, "most_recent": true,
		},
		"omi_virtualization_type": "hvm", "root_device_name": "xvda", "root_volume_type": "io1", "root_volume_iops": 300,
		"omi_boot_modes": []any{"uefi"}, "tpm_mandatory": false, "product_codes": []any{"0001"},
		"omi_account_ids": []any{"123456789012"}, "global_permission": true,
		"snapshot_users": []any{"210987654321"}, "snapshot_groups": []any{"all"}, "skip_region_validation": true,
		"omi_block_device_mappings": []any{buildertest.Device(nil)},
	})
	buildertest.Prepared(t, &c, give)
	decoded := *buildertest.Decoded(t, Plugin, give).(*Config)
	for _, part := range [][2]any{
		{c.SourceConfig, decoded.SourceConfig},
		{c.ImageConfig, decoded.ImageConfig},
		{c.PublishConfig, decoded.PublishConfig},
		{c.Sharing, decoded.Sharing},
	} {
		if !reflect.DeepEqual(part[0], part[1]) {
			t.Errorf("prepared as\n%+v, want\n%+v", part[0], part[1])
		}
	}
	if c.RootDeviceName != "xvda" || c.RootVolumeType != "io1" || c.RootVolumeIOPS != 300 {
		t.Errorf("prepared as %+v", c.Config)
	}
}
