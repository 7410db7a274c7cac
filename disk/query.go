package disk

// Query describes an attached volume.
type Query struct {
	// Volume is its id in the cloud, such as vol-0123456789abcdef0.
	Volume string
	// Device is the requested name, such as /dev/sdf.
	Device string
	// Bytes is its size; 0 if it is not known.
	Bytes int64
	// Before are the disks that the host had before the attachment, as Disks lists
	// them; nil if that is not known. None of them is the volume's.
	Before Seen
}

// Seen are the disks of a host at one time, by the kernel's names. The value
// distinguishes a disk from a later one with its name; it is empty if the kernel has no
// such value.
type Seen map[string]string
