package amazon

import (
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

// The examples of the builder's page, as they are printed there.
const (
	basicExample = `{
  "type": "amazon-chroot",
  "access_key": "YOUR KEY HERE",
  "secret_key": "YOUR SECRET KEY HERE",
  "source_ami": "ami-e81d5881",
  "ami_name": "packer-amazon-chroot {{timestamp}}"
}`
	scratchExample = `{
  "type": "amazon-chroot",
  "ami_name": "packer-from-scratch {{timestamp}}",
  "from_scratch": true,
  "ami_virtualization_type": "hvm",
  "pre_mount_commands": [
    "parted {{.Device}} mklabel msdos mkpart primary 1M 100% set 1 boot on print",
    "mkfs.ext4 {{.Device}}1"
  ],
  "root_volume_size": 15,
  "root_device_name": "xvda",
  "ami_block_device_mappings": [
    {
      "device_name": "xvda",
      "delete_on_termination": true,
      "volume_type": "gp2"
    }
  ]
}`
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
	name, ok := strings.CutPrefix(c.AMIName, "packer-amazon-chroot ")
	if !ok || strings.Trim(name, "0123456789") != "" || name == "" {
		t.Errorf("the name is %q", c.AMIName)
	}
	if c.SourceAMI != "ami-e81d5881" || c.AccessKey != "YOUR KEY HERE" || c.SecretKey != "YOUR SECRET KEY HERE" {
		t.Errorf("prepared as %+v", c)
	}
	if got := strings.Join(kind.GeneratedData(), " "); got != "BuildRegion Device MountPath SourceAMI SourceAMICreationDate SourceAMIName SourceAMIOwner SourceAMIOwnerName" {
		t.Errorf("provisioners may ask for %s", got)
	}
}

func TestScratchExample(t *testing.T) {
	var c Config
	if warnings := buildertest.Prepared(t, &c, scratch(t, nil)); len(warnings) > 0 {
		t.Errorf("warnings %q", warnings)
	}
	if !c.FromScratch || c.RootDeviceName != "xvda" || c.AMIVirtualizationType != "hvm" || len(c.AMIBlockDeviceMappings) != 1 {
		t.Fatalf("prepared as %+v", c)
	}
	want := BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "xvda", VolumeType: "gp2"}, DeleteOnTermination: true}
	if got := c.AMIBlockDeviceMappings[0]; got != want {
		t.Errorf("the mapping is %+v", got)
	}
}

func TestPrepareTwiceIsAsOnce(t *testing.T) {
	var c Config
	for range 2 {
		if _, err := c.Prepare(with(t, map[string]any{"ami_block_device_mappings": []any{buildertest.Device(map[string]any{})}})); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.AMIBlockDeviceMappings); n != 1 {
		t.Errorf("%d mappings", n)
	}
	if _, err := c.Prepare(with(t, map[string]any{"source_ami": nil})); err == nil {
		t.Error("an option of the first time is still there")
	}
}

func TestMappingsReachTheCloud(t *testing.T) {
	var c Config
	buildertest.Prepared(t, &c, with(t, map[string]any{"ami_block_device_mappings": []any{
		buildertest.Device(map[string]any{"volume_type": "gp3", "iops": 4000, "throughput": 200, "encrypted": true, "snapshot_id": "snap-11111111", "delete_on_termination": true}),
		map[string]any{"device_name": "sdi", "virtual_name": "ephemeral0"},
		map[string]any{"device_name": "sdj", "no_device": true},
		map[string]any{"device_name": "/dev/xvda", "delete_on_termination": true, "encrypted": true, "kms_key_id": "alias/k"},
	}}))
	want := []BlockDevice{
		{
			BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdh", VolumeSize: 8, VolumeType: "gp3", IOPS: 4000, SnapshotID: "snap-11111111"},
			Throughput:  200, Encrypted: true, DeleteOnTermination: true,
		},
		{BlockDevice: builder.BlockDevice{DeviceName: "sdi", VirtualName: "ephemeral0"}},
		{BlockDevice: builder.BlockDevice{DeviceName: "sdj", NoDevice: true}},
		{BlockDevice: builder.BlockDevice{DeviceName: "/dev/xvda"}, DeleteOnTermination: true, Encrypted: true, KMSKeyID: "alias/k"},
	}
	for i, got := range c.AMIBlockDeviceMappings {
		if got != want[i] {
			t.Errorf("mapping %d is %+v, want %+v", i, got, want[i])
		}
	}
}

// TestInvalidOptions has one invalid option at a time. The one error must name it.
func TestInvalidOptions(t *testing.T) {
	mappings := func(devices ...map[string]any) map[string]any {
		return with(t, map[string]any{"ami_block_device_mappings": devices})
	}
	buildertest.Refuses(t, Plugin, []buildertest.Refusal{
		{"no name", with(t, map[string]any{"ami_name": nil}), []string{"ami_name is required"}},
		{"a name of two characters", with(t, map[string]any{"ami_name": "ab"}), []string{"ami_name", `"ab"`, "3"}},
		{"a name with a colon", with(t, map[string]any{"ami_name": "a:b"}), []string{"ami_name", `"a:b"`}},
		{"no source", with(t, map[string]any{"source_ami": nil}), []string{"source_ami is required"}},
		{"a source that is no id", with(t, map[string]any{"source_ami": "debian"}), []string{"source_ami", `"debian"`}},
		{"a source of 9 digits", with(t, map[string]any{"source_ami": "ami-123456789"}), []string{"source_ami"}},
		{"access_key alone", with(t, map[string]any{"secret_key": nil}), []string{"access_key is given without secret_key"}},
		{"secret_key alone", with(t, map[string]any{"access_key": nil}), []string{"secret_key is given without access_key"}},
		{"endpoint", with(t, map[string]any{"custom_endpoint_ec2": "ftp://x"}), []string{"custom_endpoint_ec2", "ftp://x"}},
		{"virtualization", with(t, map[string]any{"ami_virtualization_type": "half"}), []string{"ami_virtualization_type", `"half"`, "hvm"}},
		{"volume type", with(t, map[string]any{"root_volume_type": "ssd"}), []string{"root_volume_type", `"ssd"`, "gp3"}},
		{"option of the other cloud", with(t, map[string]any{"omi_name": "abc"}), []string{"omi_name"}},
		{"unknown option", with(t, map[string]any{"souce_ami": "ami-1"}), []string{"souce_ami"}},
		{"mount of two", with(t, map[string]any{"chroot_mounts": []any{[]any{"bind", "/dev"}}}), []string{"chroot_mounts[0]", "/dev"}},
		{"template of the description", with(t, map[string]any{"ami_description": "{{.SourceOMI}}"}), []string{"ami_description", ".SourceOMI", ".SourceAMI"}},
		{"template of a tag", with(t, map[string]any{"tags": map[string]any{"a": "{{.b}}"}}), []string{`tags "a"`}},
		{"unknown option of a mapping", mappings(buildertest.Device(map[string]any{"size": 1})), []string{"ami_block_device_mappings[0].size"}},
		{"mapping without a name", mappings(buildertest.Device(map[string]any{"device_name": nil})), []string{"ami_block_device_mappings[0]", "device_name is required"}},
		{"mapping without a size", mappings(buildertest.Device(map[string]any{"volume_size": nil})), []string{"ami_block_device_mappings[0]", "volume_size is required"}},
		{"mapping of a size below 0", mappings(buildertest.Device(map[string]any{"volume_size": -8})), []string{"volume_size is -8"}},
		{"mapping of an unknown type", mappings(buildertest.Device(map[string]any{"volume_type": "gp9"})), []string{"volume_type", `"gp9"`}},
		{"io1 without iops", mappings(buildertest.Device(map[string]any{"volume_type": "io1"})), []string{"iops is required", "io1"}},
		{"gp2 with iops", mappings(buildertest.Device(map[string]any{"volume_type": "gp2", "iops": 1})), []string{"iops", `"gp2"`}},
		{"iops below 0", mappings(buildertest.Device(map[string]any{"volume_type": "gp3", "iops": -1})), []string{"iops is -1"}},
		{"gp2 with throughput", mappings(buildertest.Device(map[string]any{"volume_type": "gp2", "throughput": 1})), []string{"throughput", `"gp2"`}},
		{"throughput below 0", mappings(buildertest.Device(map[string]any{"volume_type": "gp3", "throughput": -1})), []string{"throughput is -1"}},
		{"key without encryption", mappings(buildertest.Device(map[string]any{"kms_key_id": "k"})), []string{"kms_key_id needs encrypted"}},
		{"virtual_name", mappings(map[string]any{"device_name": "sdb", "virtual_name": "eph"}), []string{"virtual_name", `"eph"`}},
		{"virtual_name with a size", mappings(buildertest.Device(map[string]any{"virtual_name": "ephemeral0"})), []string{"virtual_name", "only with device_name"}},
		{"no_device with a size", mappings(buildertest.Device(map[string]any{"no_device": true})), []string{"no_device", "only with device_name"}},
		{"one device twice", mappings(buildertest.Device(nil), buildertest.Device(map[string]any{"device_name": "sdh"})), []string{"ami_block_device_mappings[1]", "sdh", "entry 0"}},
		{"root with no_device", mappings(map[string]any{"device_name": "xvda", "no_device": true}), []string{"root device", "no_device"}},
		{"root with virtual_name", mappings(map[string]any{"device_name": "/dev/sda1", "virtual_name": "ephemeral0"}), []string{"root device", "virtual_name"}},
		{"snapshot that is none", mappings(map[string]any{"device_name": "xvdh", "snapshot_id": "vol-e81d5881"}), []string{"snapshot_id", `"vol-e81d5881"`, "snap-e81d5881"}},
		{"root with a snapshot", mappings(map[string]any{"device_name": "xvda", "snapshot_id": "snap-1"}), []string{"root device", "snapshot_id"}},
		{"scratch without virtualization", scratch(t, map[string]any{"ami_virtualization_type": nil}), []string{"ami_virtualization_type is required"}},
		{"scratch without mappings", scratch(t, map[string]any{"ami_block_device_mappings": nil}), []string{"ami_block_device_mappings is required"}},
		{"scratch without commands", scratch(t, map[string]any{"pre_mount_commands": nil}), []string{"pre_mount_commands is required"}},
		{"scratch without a size", scratch(t, map[string]any{"root_volume_size": nil}), []string{"root_volume_size is required"}},
		{"scratch with another root", scratch(t, map[string]any{"root_device_name": "xvdb", "ami_block_device_mappings": []any{buildertest.Device(nil)}}), []string{"no device_name xvdb"}},
	})
}

func TestAllErrorsAtOnce(t *testing.T) {
	var c Config
	_, err := c.Prepare(map[string]any{"unknown": 1, "access_key": "a", "mount_path": "x", "ami_virtualization_type": "y"})
	buildertest.Says(t, err, "unknown", "secret_key", "mount_path", "ami_virtualization_type", "ami_name", "source_ami")
}

func TestASourceFromScratchIsAWarning(t *testing.T) {
	var c Config
	warnings := buildertest.Prepared(t, &c, scratch(t, map[string]any{"source_ami": "whatever"}))
	if len(warnings) != 1 || !strings.Contains(warnings[0], "source_ami") {
		t.Errorf("warnings %q", warnings)
	}
}

func TestAHostIsEnoughForAnEndpoint(t *testing.T) {
	var c Config
	buildertest.Prepared(t, &c, with(t, map[string]any{"custom_endpoint_ec2": "ec2.example.com"}))
	if c.CustomEndpointEC2 != "https://ec2.example.com" {
		t.Errorf("the endpoint is %s", c.CustomEndpointEC2)
	}
}

// TestHCL2 reads options as Packer does with an HCL2 template.
func TestHCL2(t *testing.T) {
	var c Config
	buildertest.PrepareHCL2(t, &c, `
		ami_name        = "abc"
		source_ami      = "ami-e81d5881"
		mount_partition = 2
		copy_files      = []
		chroot_mounts   = [["proc", "proc", "/proc"]]
		tags            = { Name = "{{ .SourceAMIName }}" }
		ami_block_device_mappings {
			device_name           = "/dev/sdb"
			volume_size           = 3
			delete_on_termination = true
		}
		ami_block_device_mappings {
			device_name = "/dev/sdc"
			no_device   = true
		}
	`)
	if c.AMIName != "abc" || c.MountPartition != "2" || c.CopyFiles == nil || len(c.CopyFiles) != 0 || c.Tags["Name"] != "{{ .SourceAMIName }}" || len(c.ChrootMounts) != 1 {
		t.Errorf("prepared as %+v", c)
	}
	want := BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", VolumeSize: 3}, DeleteOnTermination: true}
	if len(c.AMIBlockDeviceMappings) != 2 || c.AMIBlockDeviceMappings[0] != want || !c.AMIBlockDeviceMappings[1].NoDevice {
		t.Errorf("mappings %+v", c.AMIBlockDeviceMappings)
	}
}

func TestTerminationOfInstanceStore(t *testing.T) {
	var c Config
	warnings, err := c.Prepare(with(t, map[string]any{"ami_block_device_mappings": []any{
		map[string]any{"device_name": "/dev/sdb", "virtual_name": "ephemeral0", "delete_on_termination": true},
	}}))
	if err != nil || !slices.ContainsFunc(warnings, func(w string) bool {
		return strings.Contains(w, "ami_block_device_mappings[0]: delete_on_termination is ignored")
	}) {
		t.Errorf("%v, warnings %q", err, warnings)
	}
}
