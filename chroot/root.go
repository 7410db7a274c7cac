package chroot

import (
	"context"
	"errors"
	"io"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rendezvous"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/selinux"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/transfer"
)

// Command is what to run inside a root.
type Command struct {
	// Line is given to the root's own /bin/sh -c, byte for byte. No shell of the
	// host sees it.
	Line   string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Root is a mounted root file system that can be entered. Nothing above this
// package knows whether the acts are done in this process or in another one
// that has root's rights.
//
// All paths inside are as the image sees them. No method reads or writes
// outside of the root, whatever links the image holds.
type Root interface {
	// Path is where the root is mounted on the host.
	Path() string
	// Run runs a command and answers its exit status. An error means that the
	// command could not be run, or that ctx ended it.
	Run(context.Context, Command) (status int, err error)
	// Upload writes a file. A regular file at dst keeps its mode and owner; only its
	// content is replaced. If dst is a directory, the file is written into it under
	// file.Name.
	Upload(ctx context.Context, dst string, src io.Reader, file NewFile) error
	// UploadDir copies a directory of the host. Without a trailing slash on src
	// the directory itself is created in dst, with one only its content is, as
	// rsync does.
	UploadDir(ctx context.Context, dst, src string, exclude []string) error
	// Download reads a file.
	Download(ctx context.Context, src string, dst io.Writer) error
	// DownloadDir copies a directory to the host, by the rule of UploadDir.
	DownloadDir(ctx context.Context, src, dst string, exclude []string) error
}

// NewFile describes the file that Upload creates if there is none.
type NewFile = transfer.NewFile

// ExtraMount is one entry of chroot_mounts: a file system mounted below the
// root.
type ExtraMount struct {
	// Type is the file system's type, or "bind".
	Type string
	// Source is the device, or the directory of the host to bind.
	Source string
	// Target is the path inside the root.
	Target string
	// Options are as in mount -o, several in one string allowed.
	Options []string
	// OfDisk says that the source is a partition of the root's own disk: leaving the
	// root waits until the kernel has let go of it, too. Nothing is done if something is
	// mounted at the target already, and nothing is mounted on the host if the user has
	// bound a shared tree of it there.
	OfDisk bool
	// Temporary says that a mount point that has to be created is only for the build:
	// Leave removes it if it is empty, unless it is one of the standard top-level
	// directories, such as /proc, which an image needs in order to boot.
	Temporary bool
	// CopyFirst says that a root without a shell gets a copy of the source's
	// directories, links and device nodes, which programs of the host can change
	// without reaching the source. The first command in the root finds the mount itself.
	CopyFirst bool
	// Optional reports whether a build can go without it, if the kernel does not have
	// the file system's type or there is no directory to mount it on.
	Optional bool
}

// MountSpec says what root to mount, and where.
type MountSpec struct {
	// Device is the block device that holds the root file system.
	Device string
	// Path is where to mount it. It must be absolute; it is created if it is missing, and
	// must be a directory that nothing is mounted on otherwise.
	Path string
	// Type is the file system's type; empty means whatever the device holds.
	Type string
	// Options are as in mount -o, several in one string allowed.
	Options []string
	// PassEnvironment names environment variables of the plugin that commands in the
	// root get besides the usual ones.
	PassEnvironment []string
}

// Labels holds the consequences of a build for an image's SELinux labels.
type Labels = selinux.Labels

// ErrNoFileSystem is wrapped when the kernel does not have a file system's type.
var ErrNoFileSystem = errors.New("the kernel does not have this type of file system")

// ErrNoMountPoint is wrapped if the directory to mount on is missing and cannot be
// created, because it would be in a file system that is mounted read-only.
var ErrNoMountPoint = errors.New("there is no directory to mount it on, and none can be created there")

// ErrNotWritten is wrapped when a root was left, and not everything in it could be
// written to its disk.
var ErrNotWritten = errors.New("not everything could be written")

// ErrNotClaimed is wrapped if a root is mounted, and not shown to be the build's whose
// journal names it.
var ErrNotClaimed = errors.New("it is left mounted")

// ErrHidden is wrapped when something was mounted over a root, so that it cannot be
// reached any more.
var ErrHidden = errors.New("something is mounted over the root of the image")

// ErrKeeperLost is wrapped when the keeper has ended, or was ended, before its
// plugin.
var ErrKeeperLost = errors.New("the keeper, which has the build's mounts, is gone")

// ErrNotRoot is wrapped by errors about missing rights of root.
var ErrNotRoot = rendezvous.ErrNotRoot
