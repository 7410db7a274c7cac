package acceptance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Templates here are shaped like public ones that were written for other plugins.

// scratch is a build from nothing, for a volume of its own partition table.
func (f flavor) scratch(more map[string]any) map[string]any {
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
	return f.basic(options)
}

// TestPartitionsOnNVMe builds from scratch on hosts with NVMe disks, by commands that
// name partition 1 as {{.Device}}1, as the pages of both builders do. If a link has the
// name that was asked for, it is what {{.Device}} stands for.
func TestPartitionsOnNVMe(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		asked := map[string]string{"amazon-chroot": "/dev/sddr", "osc-chroot": "/dev/xvdds"}[f.name]
		for _, tt := range []struct {
			naming, device, called string
		}{
			{"nvme", "", "/dev/nvme"},
			{"nvme", asked, "/dev/nvme"},
			{"nvme-links", asked, asked},
		} {
			t.Run(tt.naming+tt.device, func(t *testing.T) {
				b := newBox(t, "--naming", tt.naming)
				options := map[string]any{
					"pre_mount_commands": []string{
						"parted -s {{.Device}} mklabel msdos mkpart primary 1M 100% set 1 boot on",
						"mkfs.ext4 -q {{.Device}}1",
						"tune2fs -L stranger {{.Device}}p1",
					},
					"post_mount_commands": []string{"cp -a " + programs.root + "/. {{.MountPath}}/"},
					"mount_path":          filepath.Join(b.dir, "mnt", "{{.Device}}"),
				}
				if f.prefix == "ami" {
					options["ami_virtualization_type"] = "hvm"
				}
				if tt.device != "" {
					options["device_path"] = tt.device
				}
				out := b.build(b.template(f.scratch(options),
					map[string]any{"type": "shell-local", "inline": []string{"echo on {{build `Device`}} at {{build `MountPath`}}."}},
					shell("echo scratch > /root/made")))
				at := filepath.Join(b.dir, "mnt", filepath.Base(tt.called))
				if !strings.Contains(flat(out), "on "+tt.called) || !strings.Contains(flat(out), "at "+at) {
					t.Errorf("not on %s at %s:\n%s", tt.called, at, out)
				}
				if got := b.content(b.disk(b.made().ID), "/root/made"); got != "scratch\n" {
					t.Errorf("the image holds %q", got)
				}
			})
		}
	})
}

// TestMountPathWithFiles mounts over a directory that is not empty.
func TestMountPathWithFiles(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		b.write("mnt/file", "of the host\n")
		b.write("provisioning/script", "from here\n")
		out := b.build(b.template(f.basic(map[string]any{
			"mount_path": filepath.Join(b.dir, "mnt"),
			"chroot_mounts": []any{
				[]any{"proc", "proc", "/proc"},
				[]any{"bind", "provisioning", "/provisioning"},
			},
		}), shell("cp /provisioning/script /root/script", "test ! -e /file")))
		if !strings.Contains(flat(out), "is not empty: file") {
			t.Errorf("no warning:\n%s", out)
		}
		if got := read(filepath.Join(b.dir, "mnt", "file")); got != "of the host\n" {
			t.Errorf("afterwards the file of the host holds %q", got)
		}
		if got := b.content(b.disk(b.made().ID), "/root/script"); got != "from here\n" {
			t.Errorf("the image holds %q", got)
		}
		if b.has(b.disk(b.made().ID), "/provisioning") {
			t.Error("the image has the mount point")
		}
	})
}

// TestDevicePathIsALeftLink refuses a name that another plugin has left a link under.
func TestDevicePathIsALeftLink(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		name := map[string]string{"amazon-chroot": "/dev/sddt", "osc-chroot": "/dev/xvddu"}[f.name]
		b.must(os.Symlink("nvme99n1", name))
		defer os.Remove(name)
		b.fails(b.template(f.basic(map[string]any{"device_path": name}), shell("true")),
			fmt.Sprintf("device_path: %s is a link to nvme99n1, which does not exist", name))
		for _, c := range b.calls() {
			if c.Action == "CreateVolume" {
				t.Error("a volume was made")
			}
		}
	})
}

// TestHostProgramsUnpackTheRoot unpacks a root by commands of the host, in provisioners,
// while the default mounts are there. They set the times of /dev and create nodes in it.
func TestHostProgramsUnpackTheRoot(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		probe := "/dev/" + filepath.Base(b.dir) // the host has no such node
		t.Cleanup(func() {
			if err := os.Remove(probe); err == nil {
				t.Errorf("the build created %s on the host", probe)
			}
		})
		options := map[string]any{
			"pre_mount_commands": []string{"parted -s {{.Device}} mklabel msdos mkpart primary 1M 200M", "mkfs.ext4 -q {{.Device}}1"},
		}
		if f.prefix == "ami" {
			options["ami_virtualization_type"] = "hvm"
		}
		root := "{{build `MountPath`}}"
		b.build(b.template(f.scratch(options),
			map[string]any{"type": "shell-local", "inline": []string{
				"mkdir " + b.dir + "/tree && cp -a " + programs.root + "/. " + b.dir + "/tree/ && mkdir -p " + b.dir + "/tree/dev",
				"rm -f " + b.dir + "/tree" + probe + " && mknod " + b.dir + "/tree" + probe + " c 1 3",
				"tar -C " + b.dir + "/tree -c . | tar -C " + root + " -xp",
				"cp -a " + b.dir + "/tree/. " + root + "/",
				"chown 0 " + root + "/dev && chmod 755 " + root + "/dev && touch " + root + "/dev",
				"chroot " + root + " sh -c 'test -b {{build `Device`}}1 && echo x > /dev/null'",
			}},
			shell("test ! -e "+probe, "! mknod "+probe+" c 1 3", "echo x > /dev/null", "test -b {{build `Device`}}1",
				"grep -c ' /dev devtmpfs ro,' /proc/mounts > /root/mounts")))
		if got := b.content(b.disk(b.made().ID), "/root/mounts"); got != "1\n" {
			t.Errorf("of the host's /dev there are %q read-only mounts", got)
		}
	})
}
