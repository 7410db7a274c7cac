package osc

import (
	"reflect"
	"testing"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

// TestEveryOptionIsDecoded: each option has the field that is named after it.
func TestEveryOptionIsDecoded(t *testing.T) {
	var c Config
	buildertest.Prepared(t, &c, with(t, map[string]any{
		"omi_name": "web", "omi_description": "a web server",
		"source_omi_filter": map[string]any{
			"filters": map[string]any{"image-name": "debian-*"}, "owners": []any{"self", "Outscale"}, "most_recent": true,
		},
		"omi_virtualization_type": "hvm", "root_device_name": "xvda", "root_volume_type": "io1", "root_volume_iops": 300,
		"omi_boot_modes": []any{"uefi"}, "tpm_mandatory": false, "product_codes": []any{"0001"},
		"omi_account_ids": []any{"123456789012"}, "global_permission": true,
		"snapshot_users": []any{"210987654321"}, "snapshot_groups": []any{"all"}, "skip_region_validation": true,
		"omi_block_device_mappings": []any{buildertest.Device(nil)},
	}))
	for part, want := range map[any]any{
		&c.SourceConfig: SourceConfig{SourceOMI: "ami-3e158364", SourceOMIFilter: SourceFilterConfig{
			Filters: map[string]string{"image-name": "debian-*"}, Owners: []string{"self", "Outscale"}, MostRecent: true,
		}},
		&c.ImageConfig: ImageConfig{
			OMIName: "web", OMIDescription: "a web server", OMIVirtualizationType: "hvm", OMIBootModes: []string{"uefi"}, TPMMandatory: config.TriFalse,
			ProductCodes: []string{"0001"}, OMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdh", VolumeSize: 8}}},
		},
		&c.PublishConfig: PublishConfig{OMIAccountIDs: []string{"123456789012"}, GlobalPermission: true},
		&c.Sharing: builder.Sharing{
			SnapshotUsers: []string{"210987654321"}, SnapshotGroups: []string{"all"}, SkipRegionValidation: true,
		},
	} {
		if got := reflect.ValueOf(part).Elem().Interface(); !reflect.DeepEqual(got, want) {
			t.Errorf("prepared as\n%+v, want\n%+v", got, want)
		}
		buildertest.EveryField(t, want, "AMIName", "AMIVirtualizationType", "AMIBlockDeviceMappings") // other spellings
	}
	if c.RootDeviceName != "xvda" || c.RootVolumeType != "io1" || c.RootVolumeIOPS != 300 {
		t.Errorf("prepared as %+v", c.Config)
	}
}

// TestEveryOptionIsRead: no option is accepted and goes nowhere.
func TestEveryOptionIsRead(t *testing.T) { buildertest.EveryOptionRead(t, Config{}, ".", "../builder") }
