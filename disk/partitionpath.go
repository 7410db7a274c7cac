package disk

import "strconv"

// PartitionPath returns the node of a device's partition: the kernel puts a p between if
// the device's name ends in a digit (/dev/xvdf1, /dev/nvme1n1p1).
func PartitionPath(device string, n int) string {
	if device != "" && device[len(device)-1] >= '0' && device[len(device)-1] <= '9' {
		device += "p"
	}
	return device + strconv.Itoa(n)
}
