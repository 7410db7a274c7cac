package chroot

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// separate is a disk with an fstab that names its partitions in every way and has entries that a build cannot or must
// not mount.
var separate = layout{
	script: "label: gpt\n1: start=1MiB, size=100MiB\n2: start=110MiB, size=16MiB\n3: start=130MiB, size=16MiB\n" +
		"4: start=150MiB, size=16MiB, uuid=11111111-2222-3333-4444-555555555555\n5: start=170MiB, size=16MiB\n6: start=190MiB, size=16MiB, name=\"log part\"\n",
	parts: []part{
		{start: 1, size: 100, mkfs: ext4, root: true, files: map[string]string{"etc/fstab": `
/dev/xvda1 / ext4 defaults 0 1
/dev/disk/by-partlabel/log\x20part /var/log ext4 defaults 0 2
LABEL=var /var ext4 nodev,x-systemd.growfs 0 2
UUID=0e7a1a2b-0000-4000-8000-0123456789ab /home ext4 nosuid,noexec
PARTUUID=11111111-2222-3333-4444-555555555555 /srv/my\040data ext4
/dev/xvda5 /opt ext4
LABEL=var /never ext4 noauto
LABEL=var /proc/fs ext4
LABEL=var ../../../../escape ext4
/dev/mapper/vg-data /data xfs defaults 0 0
files:/export /net nfs _netdev
LABEL=gone /gone ext4 nofail
/dev/sdb1 /other ext4
tmpfs /tmp tmpfs size=1m
`}},
		{start: 110, size: 16, mkfs: []string{"mkfs.ext4", "-q", "-L", "var"}, files: map[string]string{"log/hidden": "x"}},
		{start: 130, size: 16, mkfs: []string{"mkfs.ext4", "-q", "-U", "0e7a1a2b-0000-4000-8000-0123456789ab"}},
		{start: 150, size: 16, mkfs: ext4},
		{start: 170, size: 16, mkfs: []string{"mkfs.ext2", "-q"}},
		{start: 190, size: 16, mkfs: ext4},
	},
}

// TestFstab builds on a disk with several partitions. Files must be where the booted image expects them, and each entry
// that cannot be mounted is reported once.
func TestFstab(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		dirs := []string{"var", "home", "srv/my data", "opt", "var/log"} // in the order of the partitions
		out := b.Build(b.Template(f.Basic(map[string]any{"source_PREFIX": source(b, separate)}), harness.Shell(
			"for dir in /var /home '/srv/my data' /opt /var/log; do echo built > \"$dir/mark\"; done",
			"cp /bin/busybox /home/true && /home/true true && ! test -e /escape && ! test -e /never",
		)))
		raw := b.Disk(latest(b).ID)
		for i, dir := range dirs {
			if got := inPart(b, raw, separate.parts[i+1], "mark"); got != "built\n" {
				t.Errorf("partition %d holds %q", i+2, got)
			}
			if got := inPart(b, raw, separate.parts[0], dir+"/mark"); got != "" {
				t.Errorf("/%s of the root holds %q", dir, got)
			}
		}
		out = harness.Flat(out)
		for target, why := range map[string]string{
			"/data": "LVM", "/net": "another host", "/gone": "no partition of the disk is LABEL=gone", "/other": "/dev/sdb1 is on another disk",
			"/proc/fs": "/proc is the kernel's", "../../../../escape": "not an absolute path",
		} {
			told := "going on without " + target + ", which the image's fstab mounts from "
			if _, rest, ok := strings.Cut(out, told); !ok || !strings.Contains(rest[:min(len(rest), 200)], why) || strings.Count(out, told) != 1 {
				t.Errorf("%s is not told, once, with %q:\n%s", target, why, out)
			}
		}
		if n := strings.Count(out, "going on without"); n != 6 {
			t.Errorf("%d entries are told:\n%s", n, out)
		}
	})
}

// fedora returns a disk like that of Fedora's cloud images. Each cloud has its own, because the kernel does not
// mount two file systems with the same UUID.
func fedora(f harness.Flavor) layout {
	uuid := fmt.Sprintf("0e7a1a2b-0000-4000-8000-00000000000%d", slices.Index(harness.Flavors, f))
	return layout{
		script: "label: gpt\n1: start=1MiB, size=33MiB, type=" + espType + "\n2: start=40MiB, size=32MiB\n3: start=80MiB, size=200MiB\n",
		parts: []part{
			{start: 1, size: 33, mkfs: vfat},
			{start: 40, size: 32, mkfs: []string{"mkfs.ext4", "-q", "-L", "BOOT"}},
			{start: 80, size: 200, mkfs: []string{"mkfs.btrfs", "-q", "-L", "fedora", "-U", uuid}, root: true, subvolume: "root", further: []string{"home", "var"}, files: map[string]string{
				"etc/fstab": "UUID=" + uuid + " / btrfs compress=zstd:1,defaults,subvol=root 0 1\nLABEL=BOOT /boot ext4 defaults 1 2\nUUID=" +
					uuid + " /home btrfs compress=zstd:1,subvol=home 0 0\nUUID=" + uuid + " /var btrfs subvol=/var 0 0\n",
			}},
		},
	}
}

// TestFstabOfSubvolumes also has the root grow, and a process of another mount
// namespace keep copies of the mounts.
func TestFstabOfSubvolumes(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		b.Build(b.Template(f.Basic(map[string]any{"source_PREFIX": source(b, fedora(f)), "root_volume_size": 2, "grow_root_filesystem": true}),
			harness.Shell("for dir in /boot /home /var /root; do echo built > $dir/mark; done", "unshare -m sleep 1000 </dev/null >/dev/null 2>&1 &")))
		raw, parts := b.Disk(latest(b).ID), fedora(f).parts
		for path, want := range map[string]string{"home/mark": "built\n", "var/mark": "built\n", "root/root/mark": "built\n", "root/home/mark": "", "root/var/mark": ""} {
			if got := inPart(b, raw, parts[2], path); got != want {
				t.Errorf("%s holds %q", path, got)
			}
		}
		if got := inPart(b, raw, parts[1], "mark"); got != "built\n" {
			t.Errorf("/boot holds %q", got)
		}
	})
}

// TestUsrThatCannotBeMounted fails before anything is provisioned, unless the user has
// mounted it.
func TestUsrThatCannotBeMounted(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		root := rootOf(1, 100, ext4)
		root.files = map[string]string{"etc/fstab": "/dev/mapper/vg-usr /usr ext4 defaults 0 0\n"}
		id := source(b, layout{script: "label: dos\n1: start=1MiB, size=100MiB, type=83\n", parts: []part{root}})
		ran := filepath.Join(b.Dir, "provisioned")
		touch := map[string]any{"type": "shell-local", "inline": []string{"touch " + ran}}
		b.Fails(b.Template(f.Basic(map[string]any{"source_PREFIX": id}), touch), "/usr", "/dev/mapper/vg-usr", "LVM", "mount_fstab = false")
		if _, err := os.Stat(ran); err == nil {
			t.Error("the image was provisioned")
		}
		b.Build(b.Template(f.Basic(map[string]any{"source_PREFIX": id, "post_mount_commands": []string{"mount -t tmpfs usr {{.MountPath}}/usr"}}), touch))
	})
}
