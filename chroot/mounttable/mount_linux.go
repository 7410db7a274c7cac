package mounttable

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/blockdev"
)

// ID identifies a mount: the kernel's id, which a later mount can have once this one is
// gone, and the number of the file system that is seen there.
type ID struct {
	Mount        uint64
	major, minor uint32
}

// At returns the identity of the mount that a path leads to; it is zero before Linux 5.8.
func At(path string) ID {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st)
	if err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return ID{}
	}
	return ID{st.Mnt_id, st.Dev_major, st.Dev_minor}
}

// IsMountPoint reports whether something is mounted on an open file. Before Linux 5.8 it
// returns false.
func IsMountPoint(f *os.File) bool {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// On returns the mounts on a path, one over the other.
func On(path string) []*mountinfo.Info {
	mounts, _ := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
	return mounts
}

// Device returns the number of a mount's file system.
func Device(m *mountinfo.Info) uint64 { return unix.Mkdev(uint32(m.Major), uint32(m.Minor)) }

// IsOn reports whether a mount shows one of some file systems or block devices. A btrfs
// has a number of its own, and its mounts name one of its devices.
func IsOn(m *mountinfo.Info, devices map[uint64]bool) bool {
	if devices[Device(m)] || m.FSType != "btrfs" {
		return devices[Device(m)]
	}
	source, err := blockdev.At(m.Source)
	if err != nil || source.Number == 0 {
		return false
	}
	for device := range devices {
		if device == source.Number || blockdev.ShareBtrfs(device, source.Number) {
			return true
		}
	}
	return false
}

// HasDisk reports whether a mount's file system is on a disk, and not one of the kernel, of
// a program or of another host. A btrfs has a number of its own.
func HasDisk(m *mountinfo.Info) bool { return m.Major != 0 || m.FSType == "btrfs" }

// Below reports whether a path is root or lies below it.
func Below(path, root string) bool {
	return path == root || root == "/" || strings.HasPrefix(path, root+"/")
}

// DeepestFirst returns mounts in the order in which they can be unmounted. On one mount
// point the kernel unmounts the latest.
func DeepestFirst(mounts []*mountinfo.Info) []*mountinfo.Info {
	return slices.SortedFunc(slices.Values(mounts), func(a, b *mountinfo.Info) int {
		return cmp.Compare(strings.Count(b.Mountpoint, "/"), strings.Count(a.Mountpoint, "/"))
	})
}

// Unmount unmounts a path, which may be longer than the kernel takes: mounts can be nested
// deeper than that.
func Unmount(path string) error {
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	if !errors.Is(err, unix.ENAMETOOLONG) {
		return err
	}
	dir, err := openDeep(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return unix.Unmount(fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path)), unix.UMOUNT_NOFOLLOW)
}

// openDeep opens a directory by an absolute path of any length, without following links.
func openDeep(path string) (dir int, err error) {
	const most = unix.PathMax / 2
	dir = unix.AT_FDCWD
	for path != "" {
		part := path
		if len(part) > most {
			part = part[:strings.LastIndex(part[:most], "/")+1]
		}
		next, err := unix.Openat(dir, part, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if dir != unix.AT_FDCWD {
			unix.Close(dir)
		}
		if err != nil {
			return -1, err
		}
		dir, path = next, strings.TrimLeft(path[len(part):], "/")
	}
	return dir, nil
}

// NotMounted reports whether an error of Unmount means that nothing is mounted there any
// more.
func NotMounted(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT)
}
