package chroot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/blockdev"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/cgroup"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/holders"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/hostdir"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/mountoptions"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/mountpoint"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/mounttable"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/namespace"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/override"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/registration"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/transfer"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/writeback"
	"github.com/packer-chroot/packer-plugin-chroot/disk/superblock"
)

// MountedRoot is a root in the process of its Keeper.
type MountedRoot struct {
	keeper *Keeper
	// path is the path that the user has given, and real the same without links, as in the
	// mount table.
	path, real string
	// device is the mounted source, and block its identity if it is a block device.
	device string
	block  blockdev.Identity
	// devices are other block devices of the root's disk.
	devices diskDevices
	// made are the directories that were created to mount on, outermost first.
	made []string
	// overrides are the files of CopyIn and BlockServices. namesMu serializes supplyNames.
	overrides override.Files
	namesMu   sync.Mutex
	// points are the temporary mount points that were created, in order.
	pointsMu sync.Mutex
	points   []string
	uploads  transfer.Uploads
	// postponed are the mounts that are made before the first command in the root.
	postponedMu sync.Mutex
	postponed   []Submount
	// groups are the cgroups of commands that have ended and left processes behind.
	groups []*cgroup.Group
	// env is added to the environment of commands, and pass names variables of the
	// keeper's environment that they get besides the usual ones.
	env, pass []string
	// since is the time at which it was mounted.
	since time.Time
	// namespaces are the namespaces of its commands.
	namespaces *namespace.Set
	// markers find data that could not be written, and lost is the first error about it.
	markers writeback.Markers
	lost    error
	// leaving serializes Leave.
	leaving sync.Mutex
	// ender ends the processes that hold the root.
	ender *holders.Ender
	// known are the registrations in the kernel from before the root was mounted; nil if
	// they are not known. probed reports whether uprobes have been tried as holders.
	known  []string
	probed bool
	// id identifies the root's mount, and fs is the number of its file system in the mount
	// table. Both are zero if they are not known.
	id mounttable.ID
	fs uint64
}

var _ Root = (*MountedRoot)(nil)

// Path implements Root.
func (m *MountedRoot) Path() string { return m.path }

// Mount mounts a root on a path that is missing, or a directory on which nothing is mounted.
// Mounts inside do not spread to other mounts.
func (k *Keeper) Mount(ctx context.Context, spec MountSpec) (*MountedRoot, error) {
	m, err := k.mount(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("cannot mount %s on %s: %w", spec.Device, spec.Path, err)
	}
	return m, nil
}

func (k *Keeper) mount(ctx context.Context, spec MountSpec) (*MountedRoot, error) {
	flags, data, err := mountoptions.Parse(spec.Options)
	if err != nil {
		return nil, err
	}
	kind, err := spec.kind()
	if err != nil {
		return nil, err
	}
	if err := CheckMountPath(spec.Path); err != nil {
		return nil, err
	}
	if err := CheckMountParents(spec.Path); err != nil {
		return nil, err
	}
	if held := mountpoint.FirstEntry(spec.Path); held != "" {
		k.log("warning: %s is not empty: %s, and what else is there, is hidden until the build ends", spec.Path, held)
	}
	m := &MountedRoot{keeper: k, path: filepath.Clean(spec.Path), device: spec.Device, pass: spec.PassEnvironment}
	k.add(m)
	if err := m.attach(kind, flags, data); err != nil {
		return nil, errors.Join(err, k.Leave(context.WithoutCancel(ctx), m.path))
	}
	m.namespaces = namespace.New(k.log)
	return m, nil
}

// attach mounts the root, and records its identity.
func (m *MountedRoot) attach(kind string, flags uintptr, data string) error {
	m.block, _ = blockdev.At(m.device) // a source that is not a path has no block device
	// The clock of file systems lags behind by a tick.
	m.since = time.Now().Add(-time.Second)
	m.known = registration.Known()
	if err := m.mountHere(kind, flags, data); err != nil {
		return explain(err, kind)
	}
	if err := unix.Mount("", m.real, "", unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	m.id = mounttable.At(m.real)
	m.fs = m.numberInTable()
	m.markers.Add(m.real, m.path)
	return nil
}

// mountHere creates the mount point and mounts. Another build that fails there may remove
// the directory that both have created: then it is created again.
func (m *MountedRoot) mountHere(kind string, flags uintptr, data string) (err error) {
	const tries = 10
	for range tries {
		if m.made, err = hostdir.Create(m.path); err != nil {
			return err
		}
		if err = m.mountOn(kind, flags, data); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		hostdir.Remove(m.made)
	}
	return err
}

// mountOn mounts on the existing directory.
func (m *MountedRoot) mountOn(kind string, flags uintptr, data string) error {
	point, err := mountpoint.Lock(m.path)
	if err != nil {
		return err
	}
	defer point.Close()
	if err := mountDevice(m.device, point.Name(), kind, flags, data); err != nil {
		return err
	}
	m.real = point.Name()
	return nil
}

// numberInTable returns the number of the root's file system as the mount table has it,
// which for a btrfs is another one than its files have.
func (m *MountedRoot) numberInTable() uint64 {
	for _, mount := range m.stack() {
		if uint64(mount.ID) == m.id.Mount {
			return mounttable.Device(mount)
		}
	}
	return 0
}

// stack returns the present mounts on the root's path, one over the other.
func (m *MountedRoot) stack() []*mountinfo.Info {
	stack, _ := mountinfo.GetMounts(func(mount *mountinfo.Info) (skip, stop bool) { return mount.Mountpoint != m.real, false })
	return stack
}

// replaced reports whether the root is not mounted any more and something else is mounted
// in its place, for example by another build with the same mount path.
func (m *MountedRoot) replaced() bool {
	stack := m.stack()
	return len(stack) > 0 && m.fs != 0 && !slices.ContainsFunc(stack, func(mount *mountinfo.Info) bool {
		return uint64(mount.ID) == m.id.Mount && mounttable.Device(mount) == m.fs
	})
}

// visible returns an error if something was mounted over the root, because its path leads
// to that mount then.
func (m *MountedRoot) visible() error {
	if now := mounttable.At(m.real); m.id != (mounttable.ID{}) && now != (mounttable.ID{}) && now != m.id {
		return fmt.Errorf("%w, on %s: a command has hidden it", ErrHidden, m.path)
	}
	return nil
}

// mountDevice mounts a device. The kernel refuses an xfs if another one with the same UUID
// is mounted, such as that of a host created from the same image, without the option
// nouuid.
func mountDevice(device, target, kind string, flags uintptr, data string) error {
	err := unix.Mount(device, target, kind, flags, data)
	if kind == "xfs" && errors.Is(err, unix.EINVAL) && !slices.Contains(strings.Split(data, ","), "nouuid") {
		if unix.Mount(device, target, kind, flags, strings.TrimPrefix(data+",nouuid", ",")) == nil {
			return nil
		}
	}
	return err
}

// kind returns the type of the file system on the device.
func (s MountSpec) kind() (string, error) {
	if s.Type != "" {
		return s.Type, nil
	}
	f, err := os.Open(s.Device)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return superblock.FileSystem(f)
}

// explain adds the meaning of an error of mount(2).
func explain(err error, kind string) error {
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%s: %w", kind, ErrNoFileSystem)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w (a bad option or a bad %s; the kernel's log says which)", err, kind)
	default:
		return err
	}
}

// CheckMountPath returns an error if a root cannot be mounted there: the path must be
// missing, or a directory that nothing is mounted on. The directory's content is hidden
// while the root is mounted.
func CheckMountPath(path string) error { return mountpoint.Check(path) }

// CheckMountParents returns an error if a user other than root and the building one could
// replace a root's mount point, or one of its parents. Commands run as root on that path as
// long as the build lasts.
func CheckMountParents(path string) error { return mountpoint.CheckParents(path) }
