package options

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

func TestMountPathOptionsAndCommands(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		log := filepath.Join(b.Dir, "log")
		b.Build(b.Template(f.Basic(map[string]any{
			"mount_path":          filepath.Join(b.Dir, "mnt", "{{.Device}}"),
			"mount_options":       []string{"noatime", "errors=remount-ro"},
			"mount_partition":     "1",
			"pre_mount_commands":  []string{"echo pre {{.Device}} >> " + log, "test -b {{.Device}}1"},
			"post_mount_commands": []string{"echo post {{.Device}} {{.MountPath}} >> " + log, "grep ' {{.MountPath}} ' /proc/self/mounts >> " + log},
		}), harness.Shell("true")))
		got := strings.Split(harness.Read(log), "\n")
		if len(got) < 3 || !strings.HasPrefix(got[0], "pre /dev/xvd") {
			t.Fatalf("the commands wrote %q", got)
		}
		device := strings.TrimPrefix(got[0], "pre ")
		mount := filepath.Join(b.Dir, "mnt", filepath.Base(device))
		if want := "post " + device + " " + mount; got[1] != want {
			t.Errorf("post_mount_commands wrote %q, want %q", got[1], want)
		}
		if !strings.Contains(got[2], "noatime") || !strings.Contains(got[2], "errors=remount-ro") {
			t.Errorf("mounted as %q", got[2])
		}
		if _, err := os.Stat(filepath.Join(b.Dir, "mnt")); err == nil {
			t.Error("the mount directory is left")
		}
	})
}

func TestChrootMountsAndCopyFiles(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		carried := b.Write("carried", "from the host\n")
		bound := filepath.Dir(b.Write("bound/file", "through the mount\n"))
		b.Build(b.Template(f.Basic(map[string]any{
			"copy_files":    []string{carried},
			"chroot_mounts": [][]string{{"proc", "proc", "/proc"}, {"bind", bound, "/mnt/bound here"}, {"tmpfs", "tmpfs", "/tmp"}},
		}), harness.Shell(
			"cat "+carried+" > /root/carried",
			"cat '/mnt/bound here/file' > /root/bound",
			"grep -c '^tmpfs /tmp ' /proc/mounts > /root/tmpfs",
			"ls /sys > /root/sys; ls /dev | grep -c null > /root/dev || true",
			"echo gone > /tmp/gone",
		)))
		disk := b.Disk(b.Made().ID)
		for path, want := range map[string]string{
			"/root/carried": "from the host\n",
			"/root/bound":   "through the mount\n",
			"/root/tmpfs":   "1\n",
			"/root/sys":     "",
			"/root/dev":     "0\n",
		} {
			if got := b.Content(disk, path); got != want {
				t.Errorf("%s holds %q, want %q", path, got, want)
			}
		}
		for _, path := range []string{"/tmp/gone", carried} {
			if b.Has(disk, path) {
				t.Errorf("%s is in the image", path)
			}
		}
		if harness.Read(carried) != "from the host\n" || harness.Read(filepath.Join(bound, "file")) != "through the mount\n" {
			t.Error("a file of the host was changed")
		}
	})
}

// TestResolvConf checks that, by default, the host's resolv.conf is used while provisioning
// and the image keeps its own.
func TestResolvConf(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		b.Build(b.Template(f.Basic(nil), harness.Shell("cat /etc/resolv.conf > /root/seen")))
		disk := b.Disk(b.Made().ID)
		if got, want := b.Content(disk, "/root/seen"), harness.Read("/etc/resolv.conf"); got != want {
			t.Errorf("the provisioner saw %q, the host has %q", got, want)
		}
		if b.Has(disk, "/etc/resolv.conf") {
			t.Error("the image has a resolv.conf that it did not have")
		}
	})
}

func TestCommandWrapper(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		host := filepath.Join(b.Dir, "host")
		b.Build(b.Template(f.Basic(map[string]any{
			"command_wrapper":    "env WRAPPED=yes {{.Command}}",
			"pre_mount_commands": []string{"sh -c 'echo pre $WRAPPED' >> " + host},
		}), harness.Shell("echo \"in $WRAPPED\" > /root/wrapped", "echo '$HOME `id` \"x\"' >> /root/wrapped")))
		if got := harness.Read(host); got != "pre yes\n" {
			t.Errorf("a pre-mount command wrote %q", got)
		}
		if got, want := b.Content(b.Disk(b.Made().ID), "/root/wrapped"), "in yes\n$HOME `id` \"x\"\n"; got != want {
			t.Errorf("a provisioner wrote %q, want %q", got, want)
		}
	})
}

func TestDevicePath(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		// names that no other test has, and that builders do not try by themselves
		device := map[string]string{"amazon-chroot": "/dev/sddp", "osc-chroot": "/dev/xvddq"}[f.Name]
		node := map[string]string{"amazon-chroot": "/dev/xvddp", "osc-chroot": "/dev/xvddq"}[f.Name]
		out := b.Build(b.Template(f.Basic(map[string]any{"device_path": device}),
			map[string]any{"type": "shell-local", "inline": []string{"echo it is {{build `Device`}}"}}))
		if !strings.Contains(out, "it is "+node) {
			t.Errorf("not on %s:\n%s", node, out)
		}
	})
}

func TestRootVolumeAndMappings(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		deletes := map[string]string{"ami": "delete_on_termination", "omi": "delete_on_vm_deletion"}[f.Prefix]
		b.Build(b.Template(f.Basic(map[string]any{
			"root_volume_size":   3,
			"root_volume_type":   "standard",
			"PREFIX_description": "of {{.Source" + strings.ToUpper(f.Prefix) + "Name}} in {{.BuildRegion}}",
			"tags":               map[string]string{"from": "{{.Source" + strings.ToUpper(f.Prefix) + "}}"},
			"PREFIX_block_device_mappings": []map[string]any{
				{"device_name": "/dev/sdb", "volume_size": 7, "volume_type": "gp2", deletes: true},
			},
		}), harness.Shell("true")))
		made := b.Made()
		if made.Description != "of busybox in "+harness.Region || made.Tags["from"] != harness.SourceID {
			t.Errorf("described as %q, tagged %v", made.Description, made.Tags)
		}
		img := b.Describe(made.ID)
		got := map[string]string{}
		for _, m := range img.BlockDeviceMappings {
			if m.Ebs != nil {
				got[aws.ToString(m.DeviceName)] = fmt.Sprintf("%d GiB %s snapshot=%t deleted=%t", aws.ToInt32(m.Ebs.VolumeSize), m.Ebs.VolumeType, m.Ebs.SnapshotId != nil, aws.ToBool(m.Ebs.DeleteOnTermination))
			}
		}
		want := "3 GiB standard snapshot=true"
		if root := got[aws.ToString(img.RootDeviceName)]; !strings.HasPrefix(root, want) {
			t.Errorf("the root device is %q, want %q: %v", root, want, got)
		}
		if got["/dev/sdb"] != "7 GiB gp2 snapshot=false deleted=true" {
			t.Errorf("the other device is %q", got["/dev/sdb"])
		}
		if size := harness.FileSize(t, b.Disk(made.ID)); size != 3<<30 {
			t.Errorf("the disk has %d bytes, not 3 GiB", size)
		}
	})
}

// TestReferenceFromScratchExample partitions a blank volume with parted and
// makes its file system, as both pages show; the source of its files is a
// provisioner.
func TestReferenceFromScratchExample(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	for name, builder := range map[string]string{
		"amazon-chroot": `{
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
}`,
		"osc-chroot": `{  "type": "osc-chroot",  "ami_name": "packer-from-scratch {{timestamp}}",  "from_scratch": true,  "ami_virtualization_type": "hvm",  "pre_mount_commands": [    "parted {{.Device}} mklabel msdos mkpart primary 1M 100% set 1 boot on print",    "mkfs.ext4 {{.Device}}1"  ],  "root_volume_size": 15,  "root_device_name": "xvdf",  "ami_block_device_mappings": [    {      "device_name": "xvdf",      "delete_on_termination": true,      "volume_type": "gp2"    }  ]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := harness.New(t)
			template := b.Write("template.json", fmt.Sprintf(`{"builders": [%s], "provisioners": [
				{"type": "shell-local", "inline": ["cp -a %s/. {{build `+"`MountPath`"+`}}/"]},
				{"type": "shell", "inline": ["echo scratch > /root/made"]}]}`, builder, harness.Programs.Root))
			out := b.Build(template)
			made := b.Made()
			if got := b.Content(b.Disk(made.ID), "/root/made"); got != "scratch\n" {
				t.Errorf("the image holds %q\n%s", got, out)
			}
			img := b.Describe(made.ID)
			if n := len(img.BlockDeviceMappings); n != 1 || aws.ToInt32(img.BlockDeviceMappings[0].Ebs.VolumeSize) != 15 {
				t.Errorf("%d mappings, the first %+v", n, img.BlockDeviceMappings[0].Ebs)
			}
			if img.VirtualizationType != "hvm" {
				t.Errorf("virtualization %s", img.VirtualizationType)
			}
		})
	}
}

// TestWholeDisk mounts a file system that fills the disk, by mount_partition 0
// and by finding no partition table.
func TestWholeDisk(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		for _, partition := range []any{"0", nil} {
			b := harness.New(t)
			whole := b.Write("whole.raw", "")
			if err := os.Truncate(whole, 64<<20); err != nil {
				t.Fatal(err)
			}
			if err := harness.Run("mkfs.ext4", "-q", "-d", harness.Programs.Root, whole); err != nil {
				t.Fatal(err)
			}
			id := b.Loopcloud("image", "import", "--endpoint", b.Endpoint, "--name", "whole", whole)
			b.Build(b.Template(f.Basic(map[string]any{"source_PREFIX": id, "mount_partition": partition}), harness.Shell("echo whole > /root/mark")))
			for _, img := range b.Images() {
				if img.ID == harness.SourceID || img.ID == id {
					continue
				}
				if got := b.Debugfs(b.Disk(img.ID), 0, "cat /root/mark"); got != "whole\n" {
					t.Errorf("mount_partition %v: the image holds %q", partition, got)
				}
			}
		}
	})
}
