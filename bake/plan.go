package bake

import (
	"cmp"
	"context"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// DefaultLockDir is where builds reserve device names.
const DefaultLockDir = "/run/lock/packer-chroot"

// Plan is what the user wants, as far as every cloud can tell. Callbacks stand
// where the user's templates can only be rendered once something is known; one
// that is nil does nothing.
type Plan struct {
	Build BuildID
	// ImageName is the name of the image to be.
	ImageName string
	// Replace has images that have the name already make way for the new one, wherever
	// that is to be had; DeleteReplaced has their snapshots deleted.
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

	// Device is the device name to attach under; empty lets the build choose.
	Device DeviceName
	// LockDir holds the reservations of device names, shared by the builds on a
	// host; empty means DefaultLockDir.
	LockDir string
	// StateDir holds the builds' journals, by which the next build on the host cleans
	// up after one that was killed. Without one nobody does.
	StateDir string
	// Program is what makes the build, and Endpoint where its cloud is, as the user
	// says: nobody else cleans up after it.
	Program  string
	Endpoint string
	// Waits says how to wait; what is zero is as in DefaultWaits.
	Waits Waits

	// MountPath renders where the root is mounted, from the kernel device's base
	// name (xvdf). If it is nil, below /mnt/packer-chroot.
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
	// MountFstab mounts below the root what the image's fstab has on the same disk.
	MountFstab bool
	// Mounts are made below the root, in order.
	Mounts []chroot.ExtraMount
	// PassEnvironment names environment variables that commands in the root get besides
	// the usual ones.
	PassEnvironment []string
	// CopyFiles are copied from the host to the same path in the root.
	CopyFiles []string
	// BlockServices keeps what provisioning runs in the root from starting services.
	BlockServices bool
	// CleanUploads removes what provisioning uploaded below /tmp and left there.
	CleanUploads bool
	// PreMount, PostMount and PreUnmount render the user's shell commands for the
	// host.
	PreMount   func(Disk) ([]string, error)
	PostMount  func(disk Disk, mountPath string) ([]string, error)
	PreUnmount func(disk Disk, mountPath string) ([]string, error)

	// Labels renders what the user wants written on the things made. It is called
	// before anything is created.
	Labels func(Facts) (Labels, error)
	// Provision is called with the root ready to be entered.
	Provision func(context.Context, Workplace) error
	// Pause, if not nil, is called after each step with its name (-debug).
	Pause func(ctx context.Context, step string) error
	// KeepOnError, if not nil, is asked after a failure whether to leave
	// everything as it is (-on-error=abort, or ask).
	KeepOnError func(error) bool
}

// orDefault fills what may be left out.
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

// Facts is what is known before anything is created.
type Facts struct {
	Host Host
	// Source is nil from scratch.
	Source *Image
}

// Labels are descriptions and tags.
type Labels struct {
	Description  string
	ImageTags    map[string]string
	SnapshotTags map[string]string
	VolumeTags   map[string]string
}

// Workplace is what provisioning has to work with.
type Workplace struct {
	Facts
	Root chroot.Root
	// Device is the kernel's name of the root volume's disk.
	Device DevicePath
}

// Result is what a build made.
type Result struct {
	// Products are the images, one for each region, in the order of these.
	Products []Product
	// Source is nil from scratch.
	Source *Image
	// Leftovers names the scaffold that could not be removed, if any.
	Leftovers []string
}

// A Reporter is told what a build does, in the order it does it. Its methods
// may be called from several goroutines.
type Reporter interface {
	// Step says what is begun.
	Step(format string, args ...any)
	// Detail says more of the step under way.
	Detail(format string, args ...any)
	// Warn says what went wrong without ending the build, such as an undoing that failed.
	Warn(format string, args ...any)
}
