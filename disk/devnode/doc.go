// Package devnode creates and removes the device nodes of disks and partitions in a /dev that the
// kernel does not maintain, such as the tmpfs of a container: the nodes of devices that appear
// later are missing there. In a devtmpfs, which the kernel maintains, it changes nothing.
package devnode

import "strconv"

// PartitionPath returns the node of a device's partition: the kernel puts a p between if
// the device's name ends in a digit (/dev/xvdf1, /dev/nvme1n1p1).
func PartitionPath(device string, n int) string { return prefix(device) + strconv.Itoa(n) }

// prefix returns the beginning of the nodes of a device's partitions.
func prefix(device string) string {
	if device != "" && device[len(device)-1] >= '0' && device[len(device)-1] <= '9' {
		return device + "p"
	}
	return device
}
