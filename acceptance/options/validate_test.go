package options

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// template is one of the templates that are compared with the public plugin.
type template struct {
	name string
	// options are over those of the basic example; nil takes one away.
	options map[string]any
	// refused is the option that the docs give as the reason if the public plugin accepts the template and this one
	// does not, or "".
	refused string
	// newer says that the public plugin of that version has no such option.
	newer bool
}

// scratch returns the options of the page's example from scratch, with others over them.
func scratch(more harness.O) harness.O {
	all := harness.O{
		"source_ami": nil, "from_scratch": true, "ami_virtualization_type": "hvm",
		"pre_mount_commands": []string{"parted {{.Device}} mklabel msdos mkpart primary 1M 100% set 1 boot on print", "mkfs.ext4 {{.Device}}1"},
		"root_volume_size":   15, "root_device_name": "xvda",
		"ami_block_device_mappings": []harness.O{{"device_name": "xvda", "delete_on_termination": true, "volume_type": "gp2"}},
	}
	maps.Copy(all, more)
	return all
}

// mapped returns options with block device mappings as the public plugin requires them: with the root's name and
// size.
func mapped(devices ...harness.O) harness.O {
	return harness.O{"root_device_name": "xvda", "root_volume_size": 10, "ami_block_device_mappings": devices}
}

// Values in the templates.
const (
	account = "123456789012"
	kmsKey  = "1234abcd-12ab-34cd-56ef-1234567890ab"
	roleID  = "arn:aws:iam::123456789012:role/build"
	org     = "arn:aws:organizations::123456789012:organization/o-a1b2c3d4e5"
	unit    = "arn:aws:organizations::123456789012:ou/o-a1b2c3d4e5/ou-ab12-12345678"
)

// debian is a filter that finds one image.
var debian = harness.O{"owners": []string{"136693071363"}, "most_recent": true, "filters": harness.O{"name": "debian-12-*", "virtualization-type": "hvm", "root-device-type": "ebs"}}

// sdh is a mapping of a blank volume.
func sdh(more harness.O) harness.O {
	d := harness.O{"device_name": "/dev/sdh", "volume_size": 8}
	maps.Copy(d, more)
	return d
}

// allTemplates returns all templates.
func allTemplates() []template {
	return slices.Concat(rightTemplates(), wrongTemplates(), refusedTemplates())
}

// rightTemplates have every option alone, and usual combinations.
func rightTemplates() []template {
	soon := time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339)
	return []template{
		{name: "basic"},
		{name: "keys", options: harness.O{"access_key": "a", "secret_key": "b"}},
		{name: "keys and token", options: harness.O{"access_key": "a", "secret_key": "b", "token": "c"}},
		{name: "profile", options: harness.O{"profile": "builds"}},
		{name: "shared_credentials_file", options: harness.O{"shared_credentials_file": "/nowhere/credentials"}},
		{name: "mfa_code", options: harness.O{"mfa_code": "123456"}},
		{name: "region", options: harness.O{"region": "eu-west-1"}},
		{name: "max_retries", options: harness.O{"max_retries": 3}},
		{name: "skip_credential_validation", options: harness.O{"skip_credential_validation": true}},
		{name: "skip_metadata_api_check", newer: true, options: harness.O{"skip_metadata_api_check": true, "instance_id": "i-0123456789abcdef0"}},
		{name: "decode_authorization_messages", options: harness.O{"decode_authorization_messages": true}},
		{name: "custom_endpoint_ec2", options: harness.O{"custom_endpoint_ec2": "https://ec2.example.com"}},
		{name: "custom_endpoint_ec2 without a scheme", options: harness.O{"custom_endpoint_ec2": "ec2.example.com:8443"}},
		{name: "insecure_skip_tls_verify", options: harness.O{"insecure_skip_tls_verify": true}},
		{name: "aws_polling", options: harness.O{"aws_polling": harness.O{"delay_seconds": 30, "max_attempts": 50}}},
		{name: "aws_polling of a delay", options: harness.O{"aws_polling": harness.O{"delay_seconds": 30}}},
		{name: "assume_role", options: harness.O{"assume_role": harness.O{"role_arn": roleID}}},
		{name: "assume_role with all", options: harness.O{"assume_role": harness.O{
			"role_arn": roleID, "duration_seconds": 3600, "external_id": "us", "policy": `{"Version":"2012-10-17","Statement":[]}`,
			"policy_arns": []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}, "session_name": "packer",
			"tags": harness.O{"team": "a"}, "transitive_tag_keys": []string{"team"},
		}}},
		{name: "assume_role of nothing", options: harness.O{"assume_role": harness.O{"session_name": "packer"}}},
		{name: "endpoints", newer: true, options: harness.O{"use_fips_endpoint": true, "use_dualstack_endpoint": true, "custom_endpoint_metadata": "http://127.0.0.1:1"}},
		{name: "endpoint with a region", options: harness.O{"custom_endpoint_ec2": "https://ec2.{region}.example.com"}},
		{name: "instance_id", newer: true, options: harness.O{"instance_id": "i-0123456789abcdef0"}},
		{name: "vault", newer: true, options: harness.O{"vault_aws_engine": harness.O{"name": "images", "engine_name": "aws", "role_arn": roleID, "ttl": "3600s"}}},

		{name: "source_ami_filter", options: harness.O{"source_ami": nil, "source_ami_filter": debian}},
		{name: "source_ami and source_ami_filter", options: harness.O{"source_ami_filter": debian}},
		{name: "include_deprecated", newer: true, options: harness.O{"source_ami_filter": harness.O{"owners": []string{"self"}, "include_deprecated": true}}},

		{name: "ami_description", options: harness.O{"ami_description": "of {{.SourceAMI}} in {{.BuildRegion}}"}},
		{name: "ami_name of a function", options: harness.O{"ami_name": "a {{isotime | clean_resource_name}}"}},
		{name: "ami_virtualization_type", options: harness.O{"ami_virtualization_type": "paravirtual"}},
		{name: "ami_architecture", options: harness.O{"ami_architecture": "arm64"}},
		{name: "ami_architecture of a Mac", options: harness.O{"ami_architecture": "x86_64_mac"}},
		{name: "ena_support", options: harness.O{"ena_support": true}},
		{name: "ena_support off", options: harness.O{"ena_support": false}},
		{name: "sriov_support", options: harness.O{"sriov_support": true}},
		{name: "boot_mode", options: harness.O{"boot_mode": "legacy-bios"}},
		{name: "uefi_data", options: harness.O{"boot_mode": "uefi", "uefi_data": "QU1aTlVFRkk="}},
		{name: "uefi_data of arm64", options: harness.O{"ami_architecture": "arm64", "uefi_data": "QU1aTlVFRkk="}},
		{name: "imds_support", options: harness.O{"imds_support": "v2.0"}},
		{name: "tpm_support", newer: true, options: harness.O{"boot_mode": "uefi", "tpm_support": "v2.0"}},
		{name: "uefi-preferred", newer: true, options: harness.O{"boot_mode": "uefi-preferred"}},
		{name: "uefi_data of none", options: harness.O{"uefi_data": "none"}},

		{name: "tags", options: harness.O{"tags": harness.O{"a": "b", "{{.BuildRegion}}": "{{.SourceAMIName}}"}}},
		{name: "tag", options: harness.O{"tag": []harness.O{{"key": "a", "value": "{{.SourceAMITags.x}}"}, {"key": "b", "value": ""}}}},
		{name: "tags and tag", options: harness.O{"tags": harness.O{"a": "b"}, "tag": []harness.O{{"key": "c", "value": "d"}}}},
		{name: "snapshot_tags", options: harness.O{"snapshot_tags": harness.O{"a": "{{.SourceAMICreationDate}}"}}},
		{name: "snapshot_tag", options: harness.O{"snapshot_tag": []harness.O{{"key": "a", "value": "{{.SourceAMIOwner}}"}}}},
		{name: "root_volume_tags", options: harness.O{"root_volume_tags": harness.O{"a": "{{.SourceAMIOwnerName}}"}}},
		{name: "root_volume_tag", options: harness.O{"root_volume_tag": []harness.O{{"key": "a", "value": "b"}}}},
		{name: "force_deregister", options: harness.O{"force_deregister": true}},
		{name: "force_delete_snapshot", options: harness.O{"force_deregister": true, "force_delete_snapshot": true}},

		{name: "ami_users", options: harness.O{"ami_users": []string{account}}},
		{name: "ami_groups", options: harness.O{"ami_groups": []string{"all"}}},
		{name: "ami_org_arns", options: harness.O{"ami_org_arns": []string{org}}},
		{name: "ami_ou_arns", options: harness.O{"ami_ou_arns": []string{unit}}},
		{name: "ami_product_codes", options: harness.O{"ami_product_codes": []string{"abc"}}},
		{name: "snapshot_users", options: harness.O{"snapshot_users": []string{account}}},
		{name: "snapshot_groups", options: harness.O{"snapshot_groups": []string{"all"}}},
		{name: "ami_regions", options: harness.O{"ami_regions": []string{"us-east-1", "eu-central-1"}}},
		{name: "ami_regions with the build's own", options: harness.O{"region": "eu-west-1", "ami_regions": []string{"us-east-1", "eu-west-1"}}},
		{name: "ami_regions twice", options: harness.O{"ami_regions": []string{"us-east-1", "us-east-1"}}},
		{name: "skip_region_validation", options: harness.O{"ami_regions": []string{"mars-north-1"}, "skip_region_validation": true}},
		{name: "skip_save_build_region", options: harness.O{"ami_regions": []string{"us-east-1"}, "skip_save_build_region": true}},
		{name: "deprecate_at", newer: true, options: harness.O{"deprecate_at": soon}},
		{name: "deregistration_protection", newer: true, options: harness.O{"deregistration_protection": harness.O{"enabled": true, "with_cooldown": true}}},
		{name: "snapshot_copy_duration_minutes", newer: true, options: harness.O{"ami_regions": []string{"us-east-1"}, "snapshot_copy_duration_minutes": 30}},

		{name: "encrypt_boot", options: harness.O{"encrypt_boot": true}},
		{name: "encrypt_boot off", options: harness.O{"encrypt_boot": false}},
		{name: "kms_key_id", options: harness.O{"encrypt_boot": true, "kms_key_id": kmsKey}},
		{name: "kms_key_id of many regions", options: harness.O{"encrypt_boot": true, "kms_key_id": "mrk-1234abcd12ab34cd56ef1234567890ab"}},
		{name: "kms_key_id by alias", options: harness.O{"encrypt_boot": true, "kms_key_id": "alias/images"}},
		{name: "kms_key_id by ARN", options: harness.O{"encrypt_boot": true, "kms_key_id": "arn:aws:kms:us-east-1:123456789012:key/" + kmsKey}},
		{name: "kms_key_id by ARN of an alias", options: harness.O{"encrypt_boot": true, "kms_key_id": "arn:aws-us-gov:kms:us-gov-west-1:123456789012:alias/images"}},
		{name: "region_kms_key_ids", options: harness.O{"encrypt_boot": true, "ami_regions": []string{"us-east-1", "us-east-2"}, "region_kms_key_ids": harness.O{"us-east-1": "alias/a", "us-east-2": ""}}},
		{name: "region_kms_key_ids, all default", options: harness.O{"ami_regions": []string{"us-east-1"}, "region_kms_key_ids": harness.O{"us-east-1": ""}}},
		{name: "region_kms_key_ids of the build's own", options: harness.O{
			"region": "us-east-2", "encrypt_boot": true, "ami_regions": []string{"us-east-1", "us-east-2"},
			"region_kms_key_ids": harness.O{"us-east-1": "alias/a", "us-east-2": "alias/b"}, "ami_users": []string{account}, "snapshot_users": []string{account},
		}},
		{name: "shared and encrypted", options: harness.O{"encrypt_boot": true, "kms_key_id": kmsKey, "ami_users": []string{account}}},
		{name: "root_volume_encrypt_boot", options: harness.O{"root_volume_encrypt_boot": true}},
		{name: "root_volume_kms_key_id", options: harness.O{"root_volume_encrypt_boot": true, "root_volume_kms_key_id": "alias/images"}},
		{name: "root_volume_kms_key_id alone", options: harness.O{"root_volume_kms_key_id": "alias/images"}},

		{name: "chroot_mounts", options: harness.O{"chroot_mounts": [][]string{{"proc", "proc", "/proc"}, {"bind", "/dev", "/dev"}}}},
		{name: "command_wrapper", options: harness.O{"command_wrapper": "sudo {{.Command}}"}},
		{name: "copy_files", options: harness.O{"copy_files": []string{"/etc/hosts"}}},
		{name: "copy_files of none", options: harness.O{"copy_files": []string{}}},
		{name: "device_path", options: harness.O{"device_path": "/dev/xvdf"}},
		{name: "nvme_device_path", options: harness.O{"device_path": "/dev/sdf", "nvme_device_path": "/dev/nvme1n1p"}},
		{name: "mount_options", options: harness.O{"mount_options": []string{"nouuid", "noatime"}}},
		{name: "mount_partition", options: harness.O{"mount_partition": "2"}},
		{name: "mount_partition of a number", options: harness.O{"mount_partition": 0}},
		{name: "mount_path", options: harness.O{"mount_path": "/mnt/images/{{.Device}}"}},
		{name: "pre_mount_commands", options: harness.O{"pre_mount_commands": []string{"fsck {{.Device}}"}}},
		{name: "post_mount_commands", options: harness.O{"post_mount_commands": []string{"ls {{.Device}} {{.MountPath}}"}}},
		{name: "root_volume_size", options: harness.O{"root_volume_size": 20}},
		{name: "root_volume_type", options: harness.O{"root_volume_type": "gp3"}},
		{name: "root_volume_type io1", options: harness.O{"root_volume_type": "io1"}},
		{name: "housekeeping", newer: true, options: harness.O{"block_services": true, "clean_uploads": true, "mount_boot": false, "mount_fstab": false, "grow_root_filesystem": true, "pre_unmount_commands": []string{"fstrim {{.MountPath}}"}}},
		{name: "root performance", newer: true, options: harness.O{"root_volume_type": "gp3", "root_volume_iops": 4000, "root_volume_throughput": 500}},

		{name: "scratch", options: scratch(nil)},
		{name: "scratch with a source", options: scratch(harness.O{"source_ami": "ami-e81d5881", "source_ami_filter": debian})},
		{name: "mapping", options: mapped(harness.O{"device_name": "xvda", "delete_on_termination": true}, sdh(nil))},
		{name: "mapping of a snapshot", options: mapped(sdh(harness.O{"volume_size": 0, "snapshot_id": "snap-11111111"}))},
		{name: "mapping of an instance store", options: mapped(harness.O{"device_name": "/dev/sdb", "virtual_name": "ephemeral0"})},
		{name: "mapping of none", options: mapped(harness.O{"device_name": "/dev/sdb", "no_device": true})},
		{name: "mapping of gp3", options: mapped(sdh(harness.O{"volume_type": "gp3", "iops": 4000, "throughput": 500}))},
		{name: "mapping of io1", options: mapped(sdh(harness.O{"volume_type": "io1", "iops": 400}))},
		{name: "mapping of io2", options: mapped(sdh(harness.O{"volume_type": "io2", "iops": 4000}))},
		{name: "mapping of st1", options: mapped(sdh(harness.O{"volume_type": "st1", "volume_size": 500}))},
		{name: "mapping encrypted", options: mapped(sdh(harness.O{"encrypted": true}), harness.O{"device_name": "xvda", "encrypted": true, "kms_key_id": kmsKey})},
		{name: "mapping not encrypted", options: mapped(sdh(harness.O{"encrypted": false}))},
		{name: "the page's NVMe example", options: harness.O{
			"region": "us-east-2", "source_ami": nil, "ena_support": true, "nvme_device_path": "/dev/nvme1n1p", "device_path": "/dev/sdf",
			"source_ami_filter": harness.O{"filters": harness.O{"virtualization-type": "hvm", "name": "amzn-ami-hvm-*", "root-device-type": "ebs"}, "owners": []string{"137112412989"}, "most_recent": true},
		}},
		{name: "a whole release", options: harness.O{
			"region": "eu-west-1", "ami_regions": []string{"us-east-1"}, "ami_users": []string{account}, "snapshot_users": []string{account},
			"encrypt_boot": true, "kms_key_id": "alias/images", "region_kms_key_ids": harness.O{"us-east-1": "alias/images"},
			"tags": harness.O{"Name": "web"}, "snapshot_tags": harness.O{"Name": "web root"}, "root_volume_tags": harness.O{"Name": "builds web"}, "force_deregister": true,
			"force_delete_snapshot": true, "ami_description": "web", "command_wrapper": "sudo {{.Command}}",
		}},
	}
}

// wrongTemplates are refused by both.
func wrongTemplates() []template {
	return []template{
		{name: "no source", options: harness.O{"source_ami": nil}},
		{name: "no name", options: harness.O{"ami_name": nil}},
		{name: "a name with a colon", options: harness.O{"ami_name": "a:b:c"}},
		{name: "half a pair of keys", options: harness.O{"access_key": "a"}},
		{name: "an unknown option", options: harness.O{"souce_ami": "ami-1"}},
		{name: "a key without encryption", options: harness.O{"kms_key_id": kmsKey}},
		{name: "a region without a key", options: harness.O{"encrypt_boot": true, "ami_regions": []string{"us-east-1", "us-east-2"}, "region_kms_key_ids": harness.O{"us-east-1": "alias/a"}}},
		{name: "shared with the default key", options: harness.O{"encrypt_boot": true, "ami_users": []string{account}}},
		{name: "a mount of two", options: harness.O{"chroot_mounts": [][]string{{"bind", "/dev"}}}},
		{name: "scratch without a size", options: scratch(harness.O{"root_volume_size": nil})},
		{name: "a wrong architecture", options: harness.O{"ami_architecture": "vax"}},
		{name: "a wrong boot_mode", options: harness.O{"boot_mode": "bios"}},
		{name: "UEFI data on BIOS", options: harness.O{"boot_mode": "legacy-bios", "uefi_data": "QUFB"}},
	}
}

// refusedTemplates are accepted by the public plugin and refused by this one. The docs give the reasons.
func refusedTemplates() []template {
	return []template{
		{name: "owners missing", refused: "source_ami_filter", options: harness.O{"source_ami": nil, "source_ami_filter": harness.O{"filters": harness.O{"name": "debian-*"}, "most_recent": true}}},
		{name: "owners wrong", refused: "source_ami_filter", options: harness.O{"source_ami_filter": harness.O{"owners": []string{"Not An Owner"}}}},
		{name: "owners alone", refused: "source_ami_filter", options: harness.O{"source_ami": nil, "source_ami_filter": harness.O{"owners": []string{"self"}}}},
		{name: "source_ami of a name", refused: "source_ami", options: harness.O{"source_ami": "debian"}},
		{name: "mfa_code of letters", refused: "mfa_code", options: harness.O{"mfa_code": "secret"}},
		{name: "no metadata and no instance", refused: "skip_metadata_api_check", options: harness.O{"skip_metadata_api_check": true}},
		{name: "max_retries below 0", refused: "max_retries", options: harness.O{"max_retries": -1}},
		{name: "a token alone", refused: "token", options: harness.O{"token": "t"}},
		{name: "a role that is none", refused: "assume_role", options: harness.O{"assume_role": harness.O{"role_arn": "build"}}},
		{name: "a session of a minute", refused: "assume_role", options: harness.O{"assume_role": harness.O{"role_arn": roleID, "duration_seconds": 60}}},
		{name: "an endpoint that is none", refused: "custom_endpoint_ec2", options: harness.O{"custom_endpoint_ec2": "ftp://example.com"}},
		{name: "polling below 0", refused: "aws_polling", options: harness.O{"aws_polling": harness.O{"delay_seconds": -1}}},
		{name: "a group that is none", refused: "ami_groups", options: harness.O{"ami_groups": []string{"friends"}}},
		{name: "a snapshot group that is none", refused: "snapshot_groups", options: harness.O{"snapshot_groups": []string{"friends"}}},
		{name: "a user that is none", refused: "ami_users", options: harness.O{"ami_users": []string{"me"}}},
		{name: "a snapshot user that is none", refused: "snapshot_users", options: harness.O{"snapshot_users": []string{"me"}}},
		{name: "an organization that is none", refused: "ami_org_arns", options: harness.O{"ami_org_arns": []string{"us"}}},
		{name: "a unit that is none", refused: "ami_ou_arns", options: harness.O{"ami_ou_arns": []string{"us"}}},
		{name: "a product code of nothing", refused: "ami_product_codes", options: harness.O{"ami_product_codes": []string{""}}},
		{name: "a region of nothing", refused: "ami_regions", options: harness.O{"ami_regions": []string{""}}},
		{name: "no image left", refused: "skip_save_build_region", options: harness.O{"skip_save_build_region": true}},
		{name: "public and encrypted", refused: "encrypt_boot", options: harness.O{"encrypt_boot": true, "kms_key_id": kmsKey, "ami_groups": []string{"all"}}},
		{name: "shared with a default key elsewhere", refused: "encrypt_boot", options: harness.O{"encrypt_boot": true, "kms_key_id": kmsKey, "ami_users": []string{account}, "ami_regions": []string{"us-east-1"}}},
		{name: "public and a root that is encrypted", refused: "ami_groups", options: harness.O{"root_volume_encrypt_boot": true, "ami_groups": []string{"all"}}},
		{name: "public and a device that is encrypted", refused: "ami_groups", options: func() harness.O {
			all := mapped(sdh(harness.O{"encrypted": true}))
			all["ami_groups"] = []string{"all"}
			return all
		}()},
		{name: "public snapshots of an encrypted device", refused: "snapshot_groups", options: func() harness.O {
			all := mapped(sdh(harness.O{"encrypted": true}))
			all["snapshot_groups"] = []string{"all"}
			return all
		}()},
		{name: "shared with AWS's key", refused: "kms_key_id", options: harness.O{"encrypt_boot": true, "kms_key_id": "alias/aws/ebs", "ami_users": []string{account}}},
		{name: "a root shared with AWS's key", refused: "root_volume_kms_key_id", options: harness.O{"root_volume_kms_key_id": "alias/aws/ebs", "ami_users": []string{account}}},
		{name: "a key of another region", refused: "kms_key_id", options: harness.O{"region": "us-east-2", "encrypt_boot": true, "kms_key_id": "arn:aws:kms:us-east-1:123456789012:key/" + kmsKey}},
		{name: "a root key that is none", refused: "root_volume_kms_key_id", options: harness.O{"root_volume_kms_key_id": "images"}},
		{name: "an unknown virtualization", refused: "ami_virtualization_type", options: harness.O{"ami_virtualization_type": "xen"}},
		{name: "ENA on paravirtual", refused: "ami_virtualization_type", options: harness.O{"ami_virtualization_type": "paravirtual", "ena_support": true}},
		{name: "arm64 on BIOS", refused: "boot_mode", options: harness.O{"ami_architecture": "arm64", "boot_mode": "legacy-bios"}},
		{name: "UEFI data of no base64", refused: "uefi_data", options: harness.O{"boot_mode": "uefi", "uefi_data": "!"}},
		{name: "a tag twice", refused: "tag", options: harness.O{"tag": []harness.O{{"key": "a", "value": "b"}, {"key": "a", "value": "c"}}}},
		{name: "a tag of what is not known", refused: "tags", options: harness.O{"tags": harness.O{"a": "{{.SourceName}}"}}},
		{name: "a description of what is not known", refused: "ami_description", options: harness.O{"ami_description": "{{.SourceName}}"}},
		{name: "commands of what is not known", refused: "pre_mount_commands", options: harness.O{"pre_mount_commands": []string{"ls {{.Path}}"}}},
		{name: "a description that is long", refused: "ami_description", options: harness.O{"ami_description": strings.Repeat("x", 256)}},
		{name: "a reserved tag", refused: "tags", options: harness.O{"tags": harness.O{"aws:name": "x"}}},
		{name: "a tag of the environment", refused: "tags", options: harness.O{"tags": harness.O{"a": "{{env `HOME`}}"}}},
		{name: "a wrapper of nothing", refused: "command_wrapper", options: harness.O{"command_wrapper": "sudo"}},
		{name: "a device of the kernel", refused: "device_path", options: harness.O{"device_path": "/dev/nvme1n1"}},
		{name: "a mapping of no device", refused: "ami_block_device_mappings", options: mapped(sdh(harness.O{"device_name": "/dev/nvme1n1"}))},
		{name: "a partition that is none", refused: "mount_partition", options: harness.O{"mount_partition": "root"}},
		{name: "a relative mount_path", refused: "mount_path", options: harness.O{"mount_path": "mnt"}},
		{name: "a relative file", refused: "copy_files", options: harness.O{"copy_files": []string{"hosts"}}},
		{name: "a device that is none", refused: "device_path", options: harness.O{"device_path": "xvdf"}},
		{name: "an NVMe device that is none", refused: "nvme_device_path", options: harness.O{"nvme_device_path": "nvme1n1p"}},
		{name: "a volume type that is none", refused: "root_volume_type", options: harness.O{"root_volume_type": "ssd"}},
		{name: "a root of st1", refused: "root_volume_type", options: harness.O{"root_volume_type": "st1"}},
		{name: "a root of io1 from scratch", refused: "root_volume_type", options: scratch(harness.O{"root_volume_type": "io1"})},
		{name: "a root of less than nothing", refused: "root_volume_size", options: harness.O{"root_volume_size": -1}},
		{name: "a mapping without a size", refused: "ami_block_device_mappings", options: mapped(harness.O{"device_name": "/dev/sdh"})},
		{name: "a mapping of an unknown type", refused: "ami_block_device_mappings", options: mapped(sdh(harness.O{"volume_type": "ssd"}))},
		{name: "a mapping of io1 without iops", refused: "ami_block_device_mappings", options: mapped(sdh(harness.O{"volume_type": "io1"}))},
		{name: "a mapping of gp2 with iops", refused: "ami_block_device_mappings", options: mapped(sdh(harness.O{"volume_type": "gp2", "iops": 3000}))},
		{name: "a mapping of gp3 with few iops", refused: "ami_block_device_mappings", options: mapped(sdh(harness.O{"volume_type": "gp3", "iops": 100}))},
		{name: "a mapping of gp2 with throughput", refused: "ami_block_device_mappings", options: mapped(sdh(harness.O{"volume_type": "gp2", "throughput": 200}))},
		{name: "a mapping with a key alone", refused: "ami_block_device_mappings", options: mapped(sdh(harness.O{"kms_key_id": kmsKey}))},
		{name: "a mapping of another volume with a key", refused: "ami_block_device_mappings", options: mapped(sdh(harness.O{"encrypted": true, "kms_key_id": kmsKey}))},
		{name: "a mapping twice", refused: "ami_block_device_mappings", options: mapped(sdh(nil), sdh(nil))},
		{name: "a mapping of what is no snapshot", refused: "ami_block_device_mappings", options: mapped(sdh(harness.O{"snapshot_id": "foo"}))},
		{name: "a root with a snapshot", refused: "ami_block_device_mappings", options: mapped(harness.O{"device_name": "xvda", "snapshot_id": "snap-1"})},
		{name: "a scratch root that is not mapped", refused: "ami_block_device_mappings", options: scratch(harness.O{"root_device_name": "xvdb"})},
	}
}

// all are the template's options with those of the basic example.
func (c template) all() harness.O {
	all := harness.O{"source_ami": "ami-e81d5881", "ami_name": "packer-amazon-chroot"}
	maps.Copy(all, c.options)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	return all
}

// json is the template as Packer has always had them.
func (c template) json() any {
	builder := c.all()
	builder["type"] = "amazon-chroot"
	return harness.O{"builders": []harness.O{builder}}
}

// hcl2 is the same in HCL2, in its JSON syntax.
func (c template) hcl2() any {
	return harness.O{"source": harness.O{"amazon-chroot": harness.O{"x": c.all()}}, "build": harness.O{"sources": []string{"source.amazon-chroot.x"}}}
}

// validator is a packer with one of the two plugins.
type validator struct {
	t   *testing.T
	dir string
	env []string
}

func newValidator(t *testing.T, plugins string) validator {
	t.Helper()
	dir := harness.ShortDir(t)
	return validator{t: t, dir: dir, env: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "PACKER_CONFIG_DIR=" + dir, "CHECKPOINT_DISABLE=1",
		"PACKER_PLUGIN_PATH=" + plugins, "AWS_EC2_METADATA_DISABLED=true",
	}}
}

// accepts runs packer validate on a template and returns its output.
func (v validator) accepts(name string, template any) (bool, string) {
	v.t.Helper()
	content, err := json.Marshal(template)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.valid(name, content)
}

// valid runs packer validate on a file with this content.
func (v validator) valid(name string, content []byte) (bool, string) {
	v.t.Helper()
	path := filepath.Join(v.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		v.t.Fatal(err)
	}
	cmd := exec.Command(harness.Programs.Packer, "validate", path)
	cmd.Env, cmd.Dir = v.env, v.dir
	out, err := cmd.CombinedOutput()
	return err == nil, string(out)
}

// TestCorpusIsValid checks that all valid templates are accepted together, in one
// template.
func TestCorpusIsValid(t *testing.T) {
	harness.NeedRoot(t)
	sources, names := harness.O{}, []string{}
	for i, c := range rightTemplates() {
		name := fmt.Sprintf("t%d", i)
		sources[name] = c.all()
		names = append(names, "source.amazon-chroot."+name)
	}
	ok, out := newValidator(t, harness.Programs.Plugins).accepts("all.pkr.json", harness.O{"source": harness.O{"amazon-chroot": sources}, "build": harness.O{"sources": names}})
	if !ok {
		t.Errorf("refused:\n%s", out)
	}
	if len(names) < 60 {
		t.Errorf("there are %d valid templates", len(names))
	}
}

// TestPeerValidates checks that this plugin accepts every template that the public plugin accepts, with
// the documented exceptions. `make peer` runs it.
func TestPeerValidates(t *testing.T) {
	plugin := os.Getenv("PEER_PLUGIN")
	if plugin == "" {
		t.Skip("PEER_PLUGIN is not set: make peer sets it")
	}
	harness.NeedRoot(t)
	peer, ours := newValidator(t, harness.PeerPlugins(t, plugin)), newValidator(t, harness.Programs.Plugins)
	for _, c := range allTemplates() {
		for file, content := range map[string]any{"t.json": c.json(), "t.pkr.json": c.hcl2()} {
			theirs, theyToldUs := peer.accepts(file, content)
			accepted, told := ours.accepts(file, content)
			switch {
			case c.newer && !accepted:
				t.Errorf("%s (%s) is refused:\n%s", c.name, file, told)
			case c.newer && theirs:
				t.Errorf("%s (%s) is accepted by the public plugin, so it is not newer", c.name, file)
			case theirs && !accepted && c.refused == "":
				t.Errorf("%s (%s) is accepted by the public plugin, and refused here:\n%s", c.name, file, told)
			case c.refused != "" && (accepted || !theirs):
				t.Errorf("%s (%s) should be accepted by the public plugin (it is: %t) and refused here (it is: %t):\n%s%s",
					c.name, file, theirs, !accepted, theyToldUs, told)
			}
		}
	}
}

// TestRefusalsAreDocumented checks that each option for which a template is
// refused has a row in the docs, and that each row has a template.
func TestRefusalsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/options-amazon.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "## Differences from the public amazon plugin")
	if !found {
		t.Fatal("the page does not say what is refused")
	}
	var told, refused []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\|").FindAllStringSubmatch(table, -1) {
		told = append(told, row[1])
	}
	for _, c := range refusedTemplates() {
		refused = append(refused, c.refused)
	}
	slices.Sort(told)
	slices.Sort(refused)
	if refused = slices.Compact(refused); !slices.Equal(told, refused) {
		t.Errorf("the docs list %q, and the templates have %q", told, refused)
	}
}

// TestErrorsAreReportedOnce checks that each error of a template is printed once, on a line of
// its own and without Go's terms, for both template languages.
func TestErrorsAreReportedOnce(t *testing.T) {
	harness.NeedRoot(t)
	v := newValidator(t, harness.Programs.Plugins)
	for name, options := range map[string]harness.O{
		"amazon-chroot": {"source_ami": "ami-e81d5881", "ami_name": "a", "ami_users": []string{"me"}},
		"osc-chroot":    {"source_omi": "ami-e81d5881", "omi_name": "a", "omi_account_ids": []string{"me"}},
	} {
		maps.Copy(options, harness.O{"snapshot_users": []string{"me"}, "mount_partition": "one", "command_wrapper": "sudo"})
		for file, template := range map[string]any{
			"t.json":     harness.O{"builders": []harness.O{merged(options, harness.O{"type": name})}},
			"t.pkr.json": harness.O{"source": harness.O{name: harness.O{"x": options}}, "build": harness.O{"sources": []string{"source." + name + ".x"}}},
		} {
			ok, out := v.accepts(file, template)
			if ok {
				t.Errorf("%s: %s is accepted", name, file)
			}
			for _, text := range []string{"snapshot_users[0] is ", "mount_partition is ", "command_wrapper is ", "_name \"a\" has ", "[0] is \"me\""} {
				want := 1
				if text == "[0] is \"me\"" {
					want = 2
				}
				if got := strings.Count(out, text); got != want {
					t.Errorf("%s: %s says %q %d times:\n%s", name, file, text, got, out)
				}
			}
			for line := range strings.Lines(out) {
				if strings.Count(line, ", but must ") > 1 {
					t.Errorf("%s: %s has two errors on a line: %s", name, file, line)
				}
			}
		}
		_, out := v.accepts("types.json", harness.O{"builders": []harness.O{merged(options, harness.O{"type": name, "root_volume_size": "ten", "tags": "x", "snapshot_users": harness.O{"a": harness.O{"b": "c"}}})}})
		for _, text := range []string{`root_volume_size must be a whole number, and is "ten"`, "tags must be a map, and is a string", "snapshot_users[0] must be a string, and is a map"} {
			if strings.Count(out, text) != 1 {
				t.Errorf("%s: %q is not said once:\n%s", name, text, out)
			}
		}
		_, out = v.accepts("unknown.json", harness.O{"builders": []harness.O{merged(options, harness.O{"type": name, "mont_path": "/x"})}})
		if strings.Count(out, "mont_path is not an option: did you mean mount_path?") != 1 {
			t.Errorf("%s: no suggestion:\n%s", name, out)
		}
	}
}

// merged returns options with others over them.
func merged(options, more harness.O) harness.O {
	all := maps.Clone(options)
	maps.Copy(all, more)
	return all
}
