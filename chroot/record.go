package chroot

import "time"

// RootRecord is what must be known to leave a root when the keeper that mounted it
// is gone, and its plugin too. It can be written down.
type RootRecord struct {
	// Path is where the root is to be mounted, and Made are the directories that are
	// missing for it, outermost first.
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
	// Keeper is the process id of the keeper, Since when that was started, in clock
	// ticks since the boot, and Group the cgroup that it makes its commands' in.
	Keeper int    `json:"keeper"`
	Since  uint64 `json:"since"`
	Group  string `json:"group,omitempty"`
	// Known lists what was registered in the kernel by paths of files before the root was
	// mounted, as entries of binfmt_misc are; nil if that is not known.
	Known []string `json:"known"`
}

// Claim is what shows that a recorded root is a build's: a record can name any mount.
type Claim struct {
	// Disk is the kernel's name of the disk of the build's volume, as it was found again.
	// The root must be mounted from it or from what is made of it; without one, nothing
	// is unmounted.
	Disk string
	// Since is when the build began: a directory that is older was not made by it.
	Since time.Time
}
