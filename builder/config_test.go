package builder_test

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/packer-plugin-sdk/common"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// options are those of a cloud that is none.
type options struct {
	common.PackerConfig `mapstructure:",squash"`
	builder.Config      `mapstructure:",squash"`

	Name        string `mapstructure:"name"`
	Description string `mapstructure:"description"`
}

var kind = builder.Kind{
	Type: "test-chroot", ID: "test.chroot", Provider: "test", Image: "TMI",
	Limits: builder.Limits{
		Name: regexp.MustCompile(`^[a-z ]+$`), NameSet: "small letters and spaces",
		Description: 40, TagKey: 10, TagValue: 20, Tags: 5, ReservedTag: "test:",
	},
	VolumeTypes: builder.VolumeTypes{"gp2", "io1"},
}

// decode prepares options and answers the texts of the errors.
func decode(t *testing.T, raw map[string]any) (*options, []string) {
	t.Helper()
	var o options
	usable, err := builder.Decode(&o, &o.Config, kind, []string{"description"}, raw)
	errs := []error{err}
	if usable {
		errs = append(errs, o.Prepare(kind)...)
		errs = append(errs, kind.CheckLabels(&o.Config, "description", o.Description)...)
	}
	joined := builder.Join(errs)
	if joined == nil {
		return &o, nil
	}
	points := strings.Split(joined.Error(), "\n* ")
	return &o, points[1:] // without "n error(s) occurred"
}

func TestDefaults(t *testing.T) {
	o, errs := decode(t, map[string]any{})
	if errs != nil {
		t.Fatal(errs)
	}
	want := builder.Config{
		CommandWrapper: "{{.Command}}",
		CopyFiles:      []string{"/etc/resolv.conf"},
		MountPath:      "/mnt/packer-amazon-chroot-volumes/{{.Device}}",
	}
	for field, got := range map[string][2]any{
		"command_wrapper": {o.CommandWrapper, want.CommandWrapper},
		"copy_files":      {o.CopyFiles, want.CopyFiles},
		"mount_path":      {o.MountPath, want.MountPath},
		"mount_partition": {o.MountPartition, ""},
		"root_type":       {o.RootVolumeType, ""},
	} {
		if !reflect.DeepEqual(got[0], got[1]) {
			t.Errorf("%s is %v, want %v", field, got[0], got[1])
		}
	}
}

func TestCopyFilesOfNoneAreNone(t *testing.T) {
	o, errs := decode(t, map[string]any{"copy_files": []any{}})
	if errs != nil || len(o.CopyFiles) != 0 {
		t.Errorf("copy_files are %v, errors %v", o.CopyFiles, errs)
	}
}

func TestMountPartitionMayBeANumber(t *testing.T) {
	for _, given := range []any{"3", 3, 3.0, uint8(3)} {
		o, errs := decode(t, map[string]any{"mount_partition": given})
		if errs != nil || o.MountPartition != "3" {
			t.Errorf("%T %v becomes %q, errors %v", given, given, o.MountPartition, errs)
		}
	}
}

func TestScratchDefaultsToGP2(t *testing.T) {
	o, errs := decode(t, map[string]any{
		"from_scratch": true, "pre_mount_commands": []any{"true"}, "root_volume_size": 1, "root_device_name": "xvda",
	})
	if errs != nil || o.RootVolumeType != "gp2" {
		t.Errorf("type is %q, errors %v", o.RootVolumeType, errs)
	}
}

// TestWrongOptions gives one wrong thing at a time; the one error must name it.
func TestWrongOptions(t *testing.T) {
	tests := []struct {
		name string
		give map[string]any
		want []string
	}{
		{"unknown option", map[string]any{"mont_path": "/x"}, []string{"mont_path", "unknown"}},
		{"mount of two", map[string]any{"chroot_mounts": []any{[]any{"proc", "proc", "/proc"}, []any{"bind", "/dev"}}}, []string{"chroot_mounts[1]", "2 strings", "three", `["bind" "/dev"]`}},
		{"mount of four", map[string]any{"chroot_mounts": []any{[]any{"a", "b", "c", "d"}}}, []string{"chroot_mounts[0]", "4 strings"}},
		{"mount without type", map[string]any{"chroot_mounts": []any{[]any{"", "/dev", "/dev"}}}, []string{"chroot_mounts[0]", "type"}},
		{"variable with a value", map[string]any{"pass_environment": []any{"A", "B=c"}}, []string{"pass_environment[1]", `"B=c"`, "name of an environment variable"}},
		{"variable by a pattern", map[string]any{"pass_environment": []any{"APP_*"}}, []string{"pass_environment[0]", `"APP_*"`, "name"}},
		{"variable without a name", map[string]any{"pass_environment": []any{""}}, []string{"pass_environment[0]", `""`}},
		{"mount without target", map[string]any{"chroot_mounts": []any{[]any{"bind", "/dev", ""}}}, []string{"chroot_mounts[0]", "target"}},
		{"relative copy_files", map[string]any{"copy_files": []any{"/a", "b"}}, []string{"copy_files[1]", `"b"`}},
		{"relative mount_path", map[string]any{"mount_path": "mnt"}, []string{"mount_path", `"mnt"`, "absolute"}},
		{"empty mount option", map[string]any{"mount_options": []any{"ro", ""}}, []string{"mount_options[1]"}},
		{"device_path", map[string]any{"device_path": "sdf"}, []string{"device_path", `"sdf"`, "/dev/sdf"}},
		{"device_path of a path", map[string]any{"device_path": "/dev/disk/x"}, []string{"device_path"}},
		{"mount_partition", map[string]any{"mount_partition": "p1"}, []string{"mount_partition", `"p1"`}},
		{"mount_partition below 0", map[string]any{"mount_partition": -1}, []string{"mount_partition", `"-1"`}},
		{"mount_partition with a zero ahead", map[string]any{"mount_partition": "01"}, []string{"mount_partition", `"01"`}},
		{"root_volume_size", map[string]any{"root_volume_size": -1}, []string{"root_volume_size", "-1"}},
		{"root_volume_size of no number", map[string]any{"root_volume_size": "big"}, []string{"root_volume_size", "big"}},
		{"root_volume_type", map[string]any{"root_volume_type": "fast"}, []string{"root_volume_type", `"fast"`, "gp2, io1"}},
		{"syntax of mount_path", map[string]any{"mount_path": "/x/{{.Device"}, []string{"mount_path"}},
		{"syntax of command_wrapper", map[string]any{"command_wrapper": "sudo {{.Command"}, []string{"command_wrapper"}},
		{"syntax of pre_mount_commands", map[string]any{"pre_mount_commands": []any{"{{"}}, []string{"pre_mount_commands"}},
		{"syntax of post_mount_commands", map[string]any{"post_mount_commands": []any{"{{end}}"}}, []string{"post_mount_commands"}},
		{"syntax of pre_unmount_commands", map[string]any{"pre_unmount_commands": []any{"{{end}}"}}, []string{"pre_unmount_commands"}},
		{"field of pre_unmount_commands", map[string]any{"pre_unmount_commands": []any{"ls {{.Path}}"}}, []string{"pre_unmount_commands[0]", ".Path", ".Device, .MountPath"}},
		{"block_services of no boolean", map[string]any{"block_services": "perhaps"}, []string{"block_services", "perhaps"}},
		{"clean_uploads of no boolean", map[string]any{"clean_uploads": "perhaps"}, []string{"clean_uploads", "perhaps"}},
		{"syntax of a tag", map[string]any{"tags": map[string]any{"k": "{{.}"}}, []string{"tags"}},
		{"unknown function", map[string]any{"mount_path": "/{{device}}"}, []string{"mount_path", "device"}},
		{"field of mount_path", map[string]any{"mount_path": "/{{.MountPath}}"}, []string{"mount_path", ".MountPath", ".Device"}},
		{"field of command_wrapper", map[string]any{"command_wrapper": "{{.Cmd}}"}, []string{"command_wrapper", ".Cmd", ".Command"}},
		{"field of pre_mount_commands", map[string]any{"pre_mount_commands": []any{"true", "mkfs {{.Devise}}"}}, []string{"pre_mount_commands[1]", ".Devise"}},
		{"field of post_mount_commands", map[string]any{"post_mount_commands": []any{"ls {{.Mountpath}}"}}, []string{"post_mount_commands[0]", ".Mountpath", ".Device, .MountPath"}},
		{"field of description", map[string]any{"description": "of {{.SourceAMI}}"}, []string{"description", ".SourceAMI", ".SourceTMI"}},
		{"field of a tag's value", map[string]any{"tags": map[string]any{"from": "{{.Source}}"}}, []string{`tags "from"`, ".Source,"}},
		{"field of a tag's key", map[string]any{"tags": map[string]any{"{{.Key}}": "v"}}, []string{"tags", ".Key,"}},
		{"field in a condition", map[string]any{"description": "{{if .Foo}}a{{else}}{{end}}"}, []string{".Foo"}},
		{"field in an else", map[string]any{"description": "{{if .BuildRegion}}a{{else}}{{.Foo}}{{end}}"}, []string{".Foo"}},
		{"field in a pipe", map[string]any{"description": "{{.Foo | upper}}"}, []string{".Foo"}},
		{"field in brackets", map[string]any{"description": "{{upper (lower .Foo)}}"}, []string{".Foo"}},
		{"field of the root in a range", map[string]any{"description": "{{range .SourceTMITags}}{{$.Foo}}{{end}}"}, []string{".Foo"}},
		{"scratch without commands", scratch("pre_mount_commands"), []string{"pre_mount_commands is required"}},
		{"scratch without size", scratch("root_volume_size"), []string{"root_volume_size is required"}},
		{"scratch without root", scratch("root_device_name"), []string{"root_device_name is required"}},
		{"scratch with io1", map[string]any{"from_scratch": true, "pre_mount_commands": []any{"x"}, "root_volume_size": 1, "root_device_name": "xvda", "root_volume_type": "io1"}, []string{"root_volume_iops is required", "root_volume_type io1"}},
		{"root_volume_iops", map[string]any{"root_volume_iops": -1}, []string{"root_volume_iops", "-1"}},
		{"snapshot_users", map[string]any{"snapshot_users": []any{"123456789012", "me"}}, []string{"snapshot_users[1]", `"me"`, "12 digits"}},
		{"snapshot_groups", map[string]any{"snapshot_groups": []any{"some"}}, []string{"snapshot_groups[0]", `"some"`, "all"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, errs := decode(t, test.give)
			if len(errs) != 1 {
				t.Fatalf("got %d errors, want one: %q", len(errs), errs)
			}
			mustContain(t, errs[0], test.want...)
		})
	}
}

// scratch are the options of a build from scratch without one.
func scratch(without string) map[string]any {
	all := map[string]any{"from_scratch": true, "pre_mount_commands": []any{"x"}, "root_volume_size": 1, "root_device_name": "xvda"}
	delete(all, without)
	return all
}

func TestRightOptions(t *testing.T) {
	for name, give := range map[string]map[string]any{
		"mount_path without a device":    {"mount_path": "/mnt/here"},
		"mount_path of a user variable":  {"mount_path": "{{user `dir`}}/{{.Device}}", "packer_user_variables": map[string]any{"dir": "/x"}},
		"a mount without a source":       {"chroot_mounts": []any{[]any{"tmpfs", "", "/tmp"}}},
		"whole device":                   {"mount_partition": "0"},
		"scratch with io1":               {"from_scratch": true, "pre_mount_commands": []any{"x"}, "root_volume_size": 10, "root_device_name": "xvda", "root_volume_type": "io1", "root_volume_iops": 100},
		"shared snapshots":               {"snapshot_users": []any{"123456789012"}, "snapshot_groups": []any{"all"}},
		"functions":                      {"pre_mount_commands": []any{"echo {{timestamp}} {{isotime}} {{.Device | upper}}"}},
		"a function that fails on some":  {"description": `{{split .SourceTMIName "-" 5}}`},
		"tags of the source":             {"tags": map[string]any{"r": "{{.SourceTMITags.Release}}"}},
		"dot in a range and in a with":   {"description": "{{range .SourceTMITags}}{{.Anything}}{{end}}{{with .SourceTMITags}}{{.Release}}{{end}}"},
		"variables":                      {"description": "{{$x := .BuildRegion}}{{$x}}{{$.BuildRegion}}"},
		"empty commands and no template": {"pre_mount_commands": []any{""}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, errs := decode(t, give); errs != nil {
				t.Errorf("refused: %q", errs)
			}
		})
	}
}

// TestCleanResourceName: what a name may have depends on the kind.
func TestCleanResourceName(t *testing.T) {
	o, errs := decode(t, map[string]any{
		"name":               "{{`a:b  {c}é` | clean_resource_name}}",
		"description":        "{{clean_resource_name .BuildRegion}}",
		"pre_mount_commands": []any{"echo {{clean_resource_name .Device}}"},
	})
	if errs != nil || o.Name != "a-b  -c--" {
		t.Errorf("the name is %q, errors %q", o.Name, errs)
	}
}

// TestTemplateThatCannotBeRendered is told before there is a volume.
func TestTemplateThatCannotBeRendered(t *testing.T) {
	for option, give := range map[string]any{
		"pre_mount_commands[1]":  []any{"true", "echo {{env `HOME`}}"},
		"post_mount_commands[0]": []any{"echo {{env `HOME`}}"},
		"mount_path":             "/mnt/{{env `HOME`}}",
		"command_wrapper":        "{{env `SUDO`}} {{.Command}}",
	} {
		name, _, _ := strings.Cut(option, "[")
		_, errs := decode(t, map[string]any{name: give})
		if len(errs) != 1 {
			t.Fatalf("%s: %q", option, errs)
		}
		mustContain(t, errs[0], "cannot render "+option, "env vars are not allowed here")
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	_, errs := decode(t, map[string]any{
		"unknown_one": 1, "unknown_two": 2,
		"mount_path": "x", "mount_partition": "y", "copy_files": []any{"z"},
	})
	text := strings.Join(errs, "\n")
	mustContain(t, text, "unknown_one", "unknown_two", "mount_path", "mount_partition", "copy_files[0]")
	if len(errs) != 5 {
		t.Errorf("got %d errors, want 5:\n%s", len(errs), text)
	}
}

// TestAnOptionThatPackerFixKnows says so, as every builder of the kind does.
func TestAnOptionThatPackerFixKnows(t *testing.T) {
	var o options
	amazon := kind
	amazon.ID = "mitchellh.amazon.chroot"
	_, err := builder.Decode(&o, &o.Config, amazon, nil, map[string]any{"enhanced_networking": true})
	mustContain(t, fmt.Sprint(err), "enhanced_networking", "packer fix")
}

func TestScratchRootIsMapped(t *testing.T) {
	tests := []struct {
		scratch bool
		root    string
		devices []string
		want    string
	}{
		{false, "", nil, ""},
		{true, "xvda", []string{"sdb", "xvda"}, ""},
		{true, "xvda", []string{"/dev/xvda"}, ""},
		{true, "/dev/xvda", []string{"xvda"}, ""},
		{true, "xvda", nil, "maps is required"},
		{true, "xvda", []string{"xvdb"}, "maps has no device_name xvda"},
	}
	for _, test := range tests {
		c := builder.Config{FromScratch: test.scratch, RootDeviceName: test.root}
		err := c.CheckScratchRoot("maps", test.devices)
		if (err == nil) != (test.want == "") {
			t.Errorf("%+v: %v", test, err)
		} else if err != nil {
			mustContain(t, err.Error(), test.want)
		}
	}
}

func FuzzTemplatesNeverPanic(f *testing.F) {
	for _, seed := range []string{"{{.Device}}", "{{if .A}}{{else if .B}}{{end}}", "{{range $i, $e := .X}}{{break}}{{end}}", `{{template "root"}}`, `{{define "x"}}{{.Y}}{{end}}`, "{{(.A).B.C}}", "{{/* c */}}", "{{with $x := .A}}{{$x.B}}{{end}}", "{{nil}}", "{{- .Device -}}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := builder.Config{PreMountCommands: []string{text}, MountPath: "/x"}
		for _, err := range c.Prepare(kind) {
			if !strings.Contains(err.Error(), "pre_mount_commands[0]") {
				t.Errorf("%q: the error does not name its option: %v", text, err)
			}
		}
	})
}
