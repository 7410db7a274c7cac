package disk

import "strconv"

// PartitionPath is the node of a device's partition: the kernel puts a p between
// when the device's name ends in a digit (/dev/xvdf1, /dev/nvme1n1p1).
func PartitionPath(device string, n int) string {
	if device != "" && device[len(device)-1] >= '0' && device[len(device)-1] <= '9' {
		device += "p"
	}
	return device + strconv.Itoa(n)
}

// Query is what is known of an attached volume.
type Query struct {
	// Volume is its id in the cloud, such as vol-0123456789abcdef0.
	Volume string
	// Device is the name that the attachment was asked for under, such as
	// /dev/sdf.
	Device string
	// Bytes is its size; 0 if it is not known.
	Bytes int64
	// Before are the disks that the host had before the attachment, as Disks lists
	// them; nil if that is not known. None of them is the volume's.
	Before Seen
}

// Seen are the disks of a host at one time, by the kernel's names. The value tells a
// disk from another one that has its name later; it is empty where the kernel has
// nothing to tell them by.
type Seen map[string]string
