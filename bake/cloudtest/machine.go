package cloudtest

import (
	"context"
	"io"
	"os"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// Machine returns a host without disks, for builds that test the cloud alone: each of its
// methods succeeds, and does nothing.
func Machine() bake.Machine { return idle{} }

type idle struct{}

func (idle) CheckMountPath(string) error    { return nil }
func (idle) CheckMountParents(string) error { return nil }
func (idle) CheckLockDir(string) error      { return nil }
func (idle) CheckFile(string) error         { return nil }
func (idle) Guard(ctx context.Context) (guarded context.Context, stop func()) {
	return ctx, func() {}
}
func (idle) Stay(context.Context) error { return nil }
func (idle) Close() error               { return nil }
func (idle) Reserve(_ string, names []bake.DeviceName) (bake.DeviceName, func() error, error) {
	return names[0], func() error { return nil }, nil
}
func (idle) Sweep(string) error { return nil }
func (idle) Disks() disk.Seen   { return nil }
func (idle) Find(context.Context, disk.Query) (bake.DevicePath, error) {
	return "/dev/none", nil
}
func (idle) CheckDevice(bake.DeviceName) error { return nil }
func (idle) Called(_ context.Context, _ bake.DeviceName, disk bake.DevicePath) bake.DevicePath {
	return disk
}
func (idle) Settle(context.Context, bake.DevicePath) error { return nil }
func (idle) Root(context.Context, bake.DevicePath, disk.Choice) (disk.RootFS, error) {
	return disk.RootFS{Device: "/dev/none1", Type: "ext4"}, nil
}
func (idle) GrowUnmounted(context.Context, bake.DevicePath, chroot.MountSpec) (bool, error) {
	return false, nil
}
func (idle) GrowMounted(chroot.MountSpec) error { return nil }
func (idle) FstabMounts(bake.DevicePath, string) ([]disk.FstabMount, error) {
	return nil, nil
}
func (idle) Shell(context.Context, string, func(string)) error { return nil }
func (idle) Mount(_ context.Context, spec chroot.MountSpec) (bake.Mounted, error) {
	return root(spec.Path), nil
}
func (idle) Leave(context.Context, string) error { return nil }
func (idle) Record(context.Context, chroot.MountSpec) (chroot.RootRecord, error) {
	return chroot.RootRecord{}, nil
}
func (idle) Reclaim(context.Context, chroot.RootRecord, chroot.Claim) ([]string, error) {
	return nil, nil
}
func (idle) Flush(bake.DevicePath) error { return nil }

// root is the path of a root that is not mounted.
type root string

func (r root) Path() string                                    { return string(r) }
func (root) MountBelow(context.Context, chroot.Submount) error { return nil }
func (root) SELinuxContexts(context.Context, bool) (chroot.SELinuxContexts, error) {
	return chroot.SELinuxContexts{}, nil
}
func (root) Packages(context.Context) (chroot.Packages, error)               { return chroot.Packages{}, nil }
func (root) IsMounted(context.Context, string) (bool, error)                 { return false, nil }
func (root) CopyIn(context.Context, string) error                            { return nil }
func (root) BlockServices(context.Context) error                             { return nil }
func (root) PutBack(context.Context) error                                   { return nil }
func (root) RemoveUploads(context.Context) error                             { return nil }
func (root) Run(context.Context, chroot.Command) (int, error)                { return 0, nil }
func (root) Upload(context.Context, string, io.Reader, chroot.NewFile) error { return nil }
func (root) UploadDir(context.Context, string, string, []string) error       { return nil }
func (root) Download(context.Context, string, io.Writer) error               { return os.ErrNotExist }
func (root) DownloadDir(context.Context, string, string, []string) error     { return nil }

// Log is a bake.Reporter that writes to a test's log.
type Log func(format string, args ...any)

// Step implements bake.Reporter.
func (l Log) Step(format string, args ...any) { l(format, args...) }

// Detail implements bake.Reporter.
func (l Log) Detail(format string, args ...any) { l(format, args...) }

// Warn implements bake.Reporter.
func (l Log) Warn(format string, args ...any) { l("warning: "+format, args...) }
