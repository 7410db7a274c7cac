//go:build linux

package bake

import (
	"context"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// NewMachine is the machine that this process runs on. It fails where that is no
// Linux, and, wrapping chroot.ErrNotRoot, where root's rights cannot be had. What
// needs them is done by a keeper, which ends with Close or with this process.
func NewMachine(ctx context.Context, o Options) (Machine, error) {
	keeper, err := chroot.Launch(ctx, chroot.Options{Wrapper: o.Wrapper})
	if err != nil {
		return nil, err
	}
	return local{keeper}, nil
}

// local is the machine that this process runs on.
type local struct{ keeper *chroot.Client }

// none is the answer of an operation that has none.
type none = bool

func (l local) Guard(ctx context.Context) (guarded context.Context, stop func()) {
	return l.keeper.Guard(ctx)
}

func (l local) Stay(ctx context.Context) error { return l.keeper.Stay(ctx) }

func (l local) Close() error { return l.keeper.Close() }

var checkMountPath = chroot.NewOperation("check mount path", func(_ context.Context, path string) (none, error) {
	return false, chroot.CheckMountPath(path)
})

func (l local) CheckMountPath(path string) error {
	_, err := checkMountPath.Call(context.Background(), l.keeper, path)
	return err
}

var checkFile = chroot.NewOperation("check file", func(_ context.Context, path string) (none, error) {
	return false, chroot.CheckFile(path)
})

func (l local) CheckFile(path string) error {
	_, err := checkFile.Call(context.Background(), l.keeper, path)
	return err
}

// reservation is a name that is wanted, one of many, or that is held.
type reservation struct {
	Dir   string
	Names []DeviceName
}

var takeName = chroot.NewOperation("reserve", func(_ context.Context, r reservation) (DeviceName, error) {
	return reserve(r.Dir, r.Names)
})

var releaseName = chroot.NewOperation("release", func(_ context.Context, r reservation) (none, error) {
	return false, release(r.Dir, r.Names[0])
})

func (l local) Reserve(dir string, names []DeviceName) (DeviceName, func() error, error) {
	ctx := context.Background()
	name, err := takeName.Call(ctx, l.keeper, reservation{dir, names})
	if err != nil {
		return "", nil, err
	}
	return name, func() error {
		if err := l.keeper.Revive(ctx); err != nil {
			return err
		}
		_, err := releaseName.Call(ctx, l.keeper, reservation{dir, []DeviceName{name}})
		return err
	}, nil
}

var find = chroot.NewOperation("find", disk.Find)

func (l local) Find(ctx context.Context, id VolumeID, name DeviceName) (DevicePath, error) {
	path, err := find.Call(ctx, l.keeper, disk.Query{Volume: string(id), Device: string(name)})
	return DevicePath(path), err
}

var settle = chroot.NewOperation("settle", func(ctx context.Context, device string) (none, error) {
	return false, disk.Settle(ctx, device)
})

func (l local) Settle(ctx context.Context, device DevicePath) error {
	_, err := settle.Call(ctx, l.keeper, string(device))
	return err
}

// rootQuery asks for the partition to mount.
type rootQuery struct{ Disk, Partition string }

var findRoot = chroot.NewOperation("root", func(_ context.Context, q rootQuery) (string, error) {
	return disk.Root(q.Disk, q.Partition)
})

func (l local) Root(device DevicePath, partition string) (DevicePath, error) {
	path, err := findRoot.Call(context.Background(), l.keeper, rootQuery{string(device), partition})
	return DevicePath(path), err
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

var flush = chroot.NewOperation("flush", func(_ context.Context, device DevicePath) (none, error) {
	if err := inUse(device); err != nil {
		return false, err
	}
	return false, disk.Flush(string(device))
})

func (l local) Flush(device DevicePath) error {
	_, err := flush.Call(context.Background(), l.keeper, device)
	return err
}
