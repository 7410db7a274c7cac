package bake

import (
	"cmp"
	"context"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cache"
)

// DefaultLockDir is where builds reserve device names.
const DefaultLockDir = "/run/lock/packer-chroot"

// Plan holds the user's options, as far as they are the same for every cloud. Callbacks
// render templates of the user that need values which are known during the build only; a
// nil callback does nothing.
type Plan struct {
	Build BuildID
	// ImageName is the name of the image to be.
	ImageName string
	// Replace replaces images that have the name already, in all regions of the image.
	// DeleteReplaced deletes their snapshots.
	Replace, DeleteReplaced bool
	// FromScratch starts from a blank volume instead of a source image.
	FromScratch bool

	// RootSizeGiB is the root volume's size in GiB; 0 means the source's.
	RootSizeGiB int64
	// RootType is the root volume's type; empty means the source's.
	RootType string
	// RootIOPS and RootThroughput (MiB/s) are for root volume types that take them;
	// 0 means the source's, if it has the type.
	RootIOPS, RootThroughput int64

	// Direct makes the image without a volume and without a virtual machine: the blocks of the
	// source are fetched when they are read, and the changed blocks are uploaded. The Cloud must
	// have a BlockStore. Device and LockDir are not used.
	Direct bool
	// BlockCache keeps fetched blocks for later builds; the zero value keeps none.
	BlockCache cache.Options

	// Device is the device name to attach under; empty lets the build choose.
	Device DeviceName
	// LockDir holds the reservations of device names, shared by the builds on a
	// host; empty means DefaultLockDir.
	LockDir string
	// StateDir holds the journals of builds, by which the next build on the host cleans up
	// after one that was killed. Empty means that there is no journal.
	StateDir string
	// Program is the program that makes the build, and Endpoint the user's endpoint of the
	// cloud: only the same program and endpoint clean up after it.
	Program  string
	Endpoint string
	// Waits holds the intervals and limits of waits; zero fields are as in DefaultWaits.
	Waits Waits

	// MountPath renders the mount point of the root from the base name of the kernel's
	// device (xvdf). If it is nil, the mount point is below /mnt/packer-chroot.
	MountPath func(device string) (string, error)
	// Partition is the partition number of the root file system, "0" for the whole
	// disk; if it is empty, the root is found as disk.Root says.
	Partition string
	// NVMePath, if not empty, takes the place of the device in the name of the node
	// that is mounted: Partition, or 1, is appended to it, unless that is "0".
	NVMePath string
	// MountOptions are given to mount for the root.
	MountOptions []string
	// GrowRoot makes the root's partition and file system as large as the disk
	// allows.
	GrowRoot bool
	// MountFstab mounts the file systems below the root that the image's fstab has on the
	// same disk.
	MountFstab bool
	// Mounts are made below the root, in order.
	Mounts []chroot.Submount
	// PassEnvironment names environment variables that commands in the root get besides
	// the usual ones.
	PassEnvironment []string
	// CopyFiles are copied from the host to the same path in the root.
	CopyFiles []string
	// BlockServices prevents provisioners from starting services in the root.
	BlockServices bool
	// ListPackages has the installed packages listed before and after provisioning, as events.
	ListPackages bool
	// CleanUploads removes files that provisioners uploaded below /tmp and left there.
	CleanUploads bool
	// PreMount, PostMount and PreUnmount render the user's shell commands for the
	// host.
	PreMount   func(Disk) ([]string, error)
	PostMount  func(disk Disk, mountPath string) ([]string, error)
	PreUnmount func(disk Disk, mountPath string) ([]string, error)

	// Labels renders the descriptions and tags of the created resources. It is called
	// before anything is created.
	Labels func(Facts) (Labels, error)
	// Provision is called with the root ready to be entered.
	Provision func(context.Context, Workplace) error
	// Pause, if not nil, is called after each step with its name (-debug).
	Pause func(ctx context.Context, step string) error
	// KeepOnError, if not nil, reports after a failure whether to leave everything as it is
	// (-on-error=abort, or ask).
	KeepOnError func(error) bool
}

// orDefault sets the defaults of optional fields.
func (p Plan) orDefault() Plan {
	p.LockDir = cmp.Or(p.LockDir, DefaultLockDir)
	if p.MountPath == nil {
		p.MountPath = func(device string) (string, error) { return "/mnt/packer-chroot/" + device, nil }
	}
	if p.PreMount == nil {
		p.PreMount = func(Disk) ([]string, error) { return nil, nil }
	}
	if p.PostMount == nil {
		p.PostMount = func(Disk, string) ([]string, error) { return nil, nil }
	}
	if p.PreUnmount == nil {
		p.PreUnmount = func(Disk, string) ([]string, error) { return nil, nil }
	}
	if p.Labels == nil {
		p.Labels = func(Facts) (Labels, error) { return Labels{}, nil }
	}
	if p.Provision == nil {
		p.Provision = func(context.Context, Workplace) error { return nil }
	}
	return p
}

// Facts are the host and the source image.
type Facts struct {
	Host Host
	// Source is nil from scratch.
	Source *Image
}

// Labels are descriptions and tags.
type Labels struct {
	ImageDescription    string
	SnapshotDescription string
	ImageTags           map[string]string
	SnapshotTags        map[string]string
	VolumeTags          map[string]string
}

// Workplace is passed to Plan.Provision.
type Workplace struct {
	Facts
	Root chroot.Root
	// Device is the kernel's name of the root volume's disk.
	Device DevicePath
}

// Result is the result of a build.
type Result struct {
	// Products are the images, one for each region, in the order of these.
	Products []Product
	// Source is nil from scratch.
	Source *Image
	// Leftovers names the scaffold that could not be removed, if any.
	Leftovers []string
}

// A Reporter receives the progress of a build, in order. Its methods may be called from
// several goroutines.
type Reporter interface {
	// Step announces a step.
	Step(format string, args ...any)
	// Detail reports a detail of the current step.
	Detail(format string, args ...any)
	// Warn reports a problem that does not end the build, such as a failed clean-up.
	Warn(format string, args ...any)
}
