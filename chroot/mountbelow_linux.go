package chroot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/mountoptions"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/mounttable"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
)

// MountBelow mounts a file system inside the root. The target is resolved as in the
// chroot, so that no link of the image leads the mount elsewhere, and is created if it is
// missing. Leave unmounts it. The error wraps ErrNoFileSystem if the kernel does not have
// the type.
//
// A bind mount shows only the file system that its source is on, as mount --bind does, and
// mounts that are made on it later stay in the root. Its options are flags of the mount,
// such as ro; those of the source's mount stay in force.
func (m *MountedRoot) MountBelow(_ context.Context, submount Submount) error {
	if err := m.mountNow(submount); err != nil {
		return submount.explain(err, m.path)
	}
	return nil
}

// explain adds source and target to an error.
func (e Submount) explain(err error, root string) error {
	return fmt.Errorf("cannot mount %s %s on %s in %s: %w", e.Type, e.Source, e.Target, root, err)
}

func (m *MountedRoot) mountBelow(submount Submount) error {
	onto, err := submount.onto()
	if err != nil {
		return err
	}
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.Close()
	target, err := m.mountPoint(in, submount, onto)
	if err != nil {
		return err
	}
	defer target.Close()
	if submount.OfDisk {
		if mounttable.IsMountPoint(target) {
			return nil
		}
		// The user's own mounts may be shared with the host: a mount below them must not
		// appear there too.
		if err := unix.Mount("", m.real, "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	flags, data, err := mountoptions.Parse(submount.Options)
	if err != nil {
		return err
	}
	if submount.Type == bind {
		err = unix.Mount(submount.Source, rootfs.ProcPath(target), "", unix.MS_BIND, "")
	} else {
		err = mountDevice(submount.Source, rootfs.ProcPath(target), submount.Type, flags, data)
	}
	if err != nil {
		return explain(err, submount.Type)
	}
	return m.settle(in, submount, flags)
}

// settle sets the propagation of a new mount and, on a bind mount, the flags.
func (m *MountedRoot) settle(in *rootfs.Root, submount Submount, flags uintptr) error {
	// The open target lies below the mount; the path leads onto it.
	top, err := in.Open(submount.Target, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer top.Close()
	if err := unix.Mount("", rootfs.ProcPath(top), "", unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if submount.OfDisk {
		m.devices.add(submount.Source)
	}
	if submount.Type == bind {
		return restrict(top, flags)
	}
	m.markers.Add(rootfs.ProcPath(top), top.Name())
	return nil
}

// restrict adds flags to a bind mount, which mount(2) ignores when it is created. A
// remount replaces all flags, so those that it has from its source are repeated.
func restrict(mount *os.File, flags uintptr) error {
	if flags == 0 {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(mount.Fd()), &st); err != nil {
		return err
	}
	// statfs(2) and mount(2) have the same numbers for these.
	const kept = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return unix.Mount("", rootfs.ProcPath(mount), "", unix.MS_REMOUNT|unix.MS_BIND|flags|uintptr(st.Flags)&kept, "")
}

// IsMounted reports whether something is mounted at a path inside. Nothing is mounted
// at a path that leads nowhere.
func (m *MountedRoot) IsMounted(_ context.Context, path string) (bool, error) {
	in, err := m.open()
	if err != nil {
		return false, err
	}
	defer in.Close()
	if target, err := in.Open(path, unix.O_PATH, 0); err == nil {
		defer target.Close()
		at, err := os.Readlink(rootfs.ProcPath(target))
		if err != nil {
			return false, err
		}
		return mountinfo.Mounted(at)
	}
	return false, nil
}

// onto returns the type of file to mount it on, a directory or a regular file. An error
// means that it cannot be mounted.
func (e Submount) onto() (os.FileMode, error) {
	if e.Type != bind {
		return os.ModeDir, known(e.Type)
	}
	info, err := os.Stat(e.Source)
	if err != nil {
		return 0, err
	}
	return info.Mode() & os.ModeDir, nil
}

// known returns an error if the kernel does not have a type of file system. It loads the
// type's module. Before Linux 5.2 it returns nil, and mount(2) fails instead.
func known(kind string) error {
	fd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("%s: %w", kind, ErrNoFileSystem)
	}
	if err == nil {
		_ = unix.Close(fd)
	}
	return nil
}

// mountPoint opens a target. It creates a missing one, and records it if it is temporary.
func (m *MountedRoot) mountPoint(in *rootfs.Root, submount Submount, onto os.FileMode) (*os.File, error) {
	path := submount.Target
	target, err := in.Open(path, unix.O_PATH, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return target, err
	}
	if onto.IsDir() {
		err = in.MkdirAll(path)
	} else {
		err = in.Touch(path)
	}
	created := in.Created
	if err == nil && !onto.IsDir() {
		created = append(created, path)
	}
	if submount.Temporary {
		m.pointsMu.Lock()
		m.points = append(m.points, created...)
		m.pointsMu.Unlock()
	}
	if errors.Is(err, unix.EROFS) {
		err = fmt.Errorf("%w: %w", ErrNoMountPoint, err)
	}
	if err != nil {
		return nil, err
	}
	return in.Open(path, unix.O_PATH, 0)
}

// standardDirs are the directories at the top of every Linux system. A package that
// holds one finds it there if it was created to mount on, and relies on it;
// Filesystem Hierarchy Standard 3.0, section 3, and hier(7).
var standardDirs = []string{
	"bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root", "run", "sbin", "srv",
	"sys", "tmp", "usr", "var",
}

// clearPoints removes the temporary mount points. If there are any, it first unmounts
// everything below the root.
func (m *MountedRoot) clearPoints() error {
	m.pointsMu.Lock()
	defer m.pointsMu.Unlock()
	if len(m.points) == 0 {
		return nil
	}
	if err := m.unmountInside(); err != nil {
		return err
	}
	m.removePoints()
	m.points = nil
	return nil
}

// removePoints removes the empty temporary mount points. Nothing must be mounted below the
// root. One that cannot be removed stays.
func (m *MountedRoot) removePoints() {
	in, err := m.open()
	if err != nil {
		return
	}
	defer in.Close()
	for _, point := range slices.Backward(m.points) {
		if !slices.Contains(standardDirs, strings.Trim(point, "/")) {
			in.RemoveEmpty(point)
		}
	}
}
