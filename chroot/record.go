package chroot

import "time"

// RootRecord is the information needed to leave a root after the keeper that has mounted it,
// and its plugin, are gone. It can be stored.
type RootRecord struct {
	// Path is the path to mount the root on, and Made are the directories that must be
	// created for it, outermost first.
	Path string   `json:"path"`
	Made []string `json:"made,omitempty"`
	// Device is the kernel's name of the block device, and Number the device number
	// that it has (dev_t) until the next boot.
	Device string `json:"device,omitempty"`
	Number uint64 `json:"number,omitempty"`
	// Count is the kernel's number of the disk (diskseq, Linux 5.15), which no other one
	// gets until the next boot; empty if it has none.
	Count string `json:"count,omitempty"`
	// Boot is the kernel's boot_id: a mount does not outlive a boot.
	Boot string `json:"boot"`
	// Keeper is the process id of the keeper, Since its start time in clock ticks since the
	// boot, and Group the cgroup in which it creates those of its commands.
	Keeper int    `json:"keeper"`
	Since  uint64 `json:"since"`
	Group  string `json:"group,omitempty"`
	// Known are the registrations in the kernel by paths of files, such as entries of
	// binfmt_misc, from before the root was mounted; nil if they are not known.
	Known []string `json:"known"`
}

// Claim is the evidence that a recorded root is a build's: a record can name any mount.
type Claim struct {
	// Disk is the kernel's name of the disk of the build's volume, as it was found again.
	// The root must be mounted from it, from a partition or from a device made of these. If
	// it is empty, nothing is unmounted.
	Disk string
	// Since is the beginning of the build. It has not created a directory that is older.
	Since time.Time
}
