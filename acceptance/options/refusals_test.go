package options

import (
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// TestInvalidInput builds with one thing wrong at a time. Each ends with an error
// that names the option and the value, before anything is created.
func TestInvalidInput(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		cases := []struct {
			name    string
			options map[string]any
			env     []string
			says    []string
		}{
			{name: "no source", options: map[string]any{"source_PREFIX": nil}, says: []string{"source_" + f.Prefix}},
			{name: "no name", options: map[string]any{"PREFIX_name": nil}, says: []string{f.Prefix + "_name"}},
			{name: "a name of two characters", options: map[string]any{"PREFIX_name": "ab"}, says: []string{f.Prefix + "_name", `"ab"`, "3"}},
			{name: "a mount of two", options: map[string]any{"chroot_mounts": [][]string{{"proc", "proc", "/proc"}, {"bind", "/dev"}}}, says: []string{"chroot_mounts", "bind", "/dev", "three"}},
			{name: "unknown option", options: map[string]any{"souce_ami_filter": "x"}, says: []string{"souce_ami_filter"}},
			{name: "one key", options: map[string]any{"access_key": "AKIA"}, says: []string{"secret_key"}},
			{name: "a template that does not parse", options: map[string]any{"mount_path": "/mnt/{{.Device"}, says: []string{"mount_path"}},
			{name: "from scratch without commands", options: map[string]any{"from_scratch": true}, says: []string{"pre_mount_commands", "root_volume_size"}},
			{name: "virtualization", options: map[string]any{"PREFIX_virtualization_type": "half"}, says: []string{f.Prefix + "_virtualization_type", "half", "hvm"}},
			{name: "unreachable endpoint", env: []string{"AWS_ENDPOINT_URL=http://127.0.0.1:1", "OSC_ENDPOINT_API=http://127.0.0.1:1/api/v1"}, says: []string{"127.0.0.1:1", "endpoint"}},
			{name: "refused keys", env: []string{"AWS_SECRET_ACCESS_KEY=wrong", "OSC_SECRET_KEY=wrong"}, says: []string{"key"}},
			{name: "unknown key", env: []string{"AWS_ACCESS_KEY_ID=AKIAUNKNOWN", "OSC_ACCESS_KEY=AKIAUNKNOWN"}, says: []string{"key"}},
			{name: "no such image", options: map[string]any{"source_PREFIX": "ami-00000bad"}, says: []string{"ami-00000bad"}},
			{name: "no metadata service", env: []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1", "OSC_METADATA_ENDPOINT=http://127.0.0.1:1"}, says: []string{"metadata", "127.0.0.1:1"}},
			{name: "the name is taken", options: map[string]any{"PREFIX_name": "busybox"}, says: []string{`"busybox"`, harness.SourceID}},
			{name: "smaller than the source", options: map[string]any{"root_volume_size": -1}, says: []string{"root_volume_size", "-1"}},
			{name: "io1 over another type", options: map[string]any{"root_volume_type": "io1"}, says: []string{"root_volume_type", "io1"}},
			{name: "no such copy file", options: map[string]any{"copy_files": []string{"/does/not/exist"}}, says: []string{"copy_files", "/does/not/exist"}},
			{name: "mount path of the host", options: map[string]any{"mount_path": "/proc"}, says: []string{"mount_path", "/proc is a directory of the host's system"}},
		}
		clean := b.Env
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				b := b.In(t)
				b.Env = append(slices.Clone(clean), c.env...)
				b.Calls()
				b.Fails(b.Template(f.Basic(c.options), harness.Shell("true")), c.says...)
				b.Env = clean
				for _, call := range b.Calls() {
					if strings.HasPrefix(call.Action, "Create") && call.Status < 300 {
						t.Errorf("%s was made before the error", call.Action)
					}
				}
				b.Unchanged(before)
			})
		}
	})
}

func TestNotRootWithoutWrapper(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		cmd := b.AsNobody("build", "-color=false", b.Template(f.Basic(nil)))
		b.Calls()
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(harness.Flat(string(out)), "root") || !strings.Contains(string(out), "command_wrapper") {
			t.Errorf("%v:\n%s", err, out)
		}
		if calls := b.Calls(); len(calls) != 0 {
			t.Errorf("the cloud was called: %v", calls)
		}
	})
}

// TestLocalStepsFail has every act on the host fail that a template can make fail.
func TestLocalStepsFail(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		for _, c := range []struct {
			name    string
			options map[string]any
			says    []string
		}{
			{"pre_mount_commands", map[string]any{"pre_mount_commands": []string{"true", "echo aloud; exit 4"}}, []string{"aloud", "pre_mount_commands", "exit 4", "status 4", "undone: attachment"}},
			{"the disk is emptied", map[string]any{"pre_mount_commands": []string{"dd if=/dev/zero of={{.Device}}1 bs=1M count=1 conv=fsync 2>/dev/null"}}, []string{"/dev/xvd", "undone: attachment"}},
			{"no such partition", map[string]any{"mount_partition": "9"}, []string{"no partition 9"}},
			{"mount", map[string]any{"mount_options": []string{"nonsense=1"}}, []string{"cannot mount /dev/xvd", "option"}},
			{"post_mount_commands", map[string]any{"post_mount_commands": []string{"false"}}, []string{"post_mount_commands", `"false"`, "status 1", "undone: mount of"}},
			{"a mount of nothing", map[string]any{"chroot_mounts": [][]string{{"proc", "proc", "/proc"}, {"bind", "/does/not/exist", "/mnt"}}}, []string{"chroot_mounts", "/does/not/exist"}},
			{"a mount of no type", map[string]any{"chroot_mounts": [][]string{{"nosuchfs", "none", "/mnt"}}}, []string{"chroot_mounts", "nosuchfs"}},
			{"copy onto a directory", map[string]any{"copy_files": []string{"/etc/hostname"}, "post_mount_commands": []string{"rm -f {{.MountPath}}/etc/hostname; mkdir {{.MountPath}}/etc/hostname"}}, []string{"copy_files", "/etc/hostname"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				b := b.In(t)
				b.Fails(b.Template(f.Basic(c.options), harness.Shell("true")), c.says...)
				b.Unchanged(before)
			})
		}
	})
}
