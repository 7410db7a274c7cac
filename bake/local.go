package bake

import (
	"context"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// Options say how a machine works.
type Options struct {
	// Wrapper puts a shell command of the host into the user's command_wrapper; nil
	// leaves it as it is.
	Wrapper func(command string) (string, error)
	// Log is told what ends when a root is left; nil tells nobody.
	Log func(format string, args ...any)
}

// NewMachine is the machine that this process runs on. It fails where that is no
// Linux, and, wrapping chroot.ErrNotRoot, without root's rights.
func NewMachine(o Options) (Machine, error) {
	if err := keepFiles(); err != nil {
		return nil, err
	}
	keeper, err := chroot.Start(chroot.Options{Wrapper: o.Wrapper, Log: o.Log})
	if err != nil {
		return nil, err
	}
	return local{keeper}, nil
}

// local is the machine that this process runs on.
type local struct{ keeper *chroot.Keeper }

func (local) CheckMountPath(path string) error { return chroot.CheckMountPath(path) }

func (local) CheckFile(path string) error { return chroot.CheckFile(path) }

func (local) Reserve(dir string, names []DeviceName) (DeviceName, func() error, error) {
	return reserve(dir, names)
}

func (local) Find(ctx context.Context, id VolumeID, name DeviceName) (DevicePath, error) {
	path, err := disk.Find(ctx, disk.Query{Volume: string(id), Device: string(name)})
	return DevicePath(path), err
}

func (local) Settle(ctx context.Context, device DevicePath) error {
	return disk.Settle(ctx, string(device))
}

func (local) Root(ctx context.Context, device DevicePath, partition string, options []string) (chroot.MountSpec, error) {
	root, err := disk.Root(ctx, string(device), partition, options)
	return chroot.MountSpec{Device: root.Device, Type: root.Type, Options: root.Options}, err
}

func (local) GrowPartition(ctx context.Context, device DevicePath, root chroot.MountSpec) (bool, error) {
	grown, err := disk.GrowPartition(string(device), root.Device)
	if err != nil {
		return false, err
	}
	return grown, disk.GrowUnmounted(ctx, root.Device)
}

func (local) GrowFileSystem(root chroot.MountSpec) error {
	return disk.GrowMounted(root.Path, root.Device)
}

func (local) Boot(device DevicePath, fstab string) ([]disk.BootMount, error) {
	return disk.Boot(string(device), fstab)
}

func (l local) Shell(ctx context.Context, command string, out func(string)) error {
	return l.keeper.Shell(ctx, command, out)
}

func (l local) Mount(ctx context.Context, spec chroot.MountSpec) (Mounted, error) {
	root, err := l.keeper.Mount(ctx, spec)
	if err != nil {
		return nil, err
	}
	return root, nil
}

func (l local) Leave(ctx context.Context, path string) error { return l.keeper.Leave(ctx, path) }

func (local) Flush(device DevicePath) error {
	if err := inUse(device); err != nil {
		return err
	}
	return disk.Flush(string(device))
}
