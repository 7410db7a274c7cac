package osc

import (
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

// The examples of the builder's page, as they are printed there.
const (
	basicExample   = `{  "type": "osc-chroot",  "access_key": "YOUR KEY HERE",  "secret_key": "YOUR SECRET KEY HERE",  "source_omi": "ami-3e158364",  "omi_name": "packer-outscale-chroot {{timestamp}}"}`
	scratchExample = `{  "type": "osc-chroot",  "ami_name": "packer-from-scratch {{timestamp}}",  "from_scratch": true,  "ami_virtualization_type": "hvm",  "pre_mount_commands": [    "parted {{.Device}} mklabel msdos mkpart primary 1M 100% set 1 boot on print",    "mkfs.ext4 {{.Device}}1"  ],  "root_volume_size": 15,  "root_device_name": "xvdf",  "ami_block_device_mappings": [    {      "device_name": "xvdf",      "delete_on_termination": true,      "volume_type": "gp2"    }  ]}`
)

// with returns the options of the basic example, overridden by others. A nil value removes an
// option.
func with(t *testing.T, more map[string]any) map[string]any {
	t.Helper()
	return buildertest.With(t, basicExample, more)
}

// scratch returns the options of the from-scratch example, overridden by others.
func scratch(t *testing.T, more map[string]any) map[string]any {
	t.Helper()
	return buildertest.With(t, scratchExample, more)
}

func TestBasicExample(t *testing.T) {
	var c Config
	if warnings := buildertest.Prepared(t, &c, with(t, nil)); len(warnings) > 0 {
		t.Errorf("warnings %q", warnings)
	}
	name, ok := strings.CutPrefix(c.OMIName, "packer-outscale-chroot ")
	if !ok || strings.Trim(name, "0123456789") != "" || name == "" {
		t.Errorf("the name is %q", c.OMIName)
	}
	if c.SourceOMI != "ami-3e158364" || c.AccessKey != "YOUR KEY HERE" || c.SecretKey != "YOUR SECRET KEY HERE" {
		t.Errorf("prepared as %+v", c)
	}
	if got := strings.Join(kind.GeneratedData(), " "); got != "BuildRegion Device MountPath SourceOMI SourceOMICreationDate SourceOMIName SourceOMIOwner SourceOMIOwnerName" {
		t.Errorf("provisioners may ask for %s", got)
	}
}

// TestScratchExample checks the page's example, which spells its options as AWS does.
func TestScratchExample(t *testing.T) {
	var c Config
	warnings := buildertest.Prepared(t, &c, scratch(t, nil))
	told := strings.Join(warnings, "\n")
	for _, want := range []string{"omi_name", "omi_virtualization_type", "omi_block_device_mappings", "delete_on_vm_deletion"} {
		if !strings.Contains(told, "please write "+want) {
			t.Errorf("no warning names %s: %q", want, warnings)
		}
	}
	if !c.FromScratch || c.RootDeviceName != "xvdf" || c.OMIVirtualizationType != "hvm" || len(c.OMIBlockDeviceMappings) != 1 || !strings.HasPrefix(c.OMIName, "packer-from-scratch ") {
		t.Fatalf("prepared as %+v", c)
	}
	want := BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "xvdf", VolumeType: "gp2"}, DeleteOnVMDeletion: true, DeleteOnTermination: true}
	if got := c.OMIBlockDeviceMappings[0]; got != want {
		t.Errorf("the mapping is %+v", got)
	}
}

func TestBothSpellingsAtOnce(t *testing.T) {
	for option, value := range map[string]any{
		"name": "abc", "virtualization_type": "hvm", "block_device_mappings": []any{buildertest.Device(nil)},
	} {
		var c Config
		_, err := c.Prepare(with(t, map[string]any{"ami_" + option: value, "omi_" + option: value}))
		if err == nil || !strings.Contains(err.Error(), "ami_"+option+" and omi_"+option) {
			t.Errorf("%s: %v", option, err)
		}
	}
}

func TestPrepareTwiceIsAsOnce(t *testing.T) {
	var c Config
	for range 2 {
		if _, err := c.Prepare(with(t, map[string]any{"omi_block_device_mappings": []any{buildertest.Device(map[string]any{})}})); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.OMIBlockDeviceMappings); n != 1 {
		t.Errorf("%d mappings", n)
	}
	if _, err := c.Prepare(with(t, map[string]any{"source_omi": nil})); err == nil {
		t.Error("an option of the first time is still there")
	}
}

func TestMappingsReachTheCloud(t *testing.T) {
	var c Config
	buildertest.Prepared(t, &c, with(t, map[string]any{"omi_block_device_mappings": []any{
		buildertest.Device(map[string]any{"volume_type": "io1", "iops": 400, "snapshot_id": "snap-11111111", "delete_on_vm_deletion": true}),
		map[string]any{"device_name": "xvdi", "virtual_name": "ephemeral0"},
		map[string]any{"device_name": "xvdj", "no_device": true},
		map[string]any{"device_name": "/dev/sda1", "delete_on_vm_deletion": true},
	}}))
	want := []BlockDevice{
		{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdh", VolumeSize: 8, VolumeType: "io1", IOPS: 400, SnapshotID: "snap-11111111"}, DeleteOnVMDeletion: true},
		{BlockDevice: builder.BlockDevice{DeviceName: "xvdi", VirtualName: "ephemeral0"}},
		{BlockDevice: builder.BlockDevice{DeviceName: "xvdj", NoDevice: true}},
		{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sda1"}, DeleteOnVMDeletion: true},
	}
	for i, got := range c.OMIBlockDeviceMappings {
		if got != want[i] {
			t.Errorf("mapping %d is %+v, want %+v", i, got, want[i])
		}
	}
}

// TestInvalidOptions has one invalid option at a time. The one error must name it.
func TestInvalidOptions(t *testing.T) {
	mappings := func(devices ...map[string]any) map[string]any {
		return with(t, map[string]any{"omi_block_device_mappings": devices})
	}
	buildertest.Refuses(t, Plugin, []buildertest.Refusal{
		{"no name", with(t, map[string]any{"omi_name": nil}), []string{"omi_name is required"}},
		{"a name of two characters", with(t, map[string]any{"omi_name": "ab"}), []string{"omi_name", `"ab"`, "3"}},
		{"a name with a colon", with(t, map[string]any{"omi_name": "a:b"}), []string{"omi_name", `"a:b"`}},
		{"an unknown option", with(t, map[string]any{"souce_omi_filter": map[string]any{}}), []string{"souce_omi_filter is not an option: did you mean source_omi_filter?"}},
		{"an unknown option of a mapping", mappings(map[string]any{"device_name": "xvdc", "volume_size": 1, "volume_tpe": "gp2"}), []string{"omi_block_device_mappings[0].volume_tpe is not an option: did you mean volume_type?"}},
		{"a size that is no number", with(t, map[string]any{"root_volume_size": "ten"}), []string{`root_volume_size must be a whole number, and is "ten"`}},
		{"a wrapper of nothing", with(t, map[string]any{"command_wrapper": "sudo"}), []string{"command_wrapper", "must have {{.Command}}"}},
		{"the root's name as device_path", with(t, map[string]any{"device_path": "/dev/xvda"}), []string{`device_path is "/dev/xvda"`, "from b to z"}},
		{"a kernel's name as device_path", with(t, map[string]any{"device_path": "/dev/vdb"}), []string{`device_path is "/dev/vdb"`}},
		{"env in a tag", with(t, map[string]any{"tags": map[string]any{"a": "{{env `HOME`}}"}}), []string{"tags", "env"}},
		{"env in the description", with(t, map[string]any{"omi_description": "{{env `HOME`}}"}), []string{"omi_description calls the function env"}},
		{"a long description", with(t, map[string]any{"omi_description": strings.Repeat("x", 256)}), []string{"omi_description", "256 characters", "255"}},
		{"a long tag", with(t, map[string]any{"tags": map[string]any{strings.Repeat("x", 256): "a"}}), []string{"tags: ", "more than 255"}},
		{"a wrong account", with(t, map[string]any{"omi_account_ids": []any{"me"}}), []string{`omi_account_ids[0] is "me"`, "12 digits"}},
		{"a wrong user of snapshots", with(t, map[string]any{"snapshot_users": []any{"me"}}), []string{`snapshot_users[0] is "me"`, "12 digits"}},
		{"a wrong group of snapshots", with(t, map[string]any{"snapshot_groups": []any{"some"}}), []string{`snapshot_groups[0] is "some"`, "all"}},
		{"no source", with(t, map[string]any{"source_omi": nil}), []string{"source_omi is required"}},
		{"a source that is no id", with(t, map[string]any{"source_omi": "debian"}), []string{"source_omi", `"debian"`}},
		{"half an id", with(t, map[string]any{"source_omi": "ami-3e15836"}), []string{"source_omi"}},
		{"access_key alone", with(t, map[string]any{"secret_key": nil}), []string{"access_key is given without secret_key"}},
		{"secret_key alone", with(t, map[string]any{"access_key": nil}), []string{"secret_key is given without access_key"}},
		{"endpoint", with(t, map[string]any{"custom_endpoint_oapi": "ftp://x"}), []string{"custom_endpoint_oapi", "ftp://x"}},
		{"virtualization", with(t, map[string]any{"omi_virtualization_type": "half"}), []string{"omi_virtualization_type", `"half"`, "hvm"}},
		{"paravirtual", with(t, map[string]any{"omi_virtualization_type": "paravirtual"}), []string{"omi_virtualization_type", "paravirtual", "hvm"}},
		{"volume type", with(t, map[string]any{"root_volume_type": "gp3"}), []string{"root_volume_type", `"gp3"`, "gp2"}},
		{"option of the other cloud", with(t, map[string]any{"source_ami": "ami-3e158364"}), []string{"source_ami"}},
		{"unknown option", with(t, map[string]any{"souce_omi": "ami-1"}), []string{"souce_omi"}},
		{"mount of two", with(t, map[string]any{"chroot_mounts": []any{[]any{"bind", "/dev"}}}), []string{"chroot_mounts[0]", "/dev"}},
		{"template of the description", with(t, map[string]any{"omi_description": "{{.SourceAMI}}"}), []string{"omi_description", ".SourceAMI", ".SourceOMI"}},
		{"template of a tag", with(t, map[string]any{"tags": map[string]any{"a": "{{.b}}"}}), []string{`tags "a"`}},
		{"unknown option of a mapping", mappings(buildertest.Device(map[string]any{"encrypted": true})), []string{"omi_block_device_mappings[0].encrypted"}},
		{"mapping without a name", mappings(buildertest.Device(map[string]any{"device_name": nil})), []string{"omi_block_device_mappings", "device_name"}},
		{"mapping without a size", mappings(buildertest.Device(map[string]any{"volume_size": nil})), []string{"omi_block_device_mappings", "volume_size"}},
		{"one device twice", mappings(buildertest.Device(nil), buildertest.Device(map[string]any{"device_name": "xvdh"})), []string{"omi_block_device_mappings", "xvdh", "twice"}},
		{"root with no_device", mappings(map[string]any{"device_name": "xvda", "no_device": true}), []string{"root device", "no_device"}},
		{"scratch without mappings", scratch(t, map[string]any{"ami_block_device_mappings": nil}), []string{"omi_block_device_mappings is required"}},
		{"scratch without commands", scratch(t, map[string]any{"pre_mount_commands": nil}), []string{"pre_mount_commands is required"}},
		{"scratch without a size", scratch(t, map[string]any{"root_volume_size": nil}), []string{"root_volume_size is required"}},
		{"scratch with another root", scratch(t, map[string]any{"root_device_name": "xvdb", "ami_block_device_mappings": []any{buildertest.Device(nil)}}), []string{"no device_name xvdb"}},
	})
}

func TestAllErrorsAtOnce(t *testing.T) {
	var c Config
	_, err := c.Prepare(map[string]any{"unknown": 1, "access_key": "a", "mount_path": "x", "omi_virtualization_type": "y"})
	buildertest.Says(t, err, "unknown", "secret_key", "mount_path", "omi_virtualization_type", "omi_name", "source_omi")
}

func TestASourceFromScratchIsAWarning(t *testing.T) {
	var c Config
	warnings := buildertest.Prepared(t, &c, scratch(t, map[string]any{"source_omi": "whatever"}))
	if !strings.Contains(strings.Join(warnings, "\n"), "source_omi is not used") {
		t.Errorf("warnings %q", warnings)
	}
}

func TestASourceFilterFromScratchIsAWarning(t *testing.T) {
	var c Config
	warnings := buildertest.Prepared(t, &c, scratch(t, map[string]any{"source_omi_filter": map[string]any{"owners": []any{"self"}}}))
	if !strings.Contains(strings.Join(warnings, "\n"), "source_omi_filter is not used") {
		t.Errorf("warnings %q", warnings)
	}
}

func TestAHostIsEnoughForAnEndpoint(t *testing.T) {
	var c Config
	buildertest.Prepared(t, &c, with(t, map[string]any{"custom_endpoint_oapi": "api.example.com"}))
	if c.CustomEndpointOAPI != "https://api.example.com" {
		t.Errorf("the endpoint is %s", c.CustomEndpointOAPI)
	}
}

// TestHCL2 reads options as Packer does with an HCL2 template.
func TestHCL2(t *testing.T) {
	var c Config
	buildertest.PrepareHCL2(t, &c, `
		omi_name        = "abc"
		source_omi      = "ami-3e158364"
		mount_partition = 2
		copy_files      = []
		chroot_mounts   = [["proc", "proc", "/proc"]]
		tags            = { Name = "{{ .SourceOMIName }}" }
		omi_block_device_mappings {
			device_name           = "/dev/sdb"
			volume_size           = 3
			delete_on_vm_deletion = true
		}
		omi_block_device_mappings {
			device_name = "/dev/sdc"
			no_device   = true
		}
	`)
	if c.OMIName != "abc" || c.MountPartition != "2" || c.CopyFiles == nil || len(c.CopyFiles) != 0 || c.Tags["Name"] != "{{ .SourceOMIName }}" || len(c.ChrootMounts) != 1 {
		t.Errorf("prepared as %+v", c)
	}
	want := BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", VolumeSize: 3}, DeleteOnVMDeletion: true}
	if len(c.OMIBlockDeviceMappings) != 2 || c.OMIBlockDeviceMappings[0] != want || !c.OMIBlockDeviceMappings[1].NoDevice {
		t.Errorf("mappings %+v", c.OMIBlockDeviceMappings)
	}
}

// TestFractionsOfHCL2 checks the error for a fraction in HCL2. The SDK's own message would
// contain Go's types.
func TestFractionsOfHCL2(t *testing.T) {
	var c Config
	_, err := c.Prepare(buildertest.HCL2(t, &c, "root_volume_size = 10.7"))
	buildertest.Says(t, err, "1 error(s)", "root_volume_size must be a whole number")
}
