package cloudtest

import (
	"context"
	"io"
	"os"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// Machine is a host without disks, for builds that are about the cloud alone: each of
// its acts succeeds, and does nothing.
type Machine struct{}

var _ bake.Machine = Machine{}

// The methods of bake.Machine.

func (Machine) CheckMountPath(string) error { return nil }
func (Machine) CheckFile(string) error      { return nil }
func (Machine) Guard(ctx context.Context) (guarded context.Context, stop func()) {
	return ctx, func() {}
}
func (Machine) Stay(context.Context) error { return nil }
func (Machine) Close() error               { return nil }
func (Machine) Reserve(_ string, names []bake.DeviceName) (bake.DeviceName, func() error, error) {
	return names[0], func() error { return nil }, nil
}
func (Machine) Sweep(string) error { return nil }
func (Machine) Disks() []string    { return nil }
func (Machine) Find(context.Context, disk.Query) (bake.DevicePath, error) {
	return "/dev/none", nil
}
func (Machine) Settle(context.Context, bake.DevicePath) error { return nil }
func (Machine) Root(context.Context, bake.DevicePath, disk.Choice) (chroot.MountSpec, error) {
	return chroot.MountSpec{Device: "/dev/none1", Type: "ext4"}, nil
}
func (Machine) GrowPartition(context.Context, bake.DevicePath, chroot.MountSpec) (bool, error) {
	return false, nil
}
func (Machine) GrowFileSystem(chroot.MountSpec) error { return nil }
func (Machine) Boot(bake.DevicePath, string) ([]disk.BootMount, error) {
	return nil, nil
}
func (Machine) Shell(context.Context, string, func(string)) error { return nil }
func (Machine) Mount(_ context.Context, spec chroot.MountSpec) (bake.Mounted, error) {
	return root(spec.Path), nil
}
func (Machine) Leave(context.Context, string) error { return nil }
func (Machine) Record(context.Context, chroot.MountSpec) (chroot.RootRecord, error) {
	return chroot.RootRecord{}, nil
}
func (Machine) Reclaim(context.Context, chroot.RootRecord) error { return nil }
func (Machine) Flush(bake.DevicePath) error                      { return nil }

// root is where a root would be mounted.
type root string

func (r root) Path() string                                               { return string(r) }
func (root) MountBelow(context.Context, chroot.ExtraMount) error          { return nil }
func (root) CopyIn(context.Context, string) error                         { return nil }
func (root) BlockServices(context.Context) error                          { return nil }
func (root) PutBack(context.Context) error                                { return nil }
func (root) RemoveUploads(context.Context) error                          { return nil }
func (root) Run(context.Context, chroot.Command) (int, error)             { return 0, nil }
func (root) Upload(context.Context, string, io.Reader, os.FileMode) error { return nil }
func (root) UploadDir(context.Context, string, string, []string) error    { return nil }
func (root) Download(context.Context, string, io.Writer) error            { return os.ErrNotExist }
func (root) DownloadDir(context.Context, string, string, []string) error  { return nil }

// Log is a bake.Reporter that writes to a test's log.
type Log func(format string, args ...any)

// Step implements bake.Reporter.
func (l Log) Step(format string, args ...any) { l(format, args...) }

// Detail implements bake.Reporter.
func (l Log) Detail(format string, args ...any) { l(format, args...) }

// Warn implements bake.Reporter.
func (l Log) Warn(format string, args ...any) { l("warning: "+format, args...) }
