package amazon

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

const (
	organization = "arn:aws:organizations::123456789012:organization/o-a1b2c3d4e5"
	unit         = "arn:aws:organizations::123456789012:ou/o-a1b2c3d4e5/ou-ab12-12345678"
)

// fromNow is a time that is so many days away, as deprecate_at takes it.
func fromNow(days int) string { return time.Now().AddDate(0, 0, days).UTC().Format(time.RFC3339) }

func TestPublicImages(t *testing.T) {
	c, _ := prepared(t, map[string]any{"ami_groups": []any{"all"}, "snapshot_groups": []any{"all"}})
	if len(c.AMIGroups) != 1 || len(c.SnapshotGroups) != 1 || c.EncryptBoot != config.TriUnset || c.DeregistrationProtection.Enabled || !c.deprecation().IsZero() {
		t.Errorf("prepared as %+v", c)
	}
}

// TestAKeyAsksForEncryption checks that a key turns encryption on, because the key would have
// no effect otherwise.
func TestAKeyAsksForEncryption(t *testing.T) {
	c, _ := prepared(t, map[string]any{"root_volume_kms_key_id": "mrk-1234abcd12ab34cd56ef1234567890ab"})
	if !c.encryptsRoot() || c.RootVolumeKMSKeyID == "" {
		t.Errorf("prepared as %+v", c)
	}
}

// TestEncryptionThatCanBeShared checks that an encrypted image is refused exactly if it cannot
// be shared.
func TestEncryptionThatCanBeShared(t *testing.T) {
	const key = "alias/images"
	users := []any{"123456789012"}
	for name, test := range map[string]struct {
		give map[string]any
		want string // of the error; empty for none
	}{
		"a key of one's own":           {map[string]any{"encrypt_boot": true, "kms_key_id": key, "ami_users": users}, ""},
		"the default key, not shared":  {map[string]any{"encrypt_boot": true}, ""},
		"encrypt_boot false":           {map[string]any{"encrypt_boot": false, "ami_users": users}, ""},
		"the default key":              {map[string]any{"encrypt_boot": true, "ami_users": users}, "give kms_key_id"},
		"the default key, snapshots":   {map[string]any{"encrypt_boot": true, "snapshot_users": users}, "snapshot_users"},
		"the default key, orgs":        {map[string]any{"encrypt_boot": true, "ami_org_arns": []any{organization}}, "ami_org_arns"},
		"the default key, units":       {map[string]any{"encrypt_boot": true, "ami_ou_arns": []any{unit}}, "ami_ou_arns"},
		"the default key elsewhere":    {map[string]any{"encrypt_boot": true, "kms_key_id": key, "ami_users": users, "ami_regions": []any{"us-east-1"}}, "us-east-1"},
		"a key in each region":         {map[string]any{"encrypt_boot": true, "kms_key_id": key, "ami_users": users, "ami_regions": []any{"us-east-1"}, "region_kms_key_ids": map[string]any{"us-east-1": key}}, ""},
		"an empty key":                 {map[string]any{"encrypt_boot": true, "kms_key_id": key, "ami_users": users, "ami_regions": []any{"us-east-1"}, "region_kms_key_ids": map[string]any{"us-east-1": ""}}, `region_kms_key_ids["us-east-1"] is empty`},
		"an empty key, not shared":     {map[string]any{"encrypt_boot": true, "ami_regions": []any{"us-east-1"}, "region_kms_key_ids": map[string]any{"us-east-1": ""}}, ""},
		"no key here":                  {map[string]any{"encrypt_boot": true, "region": "eu-west-1", "ami_users": users, "ami_regions": []any{"us-east-1"}, "region_kms_key_ids": map[string]any{"us-east-1": key}}, "give kms_key_id for eu-west-1"},
		"no key here, and no image":    {map[string]any{"encrypt_boot": true, "region": "eu-west-1", "ami_users": users, "ami_regions": []any{"us-east-1"}, "region_kms_key_ids": map[string]any{"us-east-1": key}, "skip_save_build_region": true}, ""},
		"public and encrypted":         {map[string]any{"encrypt_boot": true, "kms_key_id": key, "ami_groups": []any{"all"}}, "ami_groups"},
		"public, root encrypted":       {map[string]any{"root_volume_encrypt_boot": true, "ami_groups": []any{"all"}}, "ami_groups"},
		"public, nothing encrypted":    {map[string]any{"ami_groups": []any{"all"}, "ami_block_device_mappings": []any{buildertest.Device(nil)}}, ""},
		"public, a device encrypted":   {map[string]any{"ami_groups": []any{"all"}, "ami_block_device_mappings": []any{buildertest.Device(map[string]any{"encrypted": true})}}, "ami_block_device_mappings[0] has encrypted for /dev/sdh"},
		"public, copies encrypted":     {map[string]any{"ami_groups": []any{"all"}, "ami_regions": []any{"us-east-1"}, "region_kms_key_ids": map[string]any{"us-east-1": ""}}, "region_kms_key_ids encrypts the copies in [us-east-1]"},
		"AWS's key":                    {map[string]any{"encrypt_boot": true, "kms_key_id": "alias/aws/ebs", "ami_users": users}, `kms_key_id is "alias/aws/ebs"`},
		"AWS's key by its ARN":         {map[string]any{"encrypt_boot": true, "kms_key_id": "arn:aws-cn:kms:cn-north-1:123456789012:alias/aws/ebs", "ami_users": users}, `kms_key_id is "arn:aws-cn:`},
		"AWS's key of the root":        {map[string]any{"root_volume_kms_key_id": "alias/aws/ebs", "ami_org_arns": []any{organization}}, `root_volume_kms_key_id is "alias/aws/ebs"`},
		"AWS's key of the root, alone": {map[string]any{"root_volume_kms_key_id": "alias/aws/ebs"}, ""},
		"AWS's key that is replaced":   {map[string]any{"root_volume_kms_key_id": "alias/aws/ebs", "encrypt_boot": true, "kms_key_id": key, "ami_users": users}, ""},
		"AWS's key of the mapping":     {map[string]any{"ami_block_device_mappings": []any{map[string]any{"device_name": "xvda", "encrypted": true, "kms_key_id": "alias/aws/ebs"}}, "root_device_name": "xvda", "ami_users": users}, `ami_block_device_mappings[0]: kms_key_id is "alias/aws/ebs"`},
		"AWS's key of a copy":          {map[string]any{"encrypt_boot": true, "kms_key_id": key, "ami_users": users, "ami_regions": []any{"us-east-1"}, "region_kms_key_ids": map[string]any{"us-east-1": "alias/aws/ebs"}}, `region_kms_key_ids["us-east-1"] is "alias/aws/ebs"`},
		"AWS's key here, no image":     {map[string]any{"encrypt_boot": true, "kms_key_id": "alias/aws/ebs", "ami_users": users, "ami_regions": []any{"us-east-1"}, "region_kms_key_ids": map[string]any{"us-east-1": key}, "skip_save_build_region": true}, ""},
		"a default key of the root":    {map[string]any{"root_volume_encrypt_boot": true, "ami_users": users}, ""},
		"public snapshots, root's key": {map[string]any{"root_volume_kms_key_id": key, "snapshot_groups": []any{"all"}}, "snapshot_groups"},
	} {
		t.Run(name, func(t *testing.T) {
			var c Config
			_, err := c.Prepare(with(t, test.give))
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}
