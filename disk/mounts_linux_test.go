package disk_test

import (
	"fmt"
	"path"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/disk/superblock"
)

func TestFstabMounts(t *testing.T) {
	device := loopDevice(t, partitioned(t, 64, "label: gpt\n").Name())
	fill(t, device, "label: gpt\n size=4MiB, "+esp+", uuid=11111111-2222-3333-4444-555555555555\n size=16MiB, name=\"boot part\"\n size=20MiB\n size=8MiB\n size=4MiB\n",
		"1 fat", "2 root", "3 data", "4 swap", "5 lvm")
	uuid := run(t, "", "blkid", "-s", "UUID", "-o", "value", device+"p2")
	at := func(target, spec, node, kind string, options ...string) disk.FstabMount {
		return disk.FstabMount{Target: target, Spec: spec, Device: device + node, Type: kind, Options: options, Optional: target == "/boot/efi"}
	}
	boot := func(spec string, options ...string) []disk.FstabMount {
		return []disk.FstabMount{at("/boot", spec, "p2", "ext4", options...)}
	}
	tests := []struct {
		name, fstab string
		want        []disk.FstabMount
		lacks       string
	}{
		{"none", "UUID=x / ext4\n", nil, ""},
		{"not an fstab", "\x00\xff\n/boot\n", nil, ""},
		{"UUID", "UUID=" + strings.ToUpper(uuid) + " /boot ext4 defaults,noatime 0 2\n", boot("UUID="+strings.ToUpper(uuid), "noatime"), ""},
		{"LABEL", "LABEL=cloudimg /boot/ auto\n", boot("LABEL=cloudimg"), ""},
		{"PARTLABEL with a blank", "PARTLABEL=boot\\040part /boot ext4\n", boot("PARTLABEL=boot part"), ""},
		{"links of udev", "/dev/disk/by-uuid/" + uuid + " /boot ext4\n", boot("/dev/disk/by-uuid/" + uuid), ""},
		{"a link of udev with a blank", "/dev/disk/by-partlabel/boot\\x20part /boot ext4\n", boot(`"/dev/disk/by-partlabel/boot\\x20part"`), ""},
		{"any target", "LABEL=cloudimg /var/lib/my\\040data ext4\n", []disk.FstabMount{at("/var/lib/my data", "LABEL=cloudimg", "p2", "ext4")}, ""},
		{
			"parents come first", "PARTUUID=11111111-2222-3333-4444-555555555555 /boot/efi vfat umask=0077 0 1\nLABEL=data /var/log ext4\n#x y z\nLABEL=data /var ext4\n LABEL=cloudimg /boot ext4\n",
			[]disk.FstabMount{
				at("/var", "LABEL=data", "p3", "ext4"), at("/boot", "LABEL=cloudimg", "p2", "ext4"),
				at("/boot/efi", "PARTUUID=11111111-2222-3333-4444-555555555555", "p1", "vfat", "umask=0077"), at("/var/log", "LABEL=data", "p3", "ext4"),
			}, "",
		},
		{"FAT's serial number", "UUID=1234-5678 /boot/efi vfat\n", []disk.FstabMount{at("/boot/efi", "UUID=1234-5678", "p1", "vfat")}, ""},
		{"a node of the root's disk", "/dev/vdq3 / ext4\n/dev/vdq2 /boot ext4\n", boot("/dev/vdq2"), ""},
		{"an NVMe node of the first disk", "/dev/nvme0n1p2 /boot ext4\n", boot("/dev/nvme0n1p2"), ""},
		{"the root's disk by its id", "/dev/disk/by-id/x-1-part3 / ext4\n/dev/disk/by-id/x-1-part2 /boot ext4\n", boot("/dev/disk/by-id/x-1-part2"), ""},
		{"another disk by its id", "/dev/disk/by-id/x-1-part3 / ext4\n/dev/disk/by-id/x-2-part2 /boot ext4\n", nil, "x-2-part2 is on another disk"},
		{"nodes of other disks", "/dev/sda3 / ext4\n/dev/sdb2 /boot ext4\n", nil, "/dev/sdb2 is on another disk"},
		{"a node that is no partition", "/dev/loop7 /boot ext4\n", nil, "/dev/loop7 is no partition of a disk"},
		{"the whole disk has no file system", "/dev/sda /boot ext4\n", nil, "no partition of the disk is /dev/sda"},
		{"another directory", "/srv/boot /boot none bind\n", nil, "it is a bind mount of /srv/boot"},
		{"on another disk", "UUID=0e7a1a2b-0000-4000-8000-0123456789ab /boot ext4\n", nil, "no partition of the disk is UUID=0e7a1a2b-0000-4000-8000-0123456789ab, and the LVM of " + device + "p5 is not opened"},
		{"no UUID at all", "UUID= /boot ext4\n", nil, "no partition of the disk is UUID="},
		{"swap for a file system", "/dev/xvda4 /boot ext4\n", nil, device + "p4 holds swap, and no file system"},
		{"no such partition", "/dev/xvda9 /boot ext4\n", nil, "no partition of the disk is /dev/xvda9"},
		{"LVM", "/dev/mapper/vg-var /var xfs\n", nil, "/dev/mapper/vg-var is a volume of LVM"},
		{"LVM by the group's name", "/dev/vg/var /var xfs\n", nil, "/dev/vg/var is a volume of LVM"},
		{"NFS", "files:/home /home nfs rw,_netdev\n", nil, "files:/home is a file system of another host (nfs)"},
		{"a share", "//files/home /home cifs\n", nil, "//files/home is a file system of another host"},
		{"not by itself", "LABEL=cloudimg /boot ext4 noauto\n", nil, ""},
		{"when it is used", "LABEL=cloudimg /boot ext4 noauto,x-systemd.automount\n", boot("LABEL=cloudimg"), ""},
		{"options that reach for the host", "LABEL=cloudimg /boot ext4 ro,journal_path=/dev/sda,bind,uid=\"\n", boot("LABEL=cloudimg", "ro"), ""},
		{"programs run in /tmp", "LABEL=cloudimg /tmp ext4 nodev,nosuid,noexec\n", []disk.FstabMount{at("/tmp", "LABEL=cloudimg", "p2", "ext4", "nodev", "nosuid")}, ""},
		{"of no disk", "tmpfs /tmp tmpfs\nproc /proc proc\n/dev/xvda4 none swap sw\n/swapfile swap swap\nLABEL=cloudimg / ext4\nLABEL=cloudimg /../. ext4\nLABEL=cloudimg none ext4\n", nil, ""},
		{"a relative target", "LABEL=cloudimg var ext4\n", nil, "not an absolute path"},
		{"a target of the kernel", "LABEL=cloudimg /var/../proc/sys ext4\n", nil, "/proc is the kernel's"},
		{"a target with an escape", "LABEL=cloudimg /a\\033[2J ext4\n", nil, "no path"},
		{"an endless target", "LABEL=cloudimg /" + strings.Repeat("a", 5000) + " ext4\n", nil, "no path"},
		{"the first that is there", "LABEL=nonesuch /boot ext4\nLABEL=cloudimg /boot ext4\nLABEL=no /boot ext4\n", boot("LABEL=cloudimg"), ""},
		{"the same twice", "LABEL=cloudimg /boot ext4\nUUID=" + uuid + " /boot/ ext4\n", boot("LABEL=cloudimg"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := disk.FstabMounts(device, tt.fstab)
			if err != nil {
				t.Fatal(err)
			}
			if tt.lacks != "" {
				if len(got) != 1 || !strings.Contains(got[0].Lack, tt.lacks) || got[0].Device != "" {
					t.Errorf("got %+v; want one that lacks: %s", got, tt.lacks)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("nofail", func(t *testing.T) {
		got, err := disk.FstabMounts(device, "LABEL=cloudimg /boot ext4 nofail\n")
		if err != nil || len(got) != 1 || !got[0].Optional {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("two for one target", func(t *testing.T) {
		got, err := disk.FstabMounts(device, "LABEL=cloudimg /var ext4\nLABEL=data /var ext4\n")
		if err != nil || len(got) != 1 || got[0].Device != device+"p2" || !strings.Contains(got[0].Note, "LABEL=data") {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("too many", func(t *testing.T) {
		var all strings.Builder
		for i := range 30000 {
			fmt.Fprintf(&all, "/dev/sda2 /d%d ext4\n", i) // by node: the disk's name is found once
		}
		got, err := disk.FstabMounts(device, all.String()+"LABEL=data /usr ext4\n")
		if err != nil || len(got) != 101 {
			t.Fatalf("%d, %v", len(got), err)
		}
		if last := got[100]; last.Target != "/usr" || !strings.Contains(last.Lack, "one of 29901 entries beyond the 100") {
			t.Errorf("%+v", last)
		}
	})
}

func TestFstabMountsOfBtrfs(t *testing.T) {
	device := btrfs(t, map[string]map[string]string{"root": {"etc/os-release": "ID=x\n"}, "home": nil})
	run(t, "", "btrfs", "filesystem", "label", device, "fedora")
	got, err := disk.FstabMounts(device, "/dev/sda / btrfs subvol=root\nLABEL=fedora /home btrfs compress=zstd:1,subvol=home,x-initrd.mount\n/dev/sda /var btrfs subvolid=257\n")
	want := []disk.FstabMount{
		{Target: "/home", Spec: "LABEL=fedora", Device: device, Type: "btrfs", Options: []string{"subvol=home"}},
		{Target: "/var", Spec: "/dev/sda", Device: device, Type: "btrfs", Options: []string{"subvolid=257"}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

// FuzzFstabMounts parses any fstab: only file systems on the disk are mounted, at targets
// below the root, and all texts can be printed.
func FuzzFstabMounts(f *testing.F) {
	for _, text := range []string{
		"LABEL=a /../.. ext4\n", "LABEL=a /proc ext4\n", "LABEL=a /dev/../dev ext4 bind\n", "LABEL=a /\\057\\040 ext4\n", "LABEL=a rel ext4\n",
		"LABEL=a none ext4\n", "LABEL=a /\\000 ext4\n", "LABEL=a /var ext4 subvol=\\054journal_path=/dev/sda\n", "UUID=\\033 /usr\\011 x \\134\n",
		"/dev/disk/by-label/\\x61 /a x\n", "h:/x /n nfs\n", "/dev/sda1 /a/b x\n/dev/sda1 /a x\n",
	} {
		f.Add(text)
	}
	device := disk.Partition{Number: 1, Length: 1 << 20, GUID: "g", Name: "n"}
	f.Fuzz(func(t *testing.T, text string) {
		seen := map[string]bool{}
		for _, m := range disk.MountsOf(text, device, "/dev/xvdf1", superblock.Content{Type: "ext4", UUID: "u", Label: "a", FileSystem: true}) {
			if m.Lack == "" && (m.Device != "/dev/xvdf1" || seen[m.Target] || m.Target == "/" || path.Clean(m.Target) != m.Target || !path.IsAbs(m.Target)) {
				t.Errorf("mounted: %+v", m)
			}
			seen[m.Target] = true
			if shown := m.Spec + m.Lack + m.Note; strings.ContainsFunc(shown, unicode.IsControl) || len(shown) > 2000 {
				t.Errorf("shown: %q", shown)
			}
			for _, top := range []string{"/proc", "/sys", "/dev"} {
				if m.Lack == "" && (m.Target == top || strings.HasPrefix(m.Target, top+"/")) {
					t.Errorf("mounted: %+v", m)
				}
			}
			if strings.ContainsFunc(m.Target, unicode.IsControl) || strings.ContainsAny(strings.Join(m.Options, ""), ",\"") {
				t.Errorf("an option or target that may be two: %+v", m)
			}
		}
	})
}
