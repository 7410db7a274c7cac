package disk

import "github.com/packer-chroot/packer-plugin-chroot/disk/devnode"

// PartitionPath returns the node of a device's partition.
func PartitionPath(device string, n int) string { return devnode.PartitionPath(device, n) }
