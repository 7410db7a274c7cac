package amazon

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

// TestEveryOptionIsDecoded checks that each option sets the field with its name.
func TestEveryOptionIsDecoded(t *testing.T) { buildertest.EveryOptionDecoded(t, Plugin) }

// TestEveryOptionIsRead checks that no option is accepted and not used.
func TestEveryOptionIsRead(t *testing.T) { buildertest.EveryOptionRead(t, Config{}, ".", "../builder") }

// TestOptionsTogether prepares a template with most of the options. The checks change none of them.
func TestOptionsTogether(t *testing.T) {
	deprecation := fromNow(30)
	give := with(t, map[string]any{
		"ami_name": "web", "region": "eu-west-1",
		"source_ami_filter": map[string]any{
			"filters": map[string]any{"name": "debian-*"}, "owners": []any{"self", "amazon", "123456789012"}, "most_recent": true, "include_deprecated": true,
		},
		"ami_architecture": "arm64", "ami_virtualization_type": "hvm", "root_device_name": "xvda", "ena_support": false, "sriov_support": true,
		"boot_mode": "uefi", "uefi_data": "QU1aTg==", "tpm_support": "v2.0", "imds_support": "v2.0",
		"root_volume_encrypt_boot": true, "root_volume_kms_key_id": "alias/root", "encrypt_boot": true, "kms_key_id": "alias/images",
		"ami_users": []any{"123456789012"}, "ami_org_arns": []any{organization}, "ami_ou_arns": []any{unit},
		"snapshot_users": []any{"210987654321"}, "ami_product_codes": []any{"abc"}, "deprecate_at": deprecation,
		"deregistration_protection": map[string]any{"enabled": true, "with_cooldown": true},
		"ami_regions":               []any{"eu-central-1", "us-east-1", "us-east-1"},
		"region_kms_key_ids":        map[string]any{"eu-central-1": "alias/images", "us-east-1": "arn:aws:kms:us-east-1:123456789012:alias/images"},
		"skip_region_validation":    true, "skip_save_build_region": true, "snapshot_copy_duration_minutes": 30,
		"ami_block_device_mappings": []any{buildertest.Device(nil)}, "ami_description": "a web server",
		"root_volume_type": "gp3", "root_volume_throughput": 200,
	})
	c, _ := prepared(t, give)
	decoded := *buildertest.Decoded(t, Plugin, give).(*Config)
	for _, part := range [][2]any{
		{c.SourceConfig, decoded.SourceConfig},
		{c.ImageConfig, decoded.ImageConfig},
		{c.VolumeConfig, decoded.VolumeConfig},
		{c.EncryptionConfig, decoded.EncryptionConfig},
		{c.CopyConfig, decoded.CopyConfig},
		{c.PublishConfig, decoded.PublishConfig},
		{c.Sharing, decoded.Sharing},
	} {
		if !reflect.DeepEqual(part[0], part[1]) {
			t.Errorf("prepared as\n%+v, want\n%+v", part[0], part[1])
		}
	}
	if at := c.deprecation().Format(time.RFC3339); at != deprecation || !slices.Equal(c.regions(), []string{"eu-central-1", "us-east-1"}) {
		t.Errorf("deprecated at %s, copied to %s", at, c.regions())
	}
}
