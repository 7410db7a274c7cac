package bake

import (
	"context"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// Options say how NewMachine's machine works.
type Options struct {
	// Wrapper puts a shell command of the host into the user's command_wrapper; nil
	// leaves it as it is.
	Wrapper func(command string) (string, error)
	// Log is told what ends when a root is left; nil tells nobody.
	Log func(format string, args ...any)
	// Patience is how long the keeper of a killed build may take to leave its root; 0
	// means a little more than a minute.
	Patience time.Duration
}

// A Machine does the local acts of a build: those that need the host's kernel,
// not the cloud.
type Machine interface {
	// CheckMountPath fails when a root cannot be mounted there.
	CheckMountPath(path string) error
	// CheckMountParents fails if another user could replace a part of the path.
	CheckMountParents(path string) error
	// CheckFile fails when a file of the host cannot be copied into a root.
	CheckFile(path string) error
	// CheckLockDir fails when device names cannot be reserved there.
	CheckLockDir(lockDir string) error
	// CheckDevice returns an error if something in /dev has a device name already.
	CheckDevice(DeviceName) error
	// Guard is a context that ends with the machine's ability to do these acts, with
	// the reason as its cause; stop ends the guarding.
	Guard(context.Context) (guarded context.Context, stop func())
	// Stay has what is mounted outlive this process.
	Stay(context.Context) error
	// Close ends what the machine needs. What is mounted is unmounted, if it is not
	// to stay.
	Close() error

	// Reserve takes the first of the names that is free on this host: no node in
	// /dev has it, and no other build holds it. The reservation lasts until
	// release is called or this process ends.
	Reserve(lockDir string, names []DeviceName) (name DeviceName, release func() error, err error)

	// Sweep removes what is left of reservations whose processes have ended.
	Sweep(lockDir string) error

	// Disks lists the disks that the kernel shows, for Find to see what is new.
	Disks() disk.Seen
	// Find waits until the kernel shows the attached volume.
	Find(context.Context, disk.Query) (DevicePath, error)
	// Called returns the name to call the disk by, as disk.Called does.
	Called(ctx context.Context, requested DeviceName, disk DevicePath) DevicePath
	// Settle waits until the partitions of the disk's table have their nodes.
	Settle(context.Context, DevicePath) error
	// Root returns what to mount as the root, as disk.Root does.
	Root(context.Context, DevicePath, disk.Choice) (disk.RootFS, error)
	// GrowPartition makes the root's partition reach to the end of the disk, and a
	// file system that grows while it is not mounted fill it. It answers whether the
	// partition grew.
	GrowPartition(ctx context.Context, device DevicePath, root chroot.MountSpec) (bool, error)
	// GrowFileSystem makes the mounted root's file system fill its partition, if it
	// does not yet.
	GrowFileSystem(root chroot.MountSpec) error
	// FstabMounts returns what the image's fstab mounts below the root, as
	// disk.FstabMounts does.
	FstabMounts(device DevicePath, fstab string) ([]disk.FstabMount, error)
	// Shell has the host's shell run a user's command, and calls out with every
	// line that it prints. A status other than 0 is an error.
	Shell(ctx context.Context, command string, out func(line string)) error
	// Mount mounts a root.
	Mount(context.Context, chroot.MountSpec) (Mounted, error)
	// Leave unmounts what Mount mounted at the path, with everything below it, and
	// removes the directories that Mount made. It answers nil when Mount mounted
	// nothing there, and fails, with nothing below lost, when the root is busy.
	Leave(ctx context.Context, path string) error
	// Record tells what Reclaim must know of a root that Mount is about to mount.
	Record(context.Context, chroot.MountSpec) (chroot.RootRecord, error)
	// Reclaim leaves a root that a process mounted which has ended since, as Leave
	// does, if it is mounted from the claimed disk; else the error wraps
	// chroot.ErrNotClaimed. It returns nil if the root is not mounted any more, and
	// touches nothing else that is mounted there by now. left says what stays, and why.
	Reclaim(context.Context, chroot.RootRecord, chroot.Claim) (left []string, err error)
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
	// Labels returns what the build means for the image's SELinux labels; if search is
	// true, with a file that was created without one.
	Labels(ctx context.Context, search bool) (chroot.Labels, error)
	// IsMounted reports whether something is mounted at a path inside.
	IsMounted(ctx context.Context, path string) (bool, error)
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
