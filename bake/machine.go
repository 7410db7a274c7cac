package bake

import (
	"context"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// A Machine does the local acts of a build: those that need the host's kernel,
// not the cloud.
type Machine interface {
	// CheckMountPath fails when a root cannot be mounted there.
	CheckMountPath(path string) error
	// CheckFile fails when a file of the host cannot be copied into a root.
	CheckFile(path string) error
	// Reserve takes the first of the names that is free on this host: no node in
	// /dev has it, and no other build holds it. The reservation lasts until
	// release is called or this process ends.
	Reserve(lockDir string, names []DeviceName) (name DeviceName, release func() error, err error)

	// Find waits until the kernel shows the attached volume.
	Find(context.Context, VolumeID, DeviceName) (DevicePath, error)
	// Settle waits until the partitions of the disk's table have their nodes.
	Settle(context.Context, DevicePath) error
	// Root answers what to mount as the root: device, type and options; partition
	// and options are as in Plan.
	Root(ctx context.Context, disk DevicePath, partition string, options []string) (chroot.MountSpec, error)
	// GrowPartition makes the root's partition reach to the end of the disk, and a
	// file system that grows while it is not mounted fill it. It answers whether the
	// partition grew.
	GrowPartition(ctx context.Context, disk DevicePath, root chroot.MountSpec) (bool, error)
	// GrowFileSystem makes the mounted root's file system fill its partition, if it
	// does not yet.
	GrowFileSystem(root chroot.MountSpec) error
	// Boot answers what the image's fstab wants at /boot and /boot/efi, as disk.Boot
	// does.
	Boot(disk DevicePath, fstab string) ([]disk.BootMount, error)
	// Shell has the host's shell run a user's command, and calls out with every
	// line that it prints. A status other than 0 is an error.
	Shell(ctx context.Context, command string, out func(line string)) error
	// Mount mounts a root.
	Mount(context.Context, chroot.MountSpec) (Mounted, error)
	// Leave unmounts what Mount mounted at the path, with everything below it, and
	// removes the directories that Mount made. It answers nil when Mount mounted
	// nothing there, and fails, with nothing below lost, when the root is busy.
	Leave(ctx context.Context, path string) error
	// Flush brings everything written to the disk, and fails while the disk is
	// mounted.
	Flush(DevicePath) error
}

// Mounted is a root that a Machine has mounted.
type Mounted interface {
	chroot.Root
	// MountBelow mounts a further file system inside. The error wraps
	// chroot.ErrNoFileSystem when the kernel has no such type.
	MountBelow(context.Context, chroot.ExtraMount) error
	// CopyIn copies a file of the host to the same path inside.
	CopyIn(ctx context.Context, path string) error
	// BlockServices keeps what runs inside from starting services.
	BlockServices(context.Context) error
	// PutBack removes what CopyIn and BlockServices put there and puts back what was
	// there before.
	PutBack(context.Context) error
	// RemoveUploads removes what was uploaded to directories for temporary files and
	// is still as it was uploaded.
	RemoveUploads(context.Context) error
}
