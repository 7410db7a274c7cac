package amazon

import (
	"maps"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

// TestInvalidOptionCombinations has one invalid combination at a time. The one error must name it.
func TestInvalidOptionCombinations(t *testing.T) {
	type give = map[string]any
	filter := func(more give) give {
		f := give{"owners": []any{"self"}, "filters": give{"name": "x"}}
		maps.Copy(f, more)
		return give{"source_ami": nil, "source_ami_filter": f}
	}
	role := func(more give) give {
		r := give{"role_arn": "arn:aws:iam::123456789012:role/build"}
		maps.Copy(r, more)
		return give{"assume_role": r}
	}
	vault := func(engine give) give {
		return give{"access_key": nil, "secret_key": nil, "vault_aws_engine": engine}
	}
	var refusals []buildertest.Refusal
	for _, test := range []buildertest.Refusal{
		{"no metadata and no instance", give{"skip_metadata_api_check": true}, []string{"instance_id is required with skip_metadata_api_check"}},
		{"token alone", give{"access_key": nil, "secret_key": nil, "token": "t"}, []string{"token is given without access_key"}},
		{"an unknown option", give{"souce_ami": "ami-1"}, []string{"souce_ami is not an option: did you mean source_ami?"}},
		{"an unknown option of a mapping", give{"ami_block_device_mappings": []any{buildertest.Device(give{"encryptd": true})}}, []string{"ami_block_device_mappings[0].encryptd is not an option: did you mean encrypted?"}},
		{"an unknown option of a block", give{"assume_role": give{"role_am": "x"}}, []string{"role_am is not an option: did you mean role_arn?"}},
		{"a size that is no number", give{"root_volume_size": "ten"}, []string{`root_volume_size must be a whole number, and is "ten"`}},
		{"a size with a fraction", give{"root_volume_size": 10.7}, []string{"root_volume_size must be a whole number, and is 10.7"}},
		{"a mapping's size with a fraction", give{"ami_block_device_mappings": []any{buildertest.Device(give{"volume_size": 1.5})}}, []string{"ami_block_device_mappings[0].volume_size must be a whole number, and is 1.5"}},
		{"encryption that is none", give{"encrypt_boot": "yes please"}, []string{`encrypt_boot must be true or false, and is "yes please"`}},
		{"a wrapper of nothing", give{"command_wrapper": "sudo"}, []string{"command_wrapper", "must have {{.Command}}"}},
		{"the kernel's name as device_path", give{"device_path": "/dev/nvme1n1"}, []string{`device_path is "/dev/nvme1n1"`, "/dev/sdX"}},
		{"a device_path below a directory", give{"device_path": "/dev/disk"}, []string{`device_path is "/dev/disk"`}},
		{"env in a tag", give{"tags": give{"a": "{{env `HOME`}}"}}, []string{`tags "a" calls the function env`}},
		{"env in the description", give{"ami_description": "{{env `HOME`}}"}, []string{"ami_description calls the function env"}},
		{"env in the name", give{"ami_name": "{{env `HOME`}}"}, []string{"ami_name calls the function env"}},
		{"a field in the name", give{"ami_name": "of {{.SourceAMI}}"}, []string{"ami_name uses .SourceAMI"}},
		{"a long description", give{"ami_description": strings.Repeat("x", 256)}, []string{"ami_description", "256 characters", "255"}},
		{"a reserved tag", give{"snapshot_tags": give{"aws:name": "x"}}, []string{"snapshot_tags: tag", `"aws:name"`, `"aws:"`}},
		{"a tag with a long key", give{"tags": give{strings.Repeat("x", 129): "a"}}, []string{"tags: tag", "more than 128"}},
		{"a tag with a long value", give{"tag": []any{give{"key": "a", "value": strings.Repeat("x", 257)}}}, []string{"tags: tag", "more than 256"}},
		{"a mapping of no device", give{"ami_block_device_mappings": []any{buildertest.Device(give{"device_name": "/dev/nvme1n1"})}}, []string{"ami_block_device_mappings[0]", `device_name is "/dev/nvme1n1"`}},
		{"mfa_code", give{"mfa_code": "12345"}, []string{"mfa_code", "six digits"}},
		{"instance_id", give{"instance_id": "web"}, []string{"instance_id", `"web"`, "i-0123456789abcdef0"}},
		{"max_retries", give{"max_retries": -1}, []string{"max_retries is -1"}},
		{"metadata endpoint", give{"custom_endpoint_metadata": "ftp://x"}, []string{"custom_endpoint_metadata", "ftp://x"}},
		{"delay_seconds", give{"aws_polling": give{"delay_seconds": -1}}, []string{"aws_polling: delay_seconds is -1"}},
		{"max_attempts", give{"aws_polling": give{"max_attempts": -2}}, []string{"aws_polling: max_attempts is -2"}},
		{"vault and a key", give{"vault_aws_engine": give{"name": "x"}}, []string{"access_key and vault_aws_engine"}},
		{"vault without a role", vault(give{"engine_name": "aws"}), []string{"vault_aws_engine: name is required"}},
		{"vault's role_arn", vault(give{"name": "x", "role_arn": "build"}), []string{"vault_aws_engine: role_arn", `"build"`}},
		{"vault's ttl", vault(give{"name": "x", "ttl": "soon"}), []string{"vault_aws_engine: ttl", `"soon"`}},
		{"role_arn", role(give{"role_arn": "build"}), []string{"assume_role: role_arn", `"build"`, "arn:aws:iam"}},
		{"duration_seconds", role(give{"duration_seconds": 60}), []string{"assume_role: duration_seconds is 60", "900 to 43200"}},
		{"session_name", role(give{"session_name": "a b"}), []string{"assume_role: session_name", `"a b"`}},
		{"external_id", role(give{"external_id": "a b"}), []string{"assume_role: external_id", `"a b"`}},
		{"policy", role(give{"policy": "allow"}), []string{"assume_role: policy is not JSON"}},
		{"policy_arns", role(give{"policy_arns": []any{"ReadOnly"}}), []string{"assume_role.policy_arns[0]", `"ReadOnly"`}},
		{"transitive_tag_keys", role(give{"transitive_tag_keys": []any{"team"}}), []string{"transitive_tag_keys", `"team"`}},

		{"no source at all", give{"source_ami": nil}, []string{"source_ami is required, or source_ami_filter"}},
		{"no owners", filter(give{"owners": []any{}}), []string{"source_ami_filter: owners is required"}},
		{"a wrong owner", filter(give{"owners": []any{"self", "Me!"}}), []string{"source_ami_filter: owners[1]", `"Me!"`}},
		{"owners alone", filter(give{"filters": give{}}), []string{"source_ami_filter: filters is required"}},
		{"an empty filter", filter(give{"filters": give{"name": ""}}), []string{"source_ami_filter: filters", `"name"`}},

		{"architecture", give{"ami_architecture": "vax"}, []string{"ami_architecture", `"vax"`, "x86_64, arm64"}},
		{"boot_mode", give{"boot_mode": "bios"}, []string{"boot_mode", `"bios"`, "legacy-bios, uefi, uefi-preferred"}},
		{"tpm_support", give{"tpm_support": "v1.2"}, []string{"tpm_support", `"v1.2"`, "v2.0"}},
		{"imds_support", give{"imds_support": "v1.0"}, []string{"imds_support", `"v1.0"`, "v2.0"}},
		{"uefi_data", give{"boot_mode": "uefi", "uefi_data": "not base64!"}, []string{"uefi_data must be base64"}},
		{"uefi_data too long", give{"boot_mode": "uefi", "uefi_data": strings.Repeat("A", 64004)}, []string{"uefi_data has 64004 characters", "64000"}},
		{"uefi_data on BIOS", give{"boot_mode": "legacy-bios", "uefi_data": "QUFB"}, []string{"uefi_data needs boot_mode uefi"}},
		{"a TPM on BIOS", give{"boot_mode": "legacy-bios", "tpm_support": "v2.0"}, []string{"tpm_support needs boot_mode uefi", `"legacy-bios"`}},
		{"a TPM with uefi-preferred", give{"boot_mode": "uefi-preferred", "tpm_support": "v2.0"}, []string{"tpm_support needs boot_mode uefi", `"uefi-preferred"`}},
		{"arm64 on BIOS", give{"boot_mode": "legacy-bios", "ami_architecture": "arm64"}, []string{"boot_mode", "arm64"}},
		{"paravirtual with ENA", give{"ami_virtualization_type": "paravirtual", "ena_support": true}, []string{"ena_support", "paravirtual"}},
		{"paravirtual with SR-IOV", give{"ami_virtualization_type": "paravirtual", "sriov_support": true}, []string{"sriov_support", "paravirtual"}},
		{"paravirtual with UEFI", give{"ami_virtualization_type": "paravirtual", "boot_mode": "uefi"}, []string{"boot_mode", "paravirtual"}},
		{"paravirtual with a TPM", give{"ami_virtualization_type": "paravirtual", "tpm_support": "v2.0"}, []string{"tpm_support", "paravirtual"}},
		{"ena_support", give{"ena_support": "perhaps"}, []string{"ena_support", "perhaps"}},

		{"kms_key_id", give{"encrypt_boot": true, "kms_key_id": "images"}, []string{"kms_key_id", `"images"`, "alias/images"}},
		{"a key without encryption", give{"kms_key_id": "alias/a"}, []string{"kms_key_id needs encrypt_boot"}},
		{"a key of another region", give{"region": "eu-west-1", "encrypt_boot": true, "kms_key_id": "arn:aws:kms:us-east-1:123456789012:alias/a"}, []string{"kms_key_id is a key of region us-east-1", "eu-west-1"}},
		{"root_volume_kms_key_id", give{"root_volume_kms_key_id": "Z!"}, []string{"root_volume_kms_key_id", `"Z!"`}},
		{"the root's key without encryption", give{"root_volume_kms_key_id": "alias/a", "root_volume_encrypt_boot": false}, []string{"root_volume_kms_key_id needs root_volume_encrypt_boot"}},
		{"a key of no region", give{"encrypt_boot": true, "region_kms_key_ids": give{"us-east-1": "alias/a"}}, []string{"region_kms_key_ids has us-east-1", "ami_regions"}},
		{"a region without a key", give{"encrypt_boot": true, "ami_regions": []any{"us-east-1", "us-east-2"}, "region_kms_key_ids": give{"us-east-1": "alias/a"}}, []string{"ami_regions has us-east-2", "region_kms_key_ids"}},
		{"region keys without encryption", give{"ami_regions": []any{"us-east-1"}, "region_kms_key_ids": give{"us-east-1": "alias/a"}}, []string{"region_kms_key_ids needs encrypt_boot"}},
		{"a region's key of another", give{"encrypt_boot": true, "ami_regions": []any{"us-east-1"}, "region_kms_key_ids": give{"us-east-1": "arn:aws:kms:us-east-2:123456789012:key/1234abcd-12ab"}}, []string{`region_kms_key_ids["us-east-1"]`, "us-east-2"}},

		{"ami_users", give{"ami_users": []any{"1234"}}, []string{"ami_users[0]", `"1234"`, "12 digits"}},
		{"ami_groups", give{"ami_groups": []any{"some"}}, []string{"ami_groups[0]", `"some"`, "all"}},
		{"ami_org_arns", give{"ami_org_arns": []any{unit}}, []string{"ami_org_arns[0]", "organization/o-"}},
		{"ami_ou_arns", give{"ami_ou_arns": []any{organization}}, []string{"ami_ou_arns[0]", "ou/o-"}},
		{"ami_product_codes", give{"ami_product_codes": []any{""}}, []string{"ami_product_codes[0]"}},
		{"ami_regions", give{"ami_regions": []any{""}}, []string{"ami_regions[0]"}},
		{"no image left", give{"skip_save_build_region": true}, []string{"skip_save_build_region", "ami_regions"}},
		{"no image left but here", give{"region": "eu-west-1", "skip_save_build_region": true, "ami_regions": []any{"eu-west-1"}}, []string{"skip_save_build_region"}},
		{"copy duration", give{"snapshot_copy_duration_minutes": 20}, []string{"snapshot_copy_duration_minutes is 20", "15 to 2880"}},
		{"copy duration of days", give{"snapshot_copy_duration_minutes": 2895}, []string{"snapshot_copy_duration_minutes is 2895"}},
		{"deprecate_at", give{"deprecate_at": "tomorrow"}, []string{"deprecate_at", `"tomorrow"`, "2030-01-31T12:00:00Z"}},
		{"deprecated before it is made", give{"deprecate_at": fromNow(-1)}, []string{"deprecate_at", "future"}},
		{"deprecated too late", give{"deprecate_at": fromNow(3700)}, []string{"deprecate_at", "10 years"}},
		{"public, deprecated too late", give{"deprecate_at": fromNow(740), "ami_groups": []any{"all"}}, []string{"deprecate_at", "2 years"}},
		{"cooldown of nothing", give{"deregistration_protection": give{"with_cooldown": true}}, []string{"with_cooldown needs enabled"}},

		{"root of a hard disk", give{"root_volume_type": "st1"}, []string{"root_volume_type is st1", "hard disk"}},
		{"root of gp2 with iops", give{"root_volume_type": "gp2", "root_volume_iops": 3000}, []string{"root_volume_iops is for io1, io2 and gp3"}},
		{"root with few iops", give{"root_volume_type": "gp3", "root_volume_iops": 1000}, []string{"root_volume_iops is 1000", "3000 to 80000"}},
		{"root of io1 with iops for its size", give{"root_volume_type": "io1", "root_volume_size": 8, "root_volume_iops": 500}, []string{"root_volume_iops is 500", "50 for each of its 8 GiB"}},
		{"root with throughput", give{"root_volume_type": "io2", "root_volume_throughput": 200}, []string{"root_volume_throughput is for gp3"}},
		{"root with too much throughput", give{"root_volume_type": "gp3", "root_volume_throughput": 1000}, []string{"root_volume_throughput is 1000", "root_volume_iops of 4000"}},
		{"root with throughput below 0", give{"root_volume_throughput": -1}, []string{"root_volume_throughput is -1"}},
		{"root too large", give{"root_volume_type": "standard", "root_volume_size": 2000}, []string{"root_volume_size is 2000", "1 to 1024"}},
		{"key of a mapping", give{"ami_block_device_mappings": []any{buildertest.Device(give{"encrypted": true, "kms_key_id": "K"})}}, []string{"ami_block_device_mappings[0]", "kms_key_id", `"K"`}},
		{"key of a mapping that is not the root's", give{"root_device_name": "/dev/sda1", "ami_block_device_mappings": []any{buildertest.Device(give{"encrypted": true, "kms_key_id": "alias/k"})}}, []string{"ami_block_device_mappings[0]", `kms_key_id is "alias/k"`, "root device"}},
		{"a mapping with iops and no type", give{"ami_block_device_mappings": []any{buildertest.Device(give{"iops": 3000})}}, []string{"iops needs volume_type"}},
		{"a mapping of st1 that is small", give{"ami_block_device_mappings": []any{buildertest.Device(give{"volume_type": "st1"})}}, []string{"volume_size is 8", "125 to 16384"}},
		{"the root's mapping on a hard disk", give{"ami_block_device_mappings": []any{give{"device_name": "xvda", "volume_type": "sc1"}}}, []string{"volume_type is sc1", "hard disk"}},
		{"a mapping of gp3 with iops for its size", give{"ami_block_device_mappings": []any{buildertest.Device(give{"volume_type": "gp3", "iops": 5000})}}, []string{"iops is 5000", "500 for each of its 8 GiB"}},
	} {
		test.Give = with(t, test.Give)
		refusals = append(refusals, test)
	}
	buildertest.Refuses(t, Plugin, refusals)
}

// TestValidOptionCombinations has valid options that are similar to invalid combinations.
func TestValidOptionCombinations(t *testing.T) {
	type give = map[string]any
	for name, more := range map[string]give{
		"owners with a pin":              {"source_ami_filter": give{"owners": []any{"self"}}},
		"the newest of an owner":         {"source_ami": nil, "source_ami_filter": give{"owners": []any{"self"}, "most_recent": true}},
		"an unknown region":              {"ami_regions": []any{"mars-north-1"}},
		"UEFI data of the source's mode": {"uefi_data": "QUFB"},
		"ENA turned off on paravirtual":  {"ami_virtualization_type": "paravirtual", "ena_support": false, "boot_mode": "legacy-bios"},
		"no UEFI data on BIOS":           {"boot_mode": "legacy-bios", "uefi_data": "none"},
		"no UEFI data of paravirtual":    {"ami_virtualization_type": "paravirtual", "uefi_data": "none"},
		"a key by its id":                {"encrypt_boot": true, "kms_key_id": "1234abcd-12ab-34cd-56ef-1234567890ab"},
		"a key of China":                 {"encrypt_boot": true, "region": "cn-north-1", "kms_key_id": "arn:aws-cn:kms:cn-north-1:123456789012:key/mrk-1234abcd"},
		"a key of the government":        {"encrypt_boot": true, "kms_key_id": "arn:aws-us-gov:kms:us-gov-west-1:123456789012:alias/a"},
		"a small gp3 at its baseline":    {"root_volume_type": "gp3", "root_volume_size": 1, "root_volume_iops": 3000, "root_volume_throughput": 125},
		"a large gp3":                    {"root_volume_type": "gp3", "root_volume_size": 200, "root_volume_iops": 80000, "root_volume_throughput": 2000},
		"io2 at its ratio":               {"root_volume_type": "io2", "root_volume_size": 4, "root_volume_iops": 4000},
		"iops for the source's type":     {"root_volume_iops": 4000},
		"io1 like the source's":          {"root_volume_type": "io1"},
		"iops of the root's mapping":     {"ami_block_device_mappings": []any{give{"device_name": "xvda", "iops": 4000}}},
		"a vault ttl of seconds":         {"access_key": nil, "secret_key": nil, "vault_aws_engine": give{"name": "x", "ttl": "3600"}},
		"a role of China":                {"assume_role": give{"role_arn": "arn:aws-cn:iam::123456789012:role/a/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			var c Config
			if _, err := c.Prepare(with(t, more)); err != nil {
				t.Errorf("refused: %v", err)
			}
		})
	}
}

// TestUnusedOptionsWarn checks the warnings about options without effect: encrypt_boot uses
// one key for every volume, and an MFA code is for the role of a profile.
func TestUnusedOptionsWarn(t *testing.T) {
	type give = map[string]any
	root := func(key string) []any {
		return []any{give{"device_name": "/dev/xvda", "encrypted": true, "kms_key_id": key}}
	}
	for name, test := range map[string]struct {
		give give
		want string
	}{
		"the root's":          {give{"encrypt_boot": true, "root_volume_kms_key_id": "alias/r"}, `root_volume_kms_key_id is "alias/r"`},
		"a mapping's":         {give{"encrypt_boot": true, "kms_key_id": "alias/k", "ami_block_device_mappings": root("alias/r")}, `ami_block_device_mappings[0]: kms_key_id is "alias/r"`},
		"the same":            {give{"encrypt_boot": true, "kms_key_id": "alias/k", "ami_block_device_mappings": root("alias/k")}, ""},
		"a code":              {give{"mfa_code": "123456"}, "mfa_code is not used"},
		"a code of a profile": {give{"mfa_code": "123456", "access_key": nil, "secret_key": nil}, ""},
		"without encryption":  {give{"root_volume_kms_key_id": "alias/r"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var c Config
			warnings := strings.Join(buildertest.Prepared(t, &c, with(t, test.give)), "; ")
			if (warnings != "") != (test.want != "") || !strings.Contains(warnings, test.want) {
				t.Errorf("warnings %q, want %q", warnings, test.want)
			}
		})
	}
}

// TestNoUEFIFromScratchUnlessSaid checks that UEFI options of a build from scratch need an
// explicit boot mode or architecture, because there is no source to inherit it from.
func TestNoUEFIFromScratchUnlessSaid(t *testing.T) {
	for _, test := range []struct {
		more map[string]any
		good bool
	}{
		{map[string]any{"uefi_data": "QUFB"}, false},
		{map[string]any{"tpm_support": "v2.0"}, false},
		{map[string]any{"tpm_support": "v2.0", "ami_architecture": "arm64"}, false},
		{map[string]any{"uefi_data": "QUFB", "ami_architecture": "arm64"}, true},
		{map[string]any{"uefi_data": "QUFB", "tpm_support": "v2.0", "boot_mode": "uefi"}, true},
	} {
		var c Config
		if _, err := c.Prepare(scratch(t, test.more)); (err == nil) != test.good {
			t.Errorf("%v: %v", test.more, err)
		}
	}
}

func TestASourceFilterFromScratchIsAWarning(t *testing.T) {
	var c Config
	warnings := buildertest.Prepared(t, &c, scratch(t, map[string]any{"source_ami_filter": map[string]any{"owners": []any{"self"}}}))
	if len(warnings) != 1 || !strings.Contains(warnings[0], "source_ami_filter is not used") {
		t.Errorf("warnings %q", warnings)
	}
}
