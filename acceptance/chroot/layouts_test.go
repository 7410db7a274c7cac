package chroot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// part is a file system of a layout: its position in MiB and the command that makes it.
type part struct {
	start, size int
	mkfs        []string
	// root says that it holds the root file system, at the path below.
	root      bool
	subvolume string
	// further are other subvolumes, beside one for /boot.
	further []string
	// files are written into it; %UUID of the part that is named so is put in.
	files map[string]string
}

// layout is a disk of a source image.
type layout struct {
	name string
	// script is sfdisk's; without one the first part is the whole disk.
	script string
	parts  []part
	// mark is a path to write to, and in which part it must be: its index, and the
	// path there.
	mark     string
	markPart int
	markPath string
	fails    []string
}

const (
	espType  = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	biosType = "21686148-6449-6E6F-744E-656564454649"
	rootType = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
)

var (
	ext4  = []string{"mkfs.ext4", "-q"}
	xfs   = []string{"mkfs.xfs", "-q"}
	btrfs = []string{"mkfs.btrfs", "-q"}
	vfat  = []string{"mkfs.vfat"}
	swap  = []string{"mkswap"}
	// lvm writes the magic bytes of a physical volume, because this host has no device mapper.
	lvm = []string{`sh -c 'printf "LVM2 001" | dd conv=notrunc status=none bs=1 seek=536 of=$0'`}
)

func rootOf(start, size int, mkfs []string) part {
	return part{start: start, size: size, mkfs: mkfs, root: true}
}

// layouts are disks that images come on.
var layouts = []layout{
	{name: "whole disk", parts: []part{rootOf(0, 200, ext4)}},
	{name: "MBR, one partition", script: "label: dos\n1: start=1MiB, size=100MiB, type=83, bootable\n", parts: []part{rootOf(1, 100, ext4)}},
	{
		name: "MBR, behind swap", script: "label: dos\n1: start=1MiB, size=16MiB, type=82\n2: start=20MiB, size=100MiB, type=83\n",
		parts: []part{{start: 1, size: 16, mkfs: swap}, rootOf(20, 100, ext4)}, markPart: 1,
	},
	{
		name: "MBR, logical behind swap", script: "label: dos\n1: start=1MiB, size=16MiB, type=82\n2: start=20MiB, size=200MiB, type=5\n5: start=22MiB, size=100MiB, type=83\n",
		parts: []part{{start: 1, size: 16, mkfs: swap}, rootOf(22, 100, ext4)}, markPart: 1,
	},
	{name: "GPT, the root first", script: "label: gpt\n1: start=1MiB, size=100MiB\n2: start=110MiB, size=16MiB\n", parts: []part{rootOf(1, 100, ext4), {start: 110, size: 16, mkfs: ext4}}},
	{
		name: "GPT, BIOS boot and root", script: "label: gpt\n1: start=1MiB, size=1MiB, type=" + biosType + "\n2: start=2MiB, size=100MiB\n",
		parts: []part{rootOf(2, 100, ext4)},
	},
	{
		name: "GPT, ESP and root", script: "label: gpt\n1: start=1MiB, size=33MiB, type=" + espType + "\n2: start=40MiB, size=100MiB\n",
		parts: []part{{start: 1, size: 33, mkfs: vfat}, rootOf(40, 100, ext4)}, markPart: 1,
	},
	{
		name: "GPT, ESP, /boot and root", script: "label: gpt\n1: start=1MiB, size=33MiB, type=" + espType + "\n2: start=40MiB, size=32MiB\n3: start=80MiB, size=100MiB\n",
		parts: []part{
			{start: 1, size: 33, mkfs: []string{"mkfs.vfat", "-i", "12345678"}},
			{start: 40, size: 32, mkfs: []string{"mkfs.ext4", "-q", "-U", "0e7a1a2b-0000-4000-8000-0123456789ab"}},
			{start: 80, size: 100, mkfs: ext4, root: true, files: map[string]string{
				"etc/fstab": "UUID=1234-5678 /boot/efi vfat umask=0077 0 1\nUUID=0e7a1a2b-0000-4000-8000-0123456789ab /boot ext4 defaults 0 2\n",
			}},
		},
		mark: "/boot/mark", markPart: 1, markPath: "mark",
	},
	{
		name: "GPT, the root marked and last", script: "label: gpt\n1: start=1MiB, size=33MiB, type=" + espType + "\n2: start=40MiB, size=100MiB\n3: start=150MiB, size=100MiB, type=" + rootType + "\n",
		parts:    []part{{start: 1, size: 33, mkfs: vfat}, rootOf(40, 100, ext4), rootOf(150, 100, ext4)},
		markPart: 2,
	},
	{
		name:   "GPT, 1, 14 and 15 as cloud images have",
		script: "label: gpt\n1: start=128MiB, size=100MiB\n14: start=1MiB, size=4MiB, type=" + biosType + "\n15: start=5MiB, size=106MiB, type=" + espType + "\n",
		parts: []part{
			{start: 128, size: 100, mkfs: ext4, root: true, files: map[string]string{"etc/fstab": "LABEL=cloudimg-rootfs / ext4 defaults 0 1\nLABEL=UEFI /boot/efi vfat umask=0077 0 1\n"}},
			{start: 5, size: 106, mkfs: []string{"mkfs.vfat", "-n", "UEFI"}},
		},
	},
	{
		name: "GPT, ESP, /boot of xfs and root of xfs", script: "label: gpt\n1: start=1MiB, size=33MiB, type=" + espType + "\n2: start=40MiB, size=310MiB\n3: start=360MiB, size=320MiB\n",
		parts: []part{
			{start: 1, size: 33, mkfs: vfat},
			{start: 40, size: 310, mkfs: []string{"mkfs.xfs", "-q", "-L", "boot"}},
			{start: 360, size: 320, mkfs: xfs, root: true, files: map[string]string{"etc/fstab": "LABEL=boot /boot xfs defaults 0 0\n"}},
		},
		mark: "/boot/mark", markPart: 1, markPath: "mark",
	},
	{
		name: "MBR, /boot first", script: "label: dos\n1: start=1MiB, size=32MiB, type=83, bootable\n2: start=40MiB, size=100MiB, type=83\n",
		parts: []part{
			{start: 1, size: 32, mkfs: []string{"mkfs.ext4", "-q", "-L", "boot"}, files: map[string]string{"grub/grub.cfg": "x", "vmlinuz": "x"}},
			{start: 40, size: 100, mkfs: ext4, root: true, files: map[string]string{"etc/fstab": "LABEL=boot /boot ext4 defaults 0 2\n"}},
		},
		mark: "/root/mark && echo built > /boot/mark && cp /boot/vmlinuz /etc/copied", markPart: 1,
	},
	{
		name: "GPT, /boot first, the root marked", script: "label: gpt\n1: start=1MiB, size=32MiB\n2: start=40MiB, size=32MiB\n3: start=80MiB, size=100MiB, type=" + rootType + "\n",
		parts: []part{
			{start: 1, size: 32, mkfs: ext4, files: map[string]string{"grub/grub.cfg": "x"}}, {start: 40, size: 32, mkfs: ext4, files: map[string]string{"etc/fstab": "x"}},
			rootOf(80, 100, ext4),
		},
		markPart: 2,
	},
	{
		name: "MBR, /boot first, LVM second", script: "label: dos\n1: start=1MiB, size=32MiB, type=83\n2: start=40MiB, size=100MiB, type=8e\n",
		parts: []part{{start: 1, size: 32, mkfs: ext4, files: map[string]string{"grub/grub.cfg": "x"}}, {start: 40, size: 100, mkfs: lvm}},
		fails: []string{"no partition looks like a root", "mount_partition", "partition 1 (type 83, ext4, 32 MiB)", "partition 2 (type 8e, LVM, 100 MiB)"},
	},
	{name: "xfs, first", script: "label: gpt\n1: start=1MiB, size=320MiB\n", parts: []part{rootOf(1, 320, xfs)}},
	{
		name: "btrfs with the subvolume @", script: "label: gpt\n1: start=1MiB, size=1MiB, type=" + biosType + "\n2: start=2MiB, size=200MiB\n",
		parts: []part{{start: 2, size: 200, mkfs: btrfs, root: true, subvolume: "@"}}, markPath: "@/root/mark",
	},
	{
		name: "btrfs, /boot its own subvolume", script: "label: dos\n1: start=1MiB, size=200MiB, type=83\n",
		parts: []part{{start: 1, size: 200, mkfs: []string{"mkfs.btrfs", "-q", "-L", "fedora"}, root: true, subvolume: "root", files: map[string]string{"etc/fstab": "LABEL=fedora / btrfs subvol=root 0 0\nLABEL=fedora /boot btrfs subvol=boot 0 0\n"}}},
		mark:  "/boot/mark", markPath: "boot/mark",
	},
	{
		name: "two roots", script: "label: gpt\n1: start=1MiB, size=33MiB, type=" + espType + "\n2: start=40MiB, size=100MiB\n3: start=150MiB, size=120MiB\n",
		parts: []part{{start: 1, size: 33, mkfs: vfat}, rootOf(40, 100, ext4), rootOf(150, 120, []string{"mkfs.ext4", "-q", "-L", "rescue"})},
		fails: []string{"more than one root file system", "mount_partition", "partition 1 (type EFI system, vfat, 33 MiB)", ", ext4, 100 MiB): it looks like a root", `ext4, label "rescue", 120 MiB): it looks like a root`},
	},
	{
		name: "swap and data", script: "label: dos\n1: start=1MiB, size=16MiB, type=82\n2: start=20MiB, size=100MiB, type=83\n",
		parts: []part{{start: 1, size: 16, mkfs: swap}, {start: 20, size: 100, mkfs: ext4, files: map[string]string{"music/song": "la"}}},
		fails: []string{"no partition looks like a root", "partition 1 (type swap, swap, 16 MiB)", "partition 2 (type 83, ext4, 100 MiB): it has no /etc/os-release"},
	},
}

// TestDiskLayouts builds on each layout with no option that speaks of the disk, by the
// builders in turn.
func TestDiskLayouts(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	for i, l := range layouts {
		f := harness.Flavors[i%len(harness.Flavors)]
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			b := harness.New(t)
			l.mark = or(l.mark, "/root/mark")
			template := b.Template(f.Basic(map[string]any{"source_PREFIX": source(b, l)}), harness.Shell("echo built > "+l.mark))
			if l.fails != nil {
				b.Fails(template, l.fails...)
				return
			}
			b.Build(template)
			raw := b.Disk(latest(b).ID)
			at := l.parts[l.markPart]
			if got := inPart(b, raw, at, or(l.markPath, "root/mark")); got != "built\n" {
				t.Errorf("the image holds %q", got)
			}
		})
	}
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// TestMountBootTurnedOff leaves the image's fstab alone, by both names of the option.
func TestMountBootTurnedOff(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		for _, l := range layouts {
			if l.mark != "/boot/mark" || l.parts[0].mkfs[0] != "mkfs.vfat" {
				continue
			}
			b.Build(b.Template(f.Basic(map[string]any{"source_PREFIX": source(b, l), "mount_boot": false, "mount_fstab": false}), harness.Shell("mkdir -p /boot", "echo built > /boot/mark")))
			raw, root := b.Disk(latest(b).ID), l.parts[len(l.parts)-1]
			if got := inPart(b, raw, root, "boot/mark"); got != "built\n" {
				t.Errorf("%s: the root's own /boot holds %q", l.name, got)
			}
			return
		}
	})
}

// latest is the image that a build made last; others were imported.
func latest(b *harness.Box) harness.Image {
	b.Helper()
	for _, img := range b.Images() {
		if strings.HasPrefix(img.Name, "made by ") {
			return img
		}
	}
	b.Fatal("no build made an image")
	return harness.Image{}
}

// source imports an image of the layout and returns its ID.
func source(b *harness.Box, l layout) string {
	b.Helper()
	raw := filepath.Join(b.Dir, "layout.raw")
	onHost(b, "truncate -s 800M %s", raw)
	if l.script != "" {
		script := b.Write("layout.sfdisk", l.script)
		onHost(b, "sfdisk --quiet %s < %s", raw, script)
	}
	for i, p := range l.parts {
		onHost(b, "dd if=%s of=%s bs=1M seek=%d conv=notrunc,sparse status=none", partition(b, i, p), raw, p.start)
	}
	return b.Loopcloud("image", "import", "--endpoint", b.Endpoint, "--name", "layout", raw)
}

// partition makes a file system with its content.
func partition(b *harness.Box, i int, p part) string {
	b.Helper()
	file := filepath.Join(b.Dir, "part"+strconv.Itoa(i))
	onHost(b, "truncate -s %dM %s", p.size, file)
	onHost(b, "%s %s", strings.Join(p.mkfs, " "), file)
	if !p.root && p.files == nil {
		return file
	}
	mounted(b, file, 0, func(dir string) {
		if p.subvolume != "" {
			for _, name := range append([]string{p.subvolume, "boot"}, p.further...) {
				onHost(b, "cd %s && btrfs -q subvolume create %s", dir, name)
			}
		}
		top := filepath.Join(dir, p.subvolume)
		if p.root {
			onHost(b, "cp -a %s/. %s/", harness.Programs.Root, top)
		}
		for name, content := range p.files {
			path := filepath.Join(top, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	})
	return file
}

// inPart reads a file of a partition of a disk; it is empty if there is none.
func inPart(b *harness.Box, raw string, p part, path string) (content string) {
	b.Helper()
	mounted(b, raw, p.start, func(dir string) { content = harness.Read(filepath.Join(dir, path)) })
	return content
}

// mounted mounts the file system at an offset in MiB of a file, calls see, and unmounts it.
func mounted(b *harness.Box, file string, mib int, see func(dir string)) {
	b.Helper()
	dir := testdir.New(b.TB)
	loop := onHost(b, "losetup --find --show --offset %d %s", mib<<20, file)
	defer onHost(b, "losetup --detach %s", loop)
	onHost(b, "mount %s %s", loop, dir)
	defer unmount(b, loop, dir)
	see(dir)
}

// unmount unmounts a loop device, and waits until all is written: a mount namespace that
// another build has made meanwhile holds the file system for its moment.
func unmount(b *harness.Box, loop, dir string) {
	b.Helper()
	onHost(b, "umount %s", dir)
	harness.WaitFor(b.TB, loop+" is free", func() bool {
		fd, err := unix.Open(loop, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err == nil {
			b.Must(unix.Close(fd))
		}
		return !errors.Is(err, unix.EBUSY)
	})
}

// onHost runs a command of the host.
func onHost(b *harness.Box, format string, args ...any) string {
	b.Helper()
	line := fmt.Sprintf(format, args...)
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		b.Fatalf("%s: %v\n%s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestGrowRoot has the root fill a volume larger than the source, and only when it
// is asked to.
func TestGrowRoot(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	tests := []struct {
		layout string
		grow   bool
		atMiB  int // the size of the root file system is at least this, and below twice as much
		fails  string
	}{
		{"whole disk", true, 1800, ""},
		{"MBR, one partition", true, 1800, ""},
		{"MBR, one partition", false, 70, ""},
		{"GPT, ESP, /boot and root", true, 1700, ""},
		{"GPT, 1, 14 and 15 as cloud images have", true, 1700, ""},
		{"xfs, first", true, 1700, ""},
		{"btrfs with the subvolume @", true, 1700, ""},
		{"GPT, the root first", true, 0, "partition 2 lies behind it"},
		{"MBR, logical behind swap", true, 1800, ""},
	}
	for i, tt := range tests {
		f := harness.Flavors[i%len(harness.Flavors)]
		t.Run(fmt.Sprintf("%s, %v", tt.layout, tt.grow), func(t *testing.T) {
			t.Parallel()
			b := harness.New(t)
			l := layouts[slices.IndexFunc(layouts, func(l layout) bool { return l.name == tt.layout })]
			out := filepath.Join(b.Dir, "size")
			template := b.Template(f.Basic(map[string]any{
				"source_PREFIX": source(b, l), "root_volume_size": 2, "grow_root_filesystem": tt.grow,
			}), map[string]any{"type": "shell-local", "inline": []string{"df -m --output=size {{build `MountPath`}} | tail -1 > " + out}})
			if tt.fails != "" {
				b.Fails(template, "grow_root_filesystem", tt.fails)
				return
			}
			b.Build(template)
			size, err := strconv.Atoi(strings.TrimSpace(harness.Read(out)))
			if err != nil || size < tt.atMiB || size >= 2*tt.atMiB {
				t.Errorf("the root has %d MiB, not some %d (%v)", size, tt.atMiB, err)
			}
			raw := b.Disk(latest(b).ID)
			if l.script != "" {
				if out := onHost(b, "sfdisk --verify %s", raw); tt.grow && !strings.Contains(out, "No errors") {
					t.Errorf("the table of the image: %s", out)
				}
			}
			root := l.parts[l.markPart]
			for _, p := range l.parts {
				if p.root {
					root = p
				}
			}
			if got := inPart(b, raw, root, filepath.Join(root.subvolume, "etc/hostname")); got != "busybox\n" {
				t.Errorf("the image holds %q", got)
			}
		})
	}
}

// amazonLinux imports a public image of the account that the reference's examples name.
func amazonLinux(t *testing.T, b *harness.Box, region string) {
	t.Helper()
	b.Loopcloud("image", "import", "--endpoint", b.Endpoint, "--account", amazon, "--region", region, "--name", "amzn-ami-hvm-2018.03", harness.Programs.Root)
	owner := ec2.New(ec2.Options{
		BaseEndpoint: aws.String(b.Endpoint), Region: region, Retryer: aws.NopRetryer{}, HTTPClient: sdkhttp.Safe(awshttp.NewBuildableClient()),
		Credentials: credentials.NewStaticCredentialsProvider(amazonKey, harness.Secret, ""),
	})
	found, err := owner.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil || len(found.Images) != 1 {
		t.Fatalf("%d images, %v", len(found.Images), err)
	}
	img := found.Images[0]
	_, err = owner.ModifyImageAttribute(t.Context(), &ec2.ModifyImageAttributeInput{
		ImageId: img.ImageId, LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{Group: "all"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = owner.ModifySnapshotAttribute(t.Context(), &ec2.ModifySnapshotAttributeInput{
		SnapshotId:             img.BlockDeviceMappings[0].Ebs.SnapshotId,
		CreateVolumePermission: &types.CreateVolumePermissionModifications{Add: []types.CreateVolumePermission{{Group: "all"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// amazon is the account, and amazonKey a key of it.
const (
	amazon    = "137112412989"
	amazonKey = "AKIAAMAZON0000000000"
)

// TestReferenceNVMeExample runs the example as it is printed, on a machine that names
// disks as Nitro does. The disk is nvme1n1 as long as no other test has one.
func TestReferenceNVMeExample(t *testing.T) {
	harness.NeedRoot(t)
	b := harness.New(t, "--naming", "nvme", "--region", "us-east-2", "--key", amazonKey+":"+harness.Secret+":"+amazon)
	amazonLinux(t, b, "us-east-2")
	template := b.Write("template.json", `{
  "variables": {
    "region" : "us-east-2"
  },
  "builders": [
    {
      "type": "amazon-chroot",
      "region": "{{user `+"`region`"+`}}",
      "source_ami_filter": {
        "filters": {
        "virtualization-type": "hvm",
        "name": "amzn-ami-hvm-*",
        "root-device-type": "ebs"
        },
        "owners": ["137112412989"],
        "most_recent": true
      },
      "ena_support": true,
      "ami_name": "amazon-chroot-test-{{timestamp}}",
      "nvme_device_path": "/dev/nvme1n1p",
      "device_path": "/dev/sdf"
    }
  ],

  "provisioners": [
    {
      "type": "shell",
      "inline": ["echo Test > /tmp/test.txt"]
    }
  ]
}`)
	out := b.Build(template)
	if !strings.Contains(out, "Mounting /dev/nvme1n1p1 on /mnt/packer-amazon-chroot-volumes/nvme1n1") {
		t.Errorf("not mounted as the example says:\n%s", out)
	}
	for _, img := range b.Images() {
		if !strings.HasPrefix(img.Name, "amazon-chroot-test-") {
			continue
		}
		if got := b.Content(b.Disk(img.ID), "/tmp/test.txt"); got != "Test\n" {
			t.Errorf("the image holds %q", got)
		}
		made, err := b.Client().DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{img.ID}},
			func(o *ec2.Options) { o.Region = "us-east-2" })
		if err != nil || !aws.ToBool(made.Images[0].EnaSupport) {
			t.Errorf("the image has no ENA, %v", err)
		}
		return
	}
	t.Errorf("no image was made:\n%s", out)
}

// TestNVMeDevicePath mounts the device that the option names, and only if it belongs to the volume.
func TestNVMeDevicePath(t *testing.T) {
	harness.NeedRoot(t)
	for _, f := range harness.Flavors {
		t.Run(f.Name, func(t *testing.T) {
			b := harness.New(t, "--naming", "nvme")
			// names that no other test has, and that builders do not try by themselves
			device := map[string]string{"amazon-chroot": "/dev/sddr", "osc-chroot": "/dev/xvdds"}[f.Name]
			named := func(path, partition string) string {
				return b.Template(f.Basic(map[string]any{"device_path": device, "nvme_device_path": path, "mount_partition": partition}),
					map[string]any{"type": "shell-local", "inline": []string{"echo on {{build `Device`}}"}})
			}
			b.Fails(named("/dev/nvme1n1p1", ""), "nvme_device_path", "/dev/nvme1n1p11", "no such file")
			b.Fails(named("/dev/null", "0"), "nvme_device_path", "/dev/null")
			if out := b.Build(named("/dev/nvme1n1p1", "0")); !strings.Contains(out, "Mounting /dev/nvme1n1p1 ") || !strings.Contains(out, "on /dev/nvme1n1\n") {
				t.Errorf("not mounted as asked for:\n%s", out)
			}
		})
	}
}

// TestDeviceNamingSchemes builds with no option on hosts that name disks in each way.
func TestDeviceNamingSchemes(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		for naming, node := range map[string]string{"nvme": "/dev/nvme", "scsi": "/dev/sd", "xen": "/dev/xvd"} {
			b := harness.New(t, "--naming", naming)
			out := b.Build(b.Template(f.Basic(map[string]any{"pre_mount_commands": []string{"echo with {{.Device}}."}}), harness.Shell("true")))
			if !strings.Contains(out, "with "+node) {
				t.Errorf("%s: not on %s:\n%s", naming, node, out)
			}
			b.Close()
		}
	})
}
