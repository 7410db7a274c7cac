package bake

import (
	"context"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// Options are the options of NewMachine.
type Options struct {
	// Wrapper puts a shell command of the host into the user's command_wrapper; nil
	// leaves it as it is.
	Wrapper func(command string) (string, error)
	// Log reports the processes that are ended when a root is left; nil reports nothing.
	Log func(format string, args ...any)
	// Ended reports everything that held a root and is ended; nil means Log.
	Ended func(format string, args ...any)
	// KeeperTimeout is the time limit for the keeper of a killed build to leave its root. 0
	// means a little more than a minute.
	KeeperTimeout time.Duration
}

// A Machine performs the local parts of a build: those that need the host's kernel, not
// the cloud.
type Machine interface {
	// CheckMountPath returns an error if a root cannot be mounted there.
	CheckMountPath(path string) error
	// CheckMountParents returns an error if another user could replace a part of the path.
	CheckMountParents(path string) error
	// CheckFile returns an error if a file of the host cannot be copied into a root.
	CheckFile(path string) error
	// CheckLockDir returns an error if device names cannot be reserved there.
	CheckLockDir(lockDir string) error
	// CheckDevice returns an error if a device name exists in /dev already.
	CheckDevice(DeviceName) error
	// Guard returns a context that is cancelled when the machine cannot work any more, with
	// the reason as its cause; stop ends that.
	Guard(context.Context) (guarded context.Context, stop func())
	// Stay keeps the mounts after this process has ended.
	Stay(context.Context) error
	// Close ends the machine. It unmounts everything, unless the mounts are to stay.
	Close() error

	// Reserve takes the first of the names that is free on this host: no node in
	// /dev has it, and no other build holds it. The reservation lasts until
	// release is called or this process ends.
	Reserve(lockDir string, names []DeviceName) (name DeviceName, release func() error, err error)

	// Sweep removes the remains of reservations whose processes have ended.
	Sweep(lockDir string) error

	// Disks lists the disks that the kernel shows, so that Find recognizes a new one.
	Disks() disk.Seen
	// Find waits until the kernel shows the attached volume.
	Find(context.Context, disk.Query) (DevicePath, error)
	// Called returns the name to call the disk by, as disk.Called does.
	Called(ctx context.Context, requested DeviceName, disk DevicePath) DevicePath
	// Settle waits until the partitions of the disk's table have their nodes.
	Settle(context.Context, DevicePath) error
	// Root returns the file system to mount as the root, as disk.Root does.
	Root(context.Context, DevicePath, disk.Choice) (disk.RootFS, error)
	// GrowUnmounted extends the root's partition to the end of the disk before the root is
	// mounted. It also grows a file system that grows while it is not mounted, such as ext4,
	// to the size of the partition. It reports whether the partition grew.
	GrowUnmounted(ctx context.Context, device DevicePath, root chroot.MountSpec) (bool, error)
	// GrowMounted grows the mounted root's file system to the size of its partition, if
	// GrowUnmounted has not grown it.
	GrowMounted(root chroot.MountSpec) error
	// FstabMounts returns the mounts of the image's fstab below the root, as
	// disk.FstabMounts does.
	FstabMounts(device DevicePath, fstab string) ([]disk.FstabMount, error)
	// Shell runs a user's command in the host's shell, and calls out with each line that it
	// prints. An exit status other than 0 is an error.
	Shell(ctx context.Context, command string, out func(line string)) error
	// Mount mounts a root.
	Mount(context.Context, chroot.MountSpec) (Mounted, error)
	// Leave unmounts the root that Mount mounted at the path, with everything below it, and
	// removes the directories that Mount created. It returns nil if Mount mounted nothing
	// there. If the root is busy it returns an error, and no mount below is lost.
	Leave(ctx context.Context, path string) error
	// Record returns the record by which Reclaim finds a root that Mount is about to mount.
	Record(context.Context, chroot.MountSpec) (chroot.RootRecord, error)
	// Reclaim leaves a root that a process mounted which has ended since, as Leave
	// does, if it is mounted from the claimed disk; else the error wraps
	// chroot.ErrNotClaimed. It returns nil if the root is not mounted any more, and
	// touches nothing else that is mounted there by now. left lists what stays, and why.
	Reclaim(context.Context, chroot.RootRecord, chroot.Claim) (left []string, err error)
	// Flush brings everything written to the disk, and fails while the disk is
	// mounted.
	Flush(DevicePath) error

	DirectDisks
}

// Mounted is a root that a Machine has mounted.
type Mounted interface {
	chroot.Root
	// MountBelow mounts a further file system inside. The error wraps
	// chroot.ErrNoFileSystem if the kernel has no such type.
	MountBelow(context.Context, chroot.Submount) error
	// SELinuxContexts returns the state of the image's SELinux labels; if search is true, with a file
	// that was created without one.
	SELinuxContexts(ctx context.Context, search bool) (chroot.SELinuxContexts, error)
	// Packages returns the installed packages, as far as their databases can be read.
	Packages(context.Context) (chroot.Packages, error)
	// IsMounted reports whether something is mounted at a path inside.
	IsMounted(ctx context.Context, path string) (bool, error)
	// CopyIn copies a file of the host to the same path inside.
	CopyIn(ctx context.Context, path string) error
	// BlockServices prevents commands inside from starting services.
	BlockServices(context.Context) error
	// PutBack removes the files of CopyIn and BlockServices and restores the original ones.
	PutBack(context.Context) error
	// RemoveUploads removes files that were uploaded to directories for temporary files and
	// were not changed since.
	RemoveUploads(context.Context) error
}
