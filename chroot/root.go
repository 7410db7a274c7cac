package chroot

import (
	"context"
	"errors"
	"io"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/packages"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rendezvous"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/selinux"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/transfer"
)

// Command is a command to run inside a root.
type Command struct {
	// Line is passed to the root's own /bin/sh -c, byte for byte, and to no shell of the
	// host.
	Line   string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Root is a mounted root file system that can be entered. Callers do not know whether this
// process does the work or another one that has root's rights.
//
// All paths inside are resolved as in the chroot. No method reads or writes outside the
// root, whatever links the image holds.
type Root interface {
	// Path returns the path on the host that the root is mounted on.
	Path() string
	// Run runs a command and returns its exit status. An error means that the command could
	// not be run, or that ctx ended it.
	Run(context.Context, Command) (status int, err error)
	// Upload writes a file. A regular file at dst keeps its mode and owner; only its
	// content is replaced. If dst is a directory, the file is written into it under
	// file.Name.
	Upload(ctx context.Context, dst string, src io.Reader, file NewFile) error
	// UploadDir copies a directory of the host. Without a trailing slash on src the
	// directory itself is created in dst, with one only its content is, as rsync does. An
	// entry is left out if its name, or its path below src, matches a pattern of exclude.
	UploadDir(ctx context.Context, dst, src string, exclude []string) error
	// Download reads a file.
	Download(ctx context.Context, src string, dst io.Writer) error
	// DownloadDir copies a directory to the host, by the rule of UploadDir.
	DownloadDir(ctx context.Context, src, dst string, exclude []string) error
}

// NewFile describes the file that Upload creates if there is none.
type NewFile = transfer.NewFile

// Submount is one entry of chroot_mounts: a file system mounted below the
// root.
type Submount struct {
	// Type is the file system's type, or "bind".
	Type string
	// Source is the device, or the directory of the host to bind.
	Source string
	// Target is the path inside the root.
	Target string
	// Options are as in mount -o, several in one string allowed.
	Options []string
	// OfDisk reports whether the source is a partition of the root's own disk: leaving the
	// root waits until the kernel has released it too. Nothing is done if something is
	// mounted at the target already, and nothing is mounted on the host if the user has
	// bound a shared tree of it there.
	OfDisk bool
	// Temporary reports whether a created mount point is only for the build: Leave removes it
	// if it is empty, unless it is one of the standard top-level directories, such as /proc,
	// which an image needs in order to boot.
	Temporary bool
	// CopyFirst reports whether a root without a shell gets a copy of the source's
	// directories, links and device nodes, which programs of the host can change without
	// changing the source. The first command in the root gets the mount itself.
	CopyFirst bool
	// Optional reports whether a build goes on without it if the kernel does not have the
	// file system's type or there is no directory to mount it on.
	Optional bool
}

// MountSpec describes a root to mount.
type MountSpec struct {
	// Device is the block device that holds the root file system.
	Device string
	// Path is the absolute path to mount it on. It is created if it is missing, and must be
	// a directory on which nothing is mounted otherwise.
	Path string
	// Type is the file system's type; if it is empty, it is read from the device.
	Type string
	// Options are as in mount -o, several in one string allowed.
	Options []string
	// PassEnvironment names environment variables of the plugin that commands in the
	// root get besides the usual ones.
	PassEnvironment []string
}

// Packages holds the installed packages of an image.
type Packages = packages.List

// SELinuxContexts holds the consequences of a build for the SELinux contexts of an image's files.
type SELinuxContexts = selinux.Contexts

// ErrNoFileSystem is wrapped if the kernel does not have a file system's type.
var ErrNoFileSystem = errors.New("the kernel does not have this type of file system")

// ErrNoMountPoint is wrapped if the directory to mount on is missing and cannot be
// created, because it would be in a file system that is mounted read-only.
var ErrNoMountPoint = errors.New("there is no directory to mount it on, and none can be created there")

// ErrNotWritten is wrapped if a root was left and data in it could not be written to its
// disk.
var ErrNotWritten = errors.New("not everything could be written")

// ErrNotClaimed is wrapped if a root is mounted, but there is no evidence that it is of the
// build whose journal names it.
var ErrNotClaimed = errors.New("it is left mounted")

// ErrHidden is wrapped if something was mounted over a root, so that its path does not lead
// to it any more.
var ErrHidden = errors.New("something is mounted over the root of the image")

// ErrKeeperLost is wrapped if the keeper has ended, or was killed, before its plugin.
var ErrKeeperLost = errors.New("the keeper, which has the build's mounts, is gone")

// ErrNotRoot is wrapped by errors about missing rights of root.
var ErrNotRoot = rendezvous.ErrNotRoot
