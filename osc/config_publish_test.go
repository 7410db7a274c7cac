package osc

import (
	"reflect"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

// TestAllOptionsReachTheCloud: no option is accepted and goes nowhere.
func TestAllOptionsReachTheCloud(t *testing.T) {
	var c Config
	buildertest.Prepared(t, &c, with(t, map[string]any{
		"omi_name": "web",
		"source_omi_filter": map[string]any{
			"filters": map[string]any{"image-name": "debian-*"}, "owners": []any{"self", "Outscale"}, "most_recent": true,
		},
		"omi_virtualization_type": "hvm", "root_device_name": "xvda", "root_volume_type": "io1", "root_volume_iops": 300,
		"omi_boot_modes": []any{"uefi"}, "tpm_mandatory": false, "product_codes": []any{"0001"},
		"omi_account_ids": []any{"123456789012"}, "global_permission": true,
		"snapshot_users": []any{"210987654321"}, "snapshot_groups": []any{"all"}, "skip_region_validation": true,
		"omi_block_device_mappings": []any{buildertest.Device(nil)},
	}))
	no := false
	want := Options{
		ImageName: "web", SourceOMI: "ami-3e158364",
		SourceFilter:       SourceFilter{Filters: map[string]string{"image-name": "debian-*"}, Owners: []string{"self", "Outscale"}, MostRecent: true},
		VirtualizationType: "hvm", RootDeviceName: "xvda", RootVolumeType: "io1", RootVolumeIOPS: 300,
		BootModes: []string{"uefi"}, TPMMandatory: &no, ProductCodes: []string{"0001"},
		AccountIDs: []string{"123456789012"}, GlobalPermission: true,
		SnapshotUsers: []string{"210987654321"}, SnapshotGroups: []string{"all"}, SkipRegionValidation: true,
		Mappings: []Mapping{{DeviceName: "/dev/sdh", VolumeSizeGiB: 8}},
	}
	if got := c.options(); !reflect.DeepEqual(got, want) {
		t.Errorf("the cloud is told\n%+v, want\n%+v", got, want)
	}
	// the client knows the region, and the rest is not the user's
	buildertest.EveryField(t, want, "FromScratch", "Client", "Region", "Log")
}
