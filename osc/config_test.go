package osc

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclparse"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// The examples of the builder's page, as they are printed there.
const (
	basicExample   = `{  "type": "osc-chroot",  "access_key": "YOUR KEY HERE",  "secret_key": "YOUR SECRET KEY HERE",  "source_omi": "ami-3e158364",  "omi_name": "packer-outscale-chroot {{timestamp}}"}`
	scratchExample = `{  "type": "osc-chroot",  "ami_name": "packer-from-scratch {{timestamp}}",  "from_scratch": true,  "ami_virtualization_type": "hvm",  "pre_mount_commands": [    "parted {{.Device}} mklabel msdos mkpart primary 1M 100% set 1 boot on print",    "mkfs.ext4 {{.Device}}1"  ],  "root_volume_size": 15,  "root_device_name": "xvdf",  "ami_block_device_mappings": [    {      "device_name": "xvdf",      "delete_on_termination": true,      "volume_type": "gp2"    }  ]}`
)

func given(t *testing.T, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// with are the options of the basic example with others; nil takes one away.
func with(t *testing.T, more map[string]any) map[string]any {
	t.Helper()
	o := given(t, basicExample)
	maps.Copy(o, more)
	maps.DeleteFunc(o, func(_ string, v any) bool { return v == nil })
	return o
}

func TestBasicExample(t *testing.T) {
	var b Builder
	generated, warnings, err := b.Prepare(given(t, basicExample))
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v, warnings %q", err, warnings)
	}
	name, ok := strings.CutPrefix(b.config.OMIName, "packer-outscale-chroot ")
	if !ok || strings.Trim(name, "0123456789") != "" || name == "" {
		t.Errorf("the name is %q", b.config.OMIName)
	}
	if b.config.SourceOMI != "ami-3e158364" || b.config.AccessKey != "YOUR KEY HERE" || b.config.SecretKey != "YOUR SECRET KEY HERE" {
		t.Errorf("prepared as %+v", b.config)
	}
	if got := strings.Join(generated, " "); got != "BuildRegion Device MountPath SourceOMI SourceOMICreationDate SourceOMIName SourceOMIOwner SourceOMIOwnerName" {
		t.Errorf("provisioners may ask for %s", got)
	}
}

// TestScratchExample: the page's example spells its options as AWS does.
func TestScratchExample(t *testing.T) {
	var b Builder
	_, warnings, err := b.Prepare(given(t, scratchExample))
	if err != nil {
		t.Fatal(err)
	}
	told := strings.Join(warnings, "\n")
	for _, want := range []string{"omi_name", "omi_virtualization_type", "omi_block_device_mappings", "delete_on_vm_deletion"} {
		if !strings.Contains(told, "please write "+want) {
			t.Errorf("no warning names %s: %q", want, warnings)
		}
	}
	o := b.config.options()
	if !o.FromScratch || o.RootDeviceName != "xvdf" || o.VirtualizationType != "hvm" || len(o.Mappings) != 1 || !strings.HasPrefix(o.ImageName, "packer-from-scratch ") {
		t.Fatalf("the cloud is told %+v", o)
	}
	if want := (Mapping{DeviceName: "xvdf", VolumeType: "gp2", DeleteOnVMDeletion: true}); o.Mappings[0] != want {
		t.Errorf("the mapping is %+v", o.Mappings[0])
	}
}

func TestBothSpellingsAtOnce(t *testing.T) {
	for option, value := range map[string]any{
		"name": "abc", "virtualization_type": "hvm", "block_device_mappings": []any{device(nil)},
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
		if _, err := c.Prepare(with(t, map[string]any{"omi_block_device_mappings": []any{device(map[string]any{})}})); err != nil {
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

// device is a mapping that is right, with other options.
func device(more map[string]any) map[string]any {
	o := map[string]any{"device_name": "/dev/sdh", "volume_size": 8}
	maps.Copy(o, more)
	maps.DeleteFunc(o, func(_ string, v any) bool { return v == nil })
	return o
}

func TestMappingsReachTheCloud(t *testing.T) {
	var c Config
	_, err := c.Prepare(with(t, map[string]any{"omi_block_device_mappings": []any{
		device(map[string]any{"volume_type": "io1", "iops": 400, "snapshot_id": "snap-1", "delete_on_vm_deletion": true}),
		map[string]any{"device_name": "xvdi", "virtual_name": "ephemeral0"},
		map[string]any{"device_name": "xvdj", "no_device": true},
		map[string]any{"device_name": "/dev/sda1", "delete_on_vm_deletion": true},
	}}))
	if err != nil {
		t.Fatal(err)
	}
	want := []Mapping{
		{DeviceName: "/dev/sdh", VolumeSizeGiB: 8, VolumeType: "io1", IOPS: 400, SnapshotID: "snap-1", DeleteOnVMDeletion: true},
		{DeviceName: "xvdi", VirtualName: "ephemeral0"},
		{DeviceName: "xvdj", NoDevice: true},
		{DeviceName: "/dev/sda1", DeleteOnVMDeletion: true},
	}
	for i, got := range c.options().Mappings {
		if got != want[i] {
			t.Errorf("mapping %d is %+v, want %+v", i, got, want[i])
		}
	}
}

// TestWrongOptions gives one wrong thing at a time; the one error must name it.
func TestWrongOptions(t *testing.T) {
	mappings := func(devices ...map[string]any) map[string]any {
		return with(t, map[string]any{"omi_block_device_mappings": devices})
	}
	scratch := func(more map[string]any) map[string]any {
		o := given(t, scratchExample)
		maps.Copy(o, more)
		maps.DeleteFunc(o, func(_ string, v any) bool { return v == nil })
		return o
	}
	tests := []struct {
		name string
		give map[string]any
		want []string
	}{
		{"no name", with(t, map[string]any{"omi_name": nil}), []string{"omi_name is required"}},
		{"a name of two characters", with(t, map[string]any{"omi_name": "ab"}), []string{"omi_name", `"ab"`, "3"}},
		{"a name with a colon", with(t, map[string]any{"omi_name": "a:b"}), []string{"omi_name", `"a:b"`}},
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
		{"unknown option of a mapping", mappings(device(map[string]any{"encrypted": true})), []string{"omi_block_device_mappings[0].encrypted"}},
		{"mapping without a name", mappings(device(map[string]any{"device_name": nil})), []string{"omi_block_device_mappings", "device_name"}},
		{"mapping without a size", mappings(device(map[string]any{"volume_size": nil})), []string{"omi_block_device_mappings", "volume_size"}},
		{"one device twice", mappings(device(nil), device(map[string]any{"device_name": "xvdh"})), []string{"omi_block_device_mappings", "xvdh", "twice"}},
		{"root with no_device", mappings(map[string]any{"device_name": "xvda", "no_device": true}), []string{"root device", "no_device"}},
		{"scratch without virtualization", scratch(map[string]any{"ami_virtualization_type": nil}), []string{"omi_virtualization_type is required"}},
		{"scratch without mappings", scratch(map[string]any{"ami_block_device_mappings": nil}), []string{"omi_block_device_mappings is required"}},
		{"scratch without commands", scratch(map[string]any{"pre_mount_commands": nil}), []string{"pre_mount_commands is required"}},
		{"scratch without a size", scratch(map[string]any{"root_volume_size": nil}), []string{"root_volume_size is required"}},
		{"scratch with another root", scratch(map[string]any{"root_device_name": "xvdb", "ami_block_device_mappings": []any{device(nil)}}), []string{"no device_name xvdb"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var c Config
			_, err := c.Prepare(test.give)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.HasPrefix(err.Error(), "1 error(s)") {
				t.Errorf("more than one error: %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing in: %v", want, err)
				}
			}
		})
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	var c Config
	_, err := c.Prepare(map[string]any{"unknown": 1, "access_key": "a", "mount_path": "x", "omi_virtualization_type": "y"})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"unknown", "secret_key", "mount_path", "omi_virtualization_type", "omi_name", "source_omi"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

func TestASourceFromScratchIsAWarning(t *testing.T) {
	o := given(t, scratchExample)
	o["source_omi"] = "whatever"
	var c Config
	warnings, err := c.Prepare(o)
	if err != nil || !strings.Contains(strings.Join(warnings, "\n"), "source_omi is not used") {
		t.Errorf("%v, warnings %q", err, warnings)
	}
}

func TestAHostIsEnoughForAnEndpoint(t *testing.T) {
	var c Config
	if _, err := c.Prepare(with(t, map[string]any{"custom_endpoint_oapi": "api.example.com"})); err != nil {
		t.Fatal(err)
	}
	if c.CustomEndpointOAPI != "https://api.example.com" {
		t.Errorf("the endpoint is %s", c.CustomEndpointOAPI)
	}
}

// TestHCL2 reads options as Packer does with an HCL2 template.
func TestHCL2(t *testing.T) {
	file, diags := hclparse.NewParser().ParseHCL([]byte(`
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
	`), "template.pkr.hcl")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var b Builder
	value, diags := hcldec.Decode(file.Body, b.ConfigSpec(), nil)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	_, warnings, err := b.Prepare(value)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v, warnings %q", err, warnings)
	}
	c := b.config
	if c.OMIName != "abc" || c.MountPartition != "2" || c.CopyFiles == nil || len(c.CopyFiles) != 0 || c.Tags["Name"] != "{{ .SourceOMIName }}" || len(c.ChrootMounts) != 1 {
		t.Errorf("prepared as %+v", c)
	}
	want := BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", VolumeSize: 3}, DeleteOnVMDeletion: true}
	if len(c.OMIBlockDeviceMappings) != 2 || c.OMIBlockDeviceMappings[0] != want || !c.OMIBlockDeviceMappings[1].NoDevice {
		t.Errorf("mappings %+v", c.OMIBlockDeviceMappings)
	}
}
