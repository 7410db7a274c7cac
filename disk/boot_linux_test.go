package disk_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

func TestBoot(t *testing.T) {
	device := loopDevice(t, partitioned(t, 64, "label: gpt\n").Name())
	fill(t, device, "label: gpt\n size=4MiB, "+esp+", uuid=11111111-2222-3333-4444-555555555555\n size=16MiB, name=\"boot part\"\n size=20MiB\n size=8MiB\n",
		"1 fat", "2 root", "3 data", "4 swap")
	uuid := run(t, "", "blkid", "-s", "UUID", "-o", "value", device+"p2")
	at := func(target, node, kind string, options ...string) disk.BootMount {
		return disk.BootMount{Target: target, Device: device + node, Type: kind, Options: options, Optional: target == "/boot/efi"}
	}
	tests := []struct {
		name, fstab string
		want        []disk.BootMount
		lacks       string
	}{
		{"none", "UUID=x / ext4\n", nil, ""},
		{"not an fstab", "\x00\xff\n/boot\n", nil, ""},
		{"UUID", "UUID=" + strings.ToUpper(uuid) + " /boot ext4 defaults,noatime 0 2\n", []disk.BootMount{at("/boot", "p2", "ext4", "noatime")}, ""},
		{"LABEL", "LABEL=cloudimg /boot/ auto\n", []disk.BootMount{at("/boot", "p2", "ext4")}, ""},
		{"PARTLABEL with a blank", "PARTLABEL=boot\\040part /boot ext4\n", []disk.BootMount{at("/boot", "p2", "ext4")}, ""},
		{"a link of udev", "/dev/disk/by-uuid/" + uuid + " /boot ext4\n", []disk.BootMount{at("/boot", "p2", "ext4")}, ""},
		{
			"/boot comes first", "PARTUUID=11111111-2222-3333-4444-555555555555 /boot/efi vfat umask=0077 0 1\n#x y z\n LABEL=cloudimg /boot ext4\n",
			[]disk.BootMount{at("/boot", "p2", "ext4"), at("/boot/efi", "p1", "vfat", "umask=0077")}, "",
		},
		{"FAT's serial number", "UUID=1234-5678 /boot/efi vfat\n", []disk.BootMount{at("/boot/efi", "p1", "vfat")}, ""},
		{"a node of the root's disk", "/dev/vdq3 / ext4\n/dev/vdq2 /boot ext4\n", []disk.BootMount{at("/boot", "p2", "ext4")}, ""},
		{"an NVMe node of the first disk", "/dev/nvme0n1p2 /boot ext4\n", []disk.BootMount{at("/boot", "p2", "ext4")}, ""},
		{"nodes of other disks", "/dev/sda3 / ext4\n/dev/sdb2 /boot ext4\n", nil, "/dev/sdb2 is on another disk"},
		{"a node that is no partition", "/dev/loop7 /boot ext4\n", nil, "/dev/loop7 is no partition of a disk"},
		{"another directory", "/srv/boot /boot none bind\n", nil, "/srv/boot is no partition"},
		{"on another disk", "UUID=0e7a1a2b-0000-4000-8000-0123456789ab /boot ext4\n", nil, "no partition of the disk is UUID=0e7a1a2b"},
		{"no UUID at all", "UUID= /boot ext4\n", nil, "no partition of the disk is UUID="},
		{"swap", "/dev/xvda4 /boot swap\n", nil, "no file system"},
		{"no such partition", "/dev/xvda9 /boot ext4\n", nil, "no partition of the disk is /dev/xvda9"},
		{"not by itself", "LABEL=cloudimg /boot ext4 noauto\n", nil, ""},
		{"when it is used", "LABEL=cloudimg /boot ext4 noauto,x-systemd.automount\n", []disk.BootMount{at("/boot", "p2", "ext4")}, ""},
		{"options that reach for the host", "LABEL=cloudimg /boot ext4 ro,journal_path=/dev/sda,bind,uid=\"\n", []disk.BootMount{at("/boot", "p2", "ext4", "ro")}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := disk.Boot(device, tt.fstab)
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
		got, err := disk.Boot(device, "LABEL=cloudimg /boot ext4 nofail\n")
		if err != nil || len(got) != 1 || !got[0].Optional {
			t.Errorf("%+v, %v", got, err)
		}
	})
}
