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

// Mounted is a root that a Keeper has mounted.
type Mounted struct {
	keeper *Keeper
	// path is where the user wants it, real the same without links: the kernel
	// tells of mounts by such paths.
	path, real string
	// device is the node of block, or what else was mounted.
	device string
	block  blockdev.Identity
	// further are other block devices of the root's disk.
	further diskDevices
	// made are the directories that were made to mount on, outermost first.
	made []string
	// overrides are the files of CopyIn and BlockServices. namesMu serializes supplyNames.
	overrides override.Files
	namesMu   sync.Mutex
	// points are the temporary mount points that were created, in order.
	pointsMu sync.Mutex
	points   []string
	uploads  transfer.Uploads
	// postponed are the mounts that the first command in the root waits for.
	postponedMu sync.Mutex
	postponed   []ExtraMount
	// groups are those of commands that have ended and left something behind.
	groups []*cgroup.Group
	// env is added to the environment of commands, and pass names variables of the
	// keeper's environment that they get besides the usual ones.
	env, pass []string
	// since is when it was mounted.
	since time.Time
	// namespaces are those that commands run in.
	namespaces *namespace.Set
	// markers find data that could not be written, and lost is the first error about it.
	markers writeback.Markers
	lost    error
	// leaving has the root left by one at a time.
	leaving sync.Mutex
	// ender ends the processes that hold the root.
	ender *holders.Ender
	// known lists what was registered in the kernel before the root was mounted; nil if
	// that is not known. probed says that uprobes have been tried as holders.
	known  []string
	probed bool
	// id is that of the root's mount, and fs the number of its file system in the mount
	// table. Both are zero if they are not known.
	id mounttable.ID
	fs uint64
}

var _ Root = (*Mounted)(nil)

// Path implements Root.
func (m *Mounted) Path() string { return m.path }

// Mount mounts a root where nothing else is mounted: the path must be missing, or a
// directory. What is done inside does not spread to other mounts.
func (k *Keeper) Mount(ctx context.Context, spec MountSpec) (*Mounted, error) {
	m, err := k.mount(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("cannot mount %s on %s: %w", spec.Device, spec.Path, err)
	}
	return m, nil
}

func (k *Keeper) mount(ctx context.Context, spec MountSpec) (*Mounted, error) {
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
	m := &Mounted{keeper: k, path: filepath.Clean(spec.Path), device: spec.Device, pass: spec.PassEnvironment}
	k.add(m)
	if err := m.attach(kind, flags, data); err != nil {
		return nil, errors.Join(err, k.Leave(context.WithoutCancel(ctx), m.path))
	}
	m.namespaces = namespace.New(k.log)
	return m, nil
}

// attach mounts, and takes hold of what is mounted.
func (m *Mounted) attach(kind string, flags uintptr, data string) error {
	m.block, _ = blockdev.At(m.device) // what is no path is no block device
	// File systems take times from a clock that lags behind by a tick.
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

// mountHere makes the mount point and mounts. Another build that is refused there may
// remove the directory that both have made: then it is made again.
func (m *Mounted) mountHere(kind string, flags uintptr, data string) (err error) {
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

// mountOn mounts on the directory that is there.
func (m *Mounted) mountOn(kind string, flags uintptr, data string) error {
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
func (m *Mounted) numberInTable() uint64 {
	for _, mount := range m.stack() {
		if uint64(mount.ID) == m.id.Mount {
			return mounttable.Device(mount)
		}
	}
	return 0
}

// stack returns what is mounted on the root's path now, one over the other.
func (m *Mounted) stack() []*mountinfo.Info {
	stack, _ := mountinfo.GetMounts(func(mount *mountinfo.Info) (skip, stop bool) { return mount.Mountpoint != m.real, false })
	return stack
}

// replaced reports whether the root is not mounted any more, and something else is
// mounted in its place, as by another build that has the same mount path.
func (m *Mounted) replaced() bool {
	stack := m.stack()
	return len(stack) > 0 && m.fs != 0 && !slices.ContainsFunc(stack, func(mount *mountinfo.Info) bool {
		return uint64(mount.ID) == m.id.Mount && mounttable.Device(mount) == m.fs
	})
}

// visible fails if something was mounted over the root: what is done by its path would
// be done to that.
func (m *Mounted) visible() error {
	if now := mounttable.At(m.real); m.id != (mounttable.ID{}) && now != (mounttable.ID{}) && now != m.id {
		return fmt.Errorf("%w, on %s: a command has hidden it", ErrHidden, m.path)
	}
	return nil
}

// mountDevice mounts. The kernel refuses an xfs whose twin is mounted, as that of a
// host made from the same image, unless it is told not to look at the UUID.
func mountDevice(device, target, kind string, flags uintptr, data string) error {
	err := unix.Mount(device, target, kind, flags, data)
	if kind == "xfs" && errors.Is(err, unix.EINVAL) && !slices.Contains(strings.Split(data, ","), "nouuid") {
		if unix.Mount(device, target, kind, flags, strings.TrimPrefix(data+",nouuid", ",")) == nil {
			return nil
		}
	}
	return err
}

// kind is the type of the file system on the device.
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

// explain says what the kernel means by an error of mount(2).
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

// CheckMountParents returns an error if a user who is neither root nor the one who builds
// could replace a root's mount point, or one of its parents. Commands run as root on that
// path as long as the build lasts.
func CheckMountParents(path string) error { return mountpoint.CheckParents(path) }
