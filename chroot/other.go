//go:build !linux

package chroot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
)

// errNotLinux is what everything here answers where there is no Linux.
var errNotLinux = fmt.Errorf("a chroot build needs Linux, and this is %s: %w", runtime.GOOS, errors.ErrUnsupported)

// Options say how a Keeper works; Linux only.
type Options struct {
	Wrapper func(command string) (string, error)
	Busy    time.Duration
	Grace   time.Duration
	Log     func(format string, args ...any)
	UID     func() int
}

// Keeper mounts roots and leaves them again; Linux only.
type Keeper struct{}

// Start fails: a chroot build needs Linux.
func Start(Options) (*Keeper, error) { return nil, errNotLinux }

// Mount fails: a chroot build needs Linux.
func (*Keeper) Mount(context.Context, MountSpec) (*Mounted, error) { return nil, errNotLinux }

// Leave fails: a chroot build needs Linux.
func (*Keeper) Leave(context.Context, string) error { return errNotLinux }

// Shell fails: a chroot build needs Linux.
func (*Keeper) Shell(context.Context, string, func(string)) error { return errNotLinux }

// Mounted is a root that a Keeper has mounted; Linux only.
type Mounted struct{}

// Path implements Root.
func (*Mounted) Path() string { return "" }

// Run implements Root.
func (*Mounted) Run(context.Context, Command) (int, error) { return 0, errNotLinux }

// Upload implements Root.
func (*Mounted) Upload(context.Context, string, io.Reader, os.FileMode) error { return errNotLinux }

// UploadDir implements Root.
func (*Mounted) UploadDir(context.Context, string, string, []string) error { return errNotLinux }

// Download implements Root.
func (*Mounted) Download(context.Context, string, io.Writer) error { return errNotLinux }

// DownloadDir implements Root.
func (*Mounted) DownloadDir(context.Context, string, string, []string) error { return errNotLinux }

// MountBelow fails: a chroot build needs Linux.
func (*Mounted) MountBelow(context.Context, ExtraMount) error { return errNotLinux }

// CopyIn fails: a chroot build needs Linux.
func (*Mounted) CopyIn(context.Context, string) error { return errNotLinux }

// PutBack fails: a chroot build needs Linux.
func (*Mounted) PutBack(context.Context) error { return errNotLinux }

// BlockServices fails: a chroot build needs Linux.
func (*Mounted) BlockServices(context.Context) error { return errNotLinux }

// RemoveUploads fails: a chroot build needs Linux.
func (*Mounted) RemoveUploads(context.Context) error { return errNotLinux }

// CheckMountPath fails: a chroot build needs Linux.
func CheckMountPath(string) error { return errNotLinux }

// CheckFile fails: a chroot build needs Linux.
func CheckFile(string) error { return errNotLinux }

// MaybeEnter does nothing where roots cannot be entered.
func MaybeEnter() {}
