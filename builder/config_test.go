package builder_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/packer-plugin-sdk/common"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
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
		Device: regexp.MustCompile(`^/dev/(sd|xvd)[a-z]$`), DeviceSet: "/dev/sdX or /dev/xvdX",
		Description: 40, TagKey: 10, TagValue: 20, Tags: 5, ReservedTag: "test:",
	},
	VolumeTypes: builder.VolumeTypes{"gp2", "io1"},
}

// job returns the job of the options.
func (o *options) job() builder.Job {
	return builder.Job{
		Kind:       kind,
		Config:     &o.Config,
		Packer:     o.PackerConfig,
		ImageName:  o.Name,
		LabelTexts: []builder.LabelText{builder.Description("description", o.Description)},
		Connect: func(context.Context, func(string, ...any)) (builder.Session, error) {
			return builder.Session{}, nil
		},
	}
}

// decode prepares options and returns the error messages.
func decode(t *testing.T, raw map[string]any) (*options, []string) {
	t.Helper()
	var o options
	usable, err := builder.Decode(&o, &o.Config, kind, []string{"description"}, buildertest.Wire(raw))
	errs := []error{err}
	if usable {
		errs = append(errs, o.Prepare(kind)...)
		errs = append(errs, o.job().CheckLabels()...)
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

func TestEmptyCopyFiles(t *testing.T) {
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

// numbered returns tags with different keys.
func numbered(prefix string, n int) map[string]any {
	tags := map[string]any{}
	for i := range n {
		tags[fmt.Sprint(prefix, i)] = "x"
	}
	return tags
}

// TestSeveralWrongTypesAreSeveralErrors checks that each option of a wrong type is reported
// once, in an error of its own.
func TestSeveralWrongTypesAreSeveralErrors(t *testing.T) {
	_, errs := decode(t, map[string]any{"root_volume_size": "ten", "mount_boot": "maybe", "tags": "x"})
	if len(errs) != 3 {
		t.Errorf("%d errors: %q", len(errs), errs)
	}
	for _, err := range errs {
		for _, jargon := range []string{"int64", "unconvertible", "strconv", "Trilean", "interface", "decoding"} {
			if strings.Contains(err, jargon) {
				t.Errorf("%q is of Go: %s", jargon, err)
			}
		}
	}
}

// TestErrorIsReportedOnce checks that an error is reported once, whatever form it has.
func TestErrorIsReportedOnce(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	for name, errs := range map[string][]error{
		"twice":  {one, two, one},
		"joined": {errors.Join(one, two), one},
		"deep":   {errors.Join(errors.Join(one, nil), two), nil},
	} {
		err := builder.Join(errs)
		if text := err.Error(); strings.Count(text, "* one") != 1 || strings.Count(text, "* two") != 1 || !strings.Contains(text, "2 error(s)") {
			t.Errorf("%s: %s", name, text)
		}
	}
	wrapped := builder.Join([]error{fmt.Errorf("both: %w", errors.Join(one, two))})
	if !strings.Contains(wrapped.Error(), "both: one") {
		t.Errorf("an error with words of its own lost them: %v", wrapped)
	}
}

// TestInvalidOptions has one invalid option at a time. The one error must name it.
func TestInvalidOptions(t *testing.T) {
	tests := []struct {
		name string
		give map[string]any
		want []string
	}{
		{"unknown option", map[string]any{"mont_path": "/x"}, []string{"mont_path is not an option"}},
		{"unknown option like none", map[string]any{"frobnicate": "/x"}, []string{"frobnicate is not an option"}},
		{"unknown option of a block", map[string]any{"tag": []any{map[string]any{"kee": "a", "value": "b", "key": "c"}}}, []string{"tag[0].kee is not an option"}},
		{"wrapper of nothing", map[string]any{"command_wrapper": "sudo -n"}, []string{`command_wrapper is "sudo -n"`, "{{.Command}}", `"sudo -n {{.Command}}"`}},
		{"wrapper of a function", map[string]any{"command_wrapper": "sudo {{timestamp}}"}, []string{"command_wrapper", "must have {{.Command}}"}},
		{"the kernel's name as device_path", map[string]any{"device_path": "/dev/nvme1n1"}, []string{`device_path is "/dev/nvme1n1"`, "/dev/sdX or /dev/xvdX"}},
		{"device_path of a partition", map[string]any{"device_path": "/dev/sdf1"}, []string{`device_path is "/dev/sdf1"`}},
		{"env in mount_path", map[string]any{"mount_path": "/{{env `HOME`}}"}, []string{"mount_path calls the function env", "variable"}},
		{"env in pre_unmount_commands", map[string]any{"pre_unmount_commands": []any{"{{env `HOME`}}"}}, []string{"pre_unmount_commands[0] calls the function env"}},
		{"env in a tag", map[string]any{"tags": map[string]any{"a": "{{if true}}{{env `HOME` | upper}}{{end}}"}}, []string{`tags "a" calls the function env`}},
		{"env in a tag's block", map[string]any{"snapshot_tag": []any{map[string]any{"key": "a", "value": "{{env `HOME`}}"}}}, []string{`snapshot_tags "a" calls the function env`}},
		{"env in the description", map[string]any{"description": "{{env `HOME`}}"}, []string{"description calls the function env"}},
		{"env in the name", map[string]any{"name": "{{env `HOME`}}"}, []string{"name calls the function env", "variable"}},
		{"build in the description", map[string]any{"description": "{{build `ID`}}"}, []string{"description calls the function build", "{{.BuildRegion}}"}},
		{"build in a list", map[string]any{"copy_files": []any{"/a", "/{{build `ID`}}"}}, []string{"copy_files[1] calls the function build"}},
		{"a field in the name", map[string]any{"name": "of {{.SourceTMI}}"}, []string{"name uses .SourceTMI", "no fields"}},
		{"a field of a field", map[string]any{"description": "{{.SourceTMI.Name}}"}, []string{"description speaks of .SourceTMI.Name", ".SourceTMI has no fields"}},
		{"a field of a tag's", map[string]any{"description": "{{.SourceTMITags.Name.First}}"}, []string{".SourceTMITags.Name has no fields"}},
		{"a long description", map[string]any{"description": strings.Repeat("x", 41)}, []string{"description: the description has 41 characters, but may have 40"}},
		{"a reserved tag", map[string]any{"tags": map[string]any{"Test:name": "x"}}, []string{"tags: tag", `"Test:name"`, `"test:"`}},
		{"a reserved tag of the volume", map[string]any{"root_volume_tag": []any{map[string]any{"key": "test:name", "value": "{{.BuildRegion}}"}}}, []string{"root_volume_tags: tag", `"test:name"`}},
		{"a long key", map[string]any{"snapshot_tags": map[string]any{strings.Repeat("k", 11): "x"}}, []string{"snapshot_tags: tag", "more than 10"}},
		{"a long value", map[string]any{"tags": map[string]any{"k": strings.Repeat("v", 21)}}, []string{"tags: tag", "more than 20"}},
		{"many tags", map[string]any{"tags": numbered("a", 6)}, []string{"tags: ", "6 tags", "5"}},
		{"many tags of a snapshot", map[string]any{"tags": numbered("a", 3), "snapshot_tags": numbered("b", 3)}, []string{"tags and snapshot_tags: ", "6 tags", "5"}},
		{"many tags of the volume", map[string]any{"root_volume_tags": numbered("a", 5)}, []string{"root_volume_tags: ", "6 tags", "the build's own"}},
		{"a number that is none", map[string]any{"root_volume_size": "ten"}, []string{`root_volume_size must be a whole number, and is "ten"`}},
		{"a number that is a list", map[string]any{"root_volume_iops": []any{"secret"}}, []string{"root_volume_iops must be a whole number, and is a list"}},
		{"a boolean that is none", map[string]any{"from_scratch": "maybe"}, []string{`from_scratch must be true or false, and is "maybe"`}},
		{"a tri-state that is none", map[string]any{"mount_boot": "maybe"}, []string{`mount_boot must be true or false, and is "maybe"`}},
		{"a tri-state that is a list", map[string]any{"mount_boot": []any{"a"}}, []string{"mount_boot must be true or false, and is a list"}},
		{"a string that is a map", map[string]any{"mount_path": map[string]any{"a": "secret"}}, []string{"mount_path must be a string, and is a map"}},
		{"a tag that is a map", map[string]any{"tags": map[string]any{"a": map[string]any{"b": "c"}}}, []string{"tags[a] must be a string, and is a map"}},
		{"a map that is a string", map[string]any{"tags": "x"}, []string{"tags must be a map, and is a string"}},
		{"an entry that is a list", map[string]any{"copy_files": []any{[]any{"x"}}}, []string{"copy_files[0] must be a string, and is a list"}},
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
		{"mount_fstab and its old name", map[string]any{"mount_fstab": true, "mount_boot": false}, []string{"mount_fstab is true", "mount_boot is false", "old name"}},
		{"mount_fstab off and its old name on", map[string]any{"mount_fstab": false, "mount_boot": true}, []string{"mount_fstab is false", "mount_boot is true"}},
		{"mount_fstab of no boolean", map[string]any{"mount_fstab": "perhaps"}, []string{"mount_fstab", "perhaps"}},
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

func TestValidOptions(t *testing.T) {
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

// TestCleanResourceName checks that the allowed characters of a name depend on the kind of
// resource.
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

// TestTemplateThatCannotBeRendered checks that the error is reported before there is a volume.
func TestTemplateThatCannotBeRendered(t *testing.T) {
	for option, give := range map[string]any{
		"pre_mount_commands[1]":   []any{"true", "echo {{template_dir}}"},
		"post_mount_commands[0]":  []any{"echo {{template_dir}}"},
		"pre_unmount_commands[0]": []any{"echo {{template_dir}}"},
		"mount_path":              "/mnt/{{template_dir}}",
		"command_wrapper":         "{{template_dir}} {{.Command}}",
	} {
		name, _, _ := strings.Cut(option, "[")
		_, errs := decode(t, map[string]any{name: give})
		if len(errs) != 1 {
			t.Fatalf("%s: %q", option, errs)
		}
		mustContain(t, errs[0], "cannot render "+option, "template path not available")
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

// TestRemovedOptionAdvisesPackerFix checks that the error advises packer fix, as in Packer's
// builders.
func TestRemovedOptionAdvisesPackerFix(t *testing.T) {
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
