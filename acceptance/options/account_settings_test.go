package options

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// TestAccountSettings checks that the build fails before provisioning if the account's
// settings would make EC2 refuse to share the AMI. The error names the option and the setting,
// and nothing remains.
func TestAccountSettings(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	for name, test := range map[string]struct {
		setting harness.O
		options harness.O
		says    []string
		// creates says that only the new volume shows it.
		creates bool
	}{
		"encryption by default": {harness.O{"encrypt_by_default": true}, harness.O{"ami_users": []string{harness.OtherAccount}},
			[]string{"ami_users", "encryption by default is on in " + harness.Region, "alias/aws/ebs", "give root_volume_kms_key_id"}, true},
		"encryption by default, public": {harness.O{"encrypt_by_default": true, "default_key": "alias/own"}, harness.O{"ami_groups": []string{"all"}},
			[]string{"ami_groups", "nothing encrypted can be public"}, true},
		"encryption by default of copies": {harness.O{"region": harness.Elsewhere, "encrypt_by_default": true}, harness.O{"snapshot_users": []string{harness.OtherAccount}, "ami_regions": []string{harness.Elsewhere}},
			[]string{"snapshot_users", "the copy in " + harness.Elsewhere}, false},
		"the default key": {harness.O{}, harness.O{"root_volume_encrypt_boot": true, "ami_org_arns": []string{org}},
			[]string{"ami_org_arns", "root_volume_encrypt_boot is true", "alias/aws/ebs"}, false},
		"blocked AMIs": {harness.O{"region": harness.Elsewhere, "block_public_images": true}, harness.O{"ami_groups": []string{"all"}, "ami_regions": []string{harness.Elsewhere}},
			[]string{"ami_groups", "Block public access for AMIs", harness.Elsewhere}, false},
		"blocked snapshots": {harness.O{"block_public_snapshots": "block-all-sharing"}, harness.O{"snapshot_groups": []string{"all"}},
			[]string{"snapshot_groups", "Block public access for snapshots", harness.Region}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.In(t)
			settings(b, test.setting)
			forget(b)
			sign := filepath.Join(b.Dir, "provisioned")
			all := harness.O{"ami_name": strings.ReplaceAll(name, ",", "")}
			for option, value := range test.options {
				all[option] = value
			}
			b.Fails(b.Template(harness.Flavors[0].Basic(all), harness.O{"type": "shell-local", "inline": []string{"touch " + sign}}), test.says...)
			if _, err := os.Stat(sign); err == nil {
				t.Error("it was provisioned")
			}
			var made []string
			for _, c := range b.Calls() {
				if slices.Contains([]string{"CreateVolume", "AttachVolume", "CreateSnapshot", "RegisterImage", "CopyImage"}, c.Action) {
					made = append(made, c.Action)
				}
			}
			if want := []string{"CreateVolume"}; test.creates != slices.Equal(made, want) || !test.creates && made != nil {
				t.Errorf("it called %v", made)
			}
			b.Clean()
		})
	}
}

// settings sets the account's settings in all regions.
func settings(b *harness.Box, setting harness.O) {
	b.Helper()
	none := harness.O{
		"encrypt_by_default": false, "default_key": "", "block_public_images": false, "block_public_snapshots": "unblocked",
		"public_images": 0, "allowed_images": "disabled", "allowed_providers": []string{},
	}
	b.Control(http.MethodPost, "settings", []harness.O{none, setting}, nil)
}

// TestHiddenSourceAMI checks that a source AMI of another owner that is hidden by the
// account's Allowed AMIs setting is not found, and that the error names the setting.
func TestHiddenSourceAMI(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t, "--key", harness.OtherKeyID+":"+harness.Secret+":"+harness.OtherAccount, "--setting", `{"allowed_images":"enabled","allowed_providers":["aws-marketplace"]}`)
	theirs := b.ForeignImage("theirs", true)
	for name, options := range map[string]harness.O{
		"id":     {"source_ami": theirs},
		"filter": {"source_ami": nil, "source_ami_filter": harness.O{"owners": []string{harness.OtherAccount}, "filters": harness.O{"name": "theirs"}}},
	} {
		b.Fails(ours(b, "on "+name, options), "Allowed AMIs is enabled in "+harness.Region, "aws-marketplace", "ec2:ReplaceImageCriteriaInAllowedImagesSettings")
	}
	b.Control(http.MethodPost, "settings", harness.O{"allowed_providers": []string{harness.OtherAccount}}, nil)
	b.Build(ours(b, "allowed", harness.O{"source_ami": theirs}))
}
