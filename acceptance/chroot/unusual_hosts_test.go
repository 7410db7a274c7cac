package chroot

// Templates here are shaped like public ones that were written for other plugins.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// scratch returns the options of a build from scratch, with its own partition table.
func scratch(f harness.Flavor, more map[string]any) map[string]any {
	options := map[string]any{
		"source_PREFIX":                nil,
		"from_scratch":                 true,
		"PREFIX_name":                  "from scratch",
		"PREFIX_block_device_mappings": []any{map[string]any{"device_name": "xvda"}},
		"root_device_name":             "xvda",
		"root_volume_size":             1,
	}
	for k, v := range more {
		options[k] = v
	}
	return f.Basic(options)
}

// TestPartitionsOnNVMe builds from scratch on hosts with NVMe disks. Its commands name partition 1 as {{.Device}}1, as
// the reference of both builders does. If a link has the requested name, {{.Device}} is the link.
func TestPartitionsOnNVMe(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		asked := map[string]string{"amazon-chroot": "/dev/sddr", "osc-chroot": "/dev/xvdds"}[f.Name]
		for _, tt := range []struct {
			naming, device, called string
		}{
			{"nvme", "", "/dev/nvme"},
			{"nvme", asked, "/dev/nvme"},
			{"nvme-links", asked, asked},
		} {
			t.Run(tt.naming+tt.device, func(t *testing.T) {
				b := harness.New(t, "--naming", tt.naming)
				options := map[string]any{
					"pre_mount_commands": []string{
						"parted -s {{.Device}} mklabel msdos mkpart primary 1M 100% set 1 boot on",
						"mkfs.ext4 -q {{.Device}}1",
						"tune2fs -L stranger {{.Device}}p1",
					},
					"post_mount_commands": []string{"cp -a " + harness.Programs.Root + "/. {{.MountPath}}/"},
					"mount_path":          filepath.Join(b.Dir, "mnt", "{{.Device}}"),
				}
				if f.Prefix == "ami" {
					options["ami_virtualization_type"] = "hvm"
				}
				if tt.device != "" {
					options["device_path"] = tt.device
				}
				out := b.Build(b.Template(scratch(f, options),
					map[string]any{"type": "shell-local", "inline": []string{"echo on {{build `Device`}} at {{build `MountPath`}}."}},
					harness.Shell("echo scratch > /root/made")))
				at := filepath.Join(b.Dir, "mnt", filepath.Base(tt.called))
				if !strings.Contains(harness.Flat(out), "on "+tt.called) || !strings.Contains(harness.Flat(out), "at "+at) {
					t.Errorf("not on %s at %s:\n%s", tt.called, at, out)
				}
				if got := b.Content(b.Disk(b.Made().ID), "/root/made"); got != "scratch\n" {
					t.Errorf("the image holds %q", got)
				}
			})
		}
	})
}

// TestMountPathWithFiles mounts over a directory that is not empty.
func TestMountPathWithFiles(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		b.Write("mnt/file", "of the host\n")
		b.Write("provisioning/script", "from here\n")
		out := b.Build(b.Template(f.Basic(map[string]any{
			"mount_path": filepath.Join(b.Dir, "mnt"),
			"chroot_mounts": []any{
				[]any{"proc", "proc", "/proc"},
				[]any{"bind", "provisioning", "/provisioning"},
			},
		}), harness.Shell("cp /provisioning/script /root/script", "test ! -e /file")))
		if !strings.Contains(harness.Flat(out), "is not empty: file") {
			t.Errorf("no warning:\n%s", out)
		}
		if got := harness.Read(filepath.Join(b.Dir, "mnt", "file")); got != "of the host\n" {
			t.Errorf("afterwards the file of the host holds %q", got)
		}
		if got := b.Content(b.Disk(b.Made().ID), "/root/script"); got != "from here\n" {
			t.Errorf("the image holds %q", got)
		}
		if b.Has(b.Disk(b.Made().ID), "/provisioning") {
			t.Error("the image has the mount point")
		}
	})
}

// TestDevicePathIsAStaleLink refuses a name that another plugin has left a link under.
func TestDevicePathIsAStaleLink(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		name := map[string]string{"amazon-chroot": "/dev/sddt", "osc-chroot": "/dev/xvddu"}[f.Name]
		b.Must(os.Symlink("nvme99n1", name))
		defer os.Remove(name)
		b.Fails(b.Template(f.Basic(map[string]any{"device_path": name}), harness.Shell("true")),
			fmt.Sprintf("device_path: %s is a link to nvme99n1, which does not exist", name))
		for _, c := range b.Calls() {
			if c.Action == "CreateVolume" {
				t.Error("a volume was made")
			}
		}
	})
}

// TestHostProgramsUnpackTheRoot unpacks a root by commands of the host, in provisioners,
// while the default mounts are there. They set the times of /dev and create nodes in it.
func TestHostProgramsUnpackTheRoot(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		probe := "/dev/" + filepath.Base(b.Dir) // the host has no such node
		t.Cleanup(func() {
			if err := os.Remove(probe); err == nil {
				t.Errorf("the build created %s on the host", probe)
			}
		})
		options := map[string]any{
			"pre_mount_commands": []string{"parted -s {{.Device}} mklabel msdos mkpart primary 1M 200M", "mkfs.ext4 -q {{.Device}}1"},
		}
		if f.Prefix == "ami" {
			options["ami_virtualization_type"] = "hvm"
		}
		root := "{{build `MountPath`}}"
		b.Build(b.Template(scratch(f, options),
			map[string]any{"type": "shell-local", "inline": []string{
				"mkdir " + b.Dir + "/tree && cp -a " + harness.Programs.Root + "/. " + b.Dir + "/tree/ && mkdir -p " + b.Dir + "/tree/dev",
				"rm -f " + b.Dir + "/tree" + probe + " && mknod " + b.Dir + "/tree" + probe + " c 1 3",
				"tar -C " + b.Dir + "/tree -c . | tar -C " + root + " -xp",
				"cp -a " + b.Dir + "/tree/. " + root + "/",
				"chown 0 " + root + "/dev && chmod 755 " + root + "/dev && touch " + root + "/dev",
				"chroot " + root + " sh -c 'test -b {{build `Device`}}1 && echo x > /dev/null'",
			}},
			harness.Shell("test ! -e "+probe, "! mknod "+probe+" c 1 3", "echo x > /dev/null", "test -b {{build `Device`}}1",
				"grep -c ' /dev devtmpfs ro,' /proc/mounts > /root/mounts")))
		if got := b.Content(b.Disk(b.Made().ID), "/root/mounts"); got != "1\n" {
			t.Errorf("of the host's /dev there are %q read-only mounts", got)
		}
	})
}
