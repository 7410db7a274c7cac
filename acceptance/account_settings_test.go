package acceptance

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSettingsOfTheAccount: where the account's settings would have EC2 refuse to share the
// AMI, the build ends before anything is provisioned, says which option and setting it is,
// and leaves nothing.
func TestSettingsOfTheAccount(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	for name, test := range map[string]struct {
		setting o
		options o
		says    []string
		// creates says that only the new volume shows it.
		creates bool
	}{
		"encryption by default": {o{"encrypt_by_default": true}, o{"ami_users": []string{otherAccount}},
			[]string{"ami_users", "encryption by default is on in " + region, "alias/aws/ebs", "give root_volume_kms_key_id"}, true},
		"encryption by default, public": {o{"encrypt_by_default": true, "default_key": "alias/own"}, o{"ami_groups": []string{"all"}},
			[]string{"ami_groups", "nothing encrypted can be public"}, true},
		"encryption by default of copies": {o{"region": elsewhere, "encrypt_by_default": true}, o{"snapshot_users": []string{otherAccount}, "ami_regions": []string{elsewhere}},
			[]string{"snapshot_users", "the copy in " + elsewhere}, false},
		"the default key": {o{}, o{"root_volume_encrypt_boot": true, "ami_org_arns": []string{org}},
			[]string{"ami_org_arns", "root_volume_encrypt_boot is true", "alias/aws/ebs"}, false},
		"blocked AMIs": {o{"region": elsewhere, "block_public_images": true}, o{"ami_groups": []string{"all"}, "ami_regions": []string{elsewhere}},
			[]string{"ami_groups", "Block public access for AMIs", elsewhere}, false},
		"blocked snapshots": {o{"block_public_snapshots": "block-all-sharing"}, o{"snapshot_groups": []string{"all"}},
			[]string{"snapshot_groups", "Block public access for snapshots", region}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			b.settings(test.setting)
			b.forget()
			sign := filepath.Join(b.dir, "provisioned")
			all := o{"ami_name": strings.ReplaceAll(name, ",", "")}
			for option, value := range test.options {
				all[option] = value
			}
			b.fails(b.template(flavors[0].basic(all), o{"type": "shell-local", "inline": []string{"touch " + sign}}), test.says...)
			if _, err := os.Stat(sign); err == nil {
				t.Error("it was provisioned")
			}
			var made []string
			for _, c := range b.calls() {
				if slices.Contains([]string{"CreateVolume", "AttachVolume", "CreateSnapshot", "RegisterImage", "CopyImage"}, c.Action) {
					made = append(made, c.Action)
				}
			}
			if want := []string{"CreateVolume"}; test.creates != slices.Equal(made, want) || !test.creates && made != nil {
				t.Errorf("it called %v", made)
			}
			b.clean()
		})
	}
	b.t = t
}

// settings sets what the account has, in all regions nothing but this.
func (b *box) settings(setting o) {
	b.t.Helper()
	none := o{
		"encrypt_by_default": false, "default_key": "", "block_public_images": false, "block_public_snapshots": "unblocked",
		"public_images": 0, "allowed_images": "disabled", "allowed_providers": []string{},
	}
	b.control(http.MethodPost, "settings", []o{none, setting}, nil)
}

// TestHiddenSourceAMI: a source AMI of others that the account's Allowed AMIs hide is not
// found, and the error names the setting.
func TestHiddenSourceAMI(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t, "--key", otherKeyID+":"+secret+":"+otherAccount, "--setting", `{"allowed_images":"enabled","allowed_providers":["aws-marketplace"]}`)
	theirs := b.foreign("theirs", true)
	for name, options := range map[string]o{
		"id":     {"source_ami": theirs},
		"filter": {"source_ami": nil, "source_ami_filter": o{"owners": []string{otherAccount}, "filters": o{"name": "theirs"}}},
	} {
		b.fails(b.ours("on "+name, options), "Allowed AMIs is enabled in "+region, "aws-marketplace", "ec2:ReplaceImageCriteriaInAllowedImagesSettings")
	}
	b.control(http.MethodPost, "settings", o{"allowed_providers": []string{otherAccount}}, nil)
	b.build(b.ours("allowed", o{"source_ami": theirs}))
}
