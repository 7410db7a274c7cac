//go:build linux

package bake

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/disk/exclusive"
)

// NewMachine returns the machine that this process runs on. It returns an error if that is
// not Linux, and one that wraps chroot.ErrNotRoot if it cannot become root. A keeper does
// everything that needs root; it ends with Close or with this process.
func NewMachine(ctx context.Context, o Options) (Machine, error) {
	keeper, err := chroot.Launch(ctx, chroot.Options{Wrapper: o.Wrapper, Log: o.Log, Ended: o.Ended, KeeperTimeout: o.KeeperTimeout})
	if err != nil {
		return nil, err
	}
	return local{keeper}, nil
}

// local is the machine that this process runs on.
type local struct{ keeper *chroot.Client }

// none is the result of an operation that has none.
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

var checkMountParents = chroot.NewOperation("check mount parents", func(_ context.Context, path string) (none, error) {
	return false, chroot.CheckMountParents(path)
})

func (l local) CheckMountParents(path string) error {
	_, err := checkMountParents.Call(context.Background(), l.keeper, path)
	return err
}

var checkFile = chroot.NewOperation("check file", func(_ context.Context, path string) (none, error) {
	return false, chroot.CheckFile(path)
})

func (l local) CheckFile(path string) error {
	_, err := checkFile.Call(context.Background(), l.keeper, path)
	return err
}

var checkLockDir = chroot.NewOperation("check lock dir", func(_ context.Context, dir string) (none, error) {
	return false, checkLockDirSpace(dir)
})

func (l local) CheckLockDir(dir string) error {
	_, err := checkLockDir.Call(context.Background(), l.keeper, dir)
	return err
}

var checkDevice = chroot.NewOperation("check device", func(_ context.Context, name DeviceName) (none, error) {
	return false, disk.CheckName(string(name))
})

func (l local) CheckDevice(name DeviceName) error {
	_, err := checkDevice.Call(context.Background(), l.keeper, name)
	return err
}

// reservation holds the names to choose from, or the name that is held.
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

var sweep = chroot.NewOperation("sweep", func(_ context.Context, dir string) (none, error) {
	return false, sweepNames(dir)
})

func (l local) Sweep(dir string) error {
	ctx := context.Background()
	if err := l.keeper.Revive(ctx); err != nil {
		return err
	}
	_, err := sweep.Call(ctx, l.keeper, dir)
	return err
}

var disks = chroot.NewOperation("disks", func(context.Context, none) (disk.Seen, error) {
	return disk.Disks(), nil
})

func (l local) Disks() disk.Seen {
	all, err := disks.Call(context.Background(), l.keeper, false)
	if err != nil {
		return nil // they are not known
	}
	return all
}

var find = chroot.NewOperation("find", disk.Find)

func (l local) Find(ctx context.Context, q disk.Query) (DevicePath, error) {
	path, err := find.Call(ctx, l.keeper, q)
	return DevicePath(path), err
}

// calling is a requested name of a disk.
type calling struct{ Requested, Disk string }

var called = chroot.NewOperation("called", func(ctx context.Context, c calling) (string, error) {
	return disk.Called(ctx, c.Requested, c.Disk), nil
})

func (l local) Called(ctx context.Context, requested DeviceName, device DevicePath) DevicePath {
	name, err := called.Call(ctx, l.keeper, calling{string(requested), string(device)})
	if err != nil {
		return device
	}
	return DevicePath(name)
}

var settle = chroot.NewOperation("settle", func(ctx context.Context, device string) (none, error) {
	return false, disk.Settle(ctx, device)
})

func (l local) Settle(ctx context.Context, device DevicePath) error {
	_, err := settle.Call(ctx, l.keeper, string(device))
	return err
}

// rootQuery asks for the file system to mount as the root.
type rootQuery struct {
	Disk   string
	Choice disk.Choice
}

var findRoot = chroot.NewOperation("root", func(ctx context.Context, q rootQuery) (disk.RootFS, error) {
	return disk.Root(ctx, q.Disk, q.Choice)
})

func (l local) Root(ctx context.Context, device DevicePath, choice disk.Choice) (disk.RootFS, error) {
	return findRoot.Call(ctx, l.keeper, rootQuery{string(device), choice})
}

// growth is a partition of a disk to grow, mounted on Path if that is not empty.
type growth struct{ Disk, Node, Path string }

var growUnmounted = chroot.NewOperation("grow unmounted", func(ctx context.Context, g growth) (bool, error) {
	grown, err := disk.GrowPartition(g.Disk, g.Node)
	if err != nil {
		return false, err
	}
	return grown, disk.GrowUnmounted(ctx, g.Node)
})

func (l local) GrowUnmounted(ctx context.Context, device DevicePath, root chroot.MountSpec) (bool, error) {
	return growUnmounted.Call(ctx, l.keeper, growth{Disk: string(device), Node: root.Device})
}

var growMounted = chroot.NewOperation("grow mounted", func(_ context.Context, g growth) (none, error) {
	return false, disk.GrowMounted(g.Path, g.Node)
})

func (l local) GrowMounted(root chroot.MountSpec) error {
	_, err := growMounted.Call(context.Background(), l.keeper, growth{Node: root.Device, Path: root.Path})
	return err
}

// fstabQuery asks for the mounts of an fstab that are on a disk.
type fstabQuery struct{ Disk, Fstab string }

var findMounts = chroot.NewOperation("fstab mounts", func(_ context.Context, q fstabQuery) ([]disk.FstabMount, error) {
	return disk.FstabMounts(q.Disk, q.Fstab)
})

func (l local) FstabMounts(device DevicePath, fstab string) ([]disk.FstabMount, error) {
	return findMounts.Call(context.Background(), l.keeper, fstabQuery{string(device), fstab})
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

func (l local) Record(ctx context.Context, spec chroot.MountSpec) (chroot.RootRecord, error) {
	return l.keeper.Record(ctx, spec)
}

func (l local) Reclaim(ctx context.Context, root chroot.RootRecord, claim chroot.Claim) ([]string, error) {
	return l.keeper.Reclaim(ctx, root, claim)
}

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

// inUse returns an error while the kernel uses a disk: while one of its file systems is
// mounted, in any namespace, or it is used for swap or by a volume group.
func inUse(disk DevicePath) error {
	err := exclusive.Check(string(disk))
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s is still in use: one of its partitions is mounted, swapped to, or part of another device: %w", disk, err)
	}
	return err
}
