package bake_test

import (
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

func TestPartitionsOfCommands(t *testing.T) {
	nvme := bake.Disk{Node: "/dev/nvme1n1", Name: "/dev/nvme1n1"}
	linked := bake.Disk{Node: "/dev/nvme1n1", Name: "/dev/sdp"}
	xen := bake.Disk{Node: "/dev/xvdf", Name: "/dev/xvdf"}
	for _, tt := range []struct {
		disk          bake.Disk
		command, want string
	}{
		{nvme, "mkfs.ext4 /dev/nvme1n11", "mkfs.ext4 /dev/nvme1n1p1"},
		{nvme, "mkfs.ext4 /dev/nvme1n1p1 && fsck /dev/nvme1n112;", "mkfs.ext4 /dev/nvme1n1p1 && fsck /dev/nvme1n1p12;"},
		{nvme, "parted -s /dev/nvme1n1 mklabel gpt; wipefs '/dev/nvme1n1'", "parted -s /dev/nvme1n1 mklabel gpt; wipefs '/dev/nvme1n1'"},
		{nvme, "ls /dev/nvme1n1x1 /dev/nvme1n1p1x", "ls /dev/nvme1n1x1 /dev/nvme1n1p1x"},
		{linked, "mkfs.ext4 /dev/sdp1 /dev/sdpp2 /dev/sdp", "mkfs.ext4 /dev/nvme1n1p1 /dev/nvme1n1p2 /dev/sdp"},
		{xen, "mkfs.ext4 /dev/xvdf1", "mkfs.ext4 /dev/xvdf1"},
		{bake.Disk{}, "true 1", "true 1"},
	} {
		if got := tt.disk.Partitions(tt.command); got != tt.want {
			t.Errorf("%q of %+v is %q, and not %q", tt.command, tt.disk, got, tt.want)
		}
	}
}
