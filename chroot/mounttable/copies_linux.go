package mounttable

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/namespace"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/procfs"
)

// Copies returns the mounts of some file systems, and those below them.
func Copies(mounts []*mountinfo.Info, devices map[uint64]bool) []*mountinfo.Info {
	copies := slices.DeleteFunc(slices.Clone(mounts), func(m *mountinfo.Info) bool { return !IsOn(m, devices) })
	return slices.DeleteFunc(slices.Clone(mounts), func(m *mountinfo.Info) bool {
		return !slices.ContainsFunc(copies, func(c *mountinfo.Info) bool { return Below(m.Mountpoint, c.Mountpoint) })
	})
}

// Describe returns the mounts of a block device, in this namespace and in others, for a
// message.
func Describe(device uint64) []string {
	var found []string
	add := func(mounts []*mountinfo.Info, where string) {
		for _, m := range mounts {
			if IsOn(m, map[uint64]bool{device: true}) {
				found = append(found, "a mount on "+m.Mountpoint+where)
			}
		}
	}
	own, _ := mountinfo.GetMounts(nil)
	add(own, "")
	namespace.EachMount(func(n namespace.Mount) {
		add(n.Mounts, " in the mount namespace of "+procfs.Describe(n.PID))
	})
	return found
}

// DescribeOverlays returns the overlay file systems that have a directory of the root as
// one of their layers, for a message. They use its file system even after the root is
// unmounted.
func DescribeOverlays(root string) []string {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("overlay"))
	if err != nil {
		return nil
	}
	var found []string
	for _, m := range mounts {
		if strings.Contains(m.VFSOptions, root+"/") || strings.Contains(m.VFSOptions, root+":") || strings.Contains(m.VFSOptions+",", root+",") {
			found = append(found, "the overlay mount on "+m.Mountpoint)
		}
	}
	return found
}

// UnmountCopies unmounts a block device in the mount namespaces of other processes. Every
// service of the host that starts during a build, and every command that creates a
// namespace, gets a copy of all mounts, and the disk stays in use as long as the copy
// exists. A process that uses none of it need not be ended for that.
//
// A copy that has no path at the moment stays, and is no error: a container that starts drops
// its copies when it changes its root.
func UnmountCopies(device string, number uint64, log func(format string, args ...any)) error {
	devices := map[uint64]bool{number: true}
	var stuck []error
	namespace.EachMount(func(n namespace.Mount) {
		if len(Copies(n.Mounts, devices)) == 0 {
			return
		}
		process, unmounted := procfs.Describe(n.PID), false
		err := n.Do(func(self *os.File) (err error) {
			unmounted, err = unmountCopies(self, devices)
			return err
		})
		if unmounted {
			log("unmounted %s in the mount namespace of %s", device, process)
		}
		if err != nil {
			stuck = append(stuck, fmt.Errorf("in the mount namespace of %s: %w", process, err))
		}
	})
	return errors.Join(stuck...)
}

// unmountCopies unmounts file systems, and everything below them, in the namespace of the
// thread whose directory in /proc is self. It reports whether anything was unmounted.
func unmountCopies(self *os.File, devices map[uint64]bool) (unmounted bool, err error) {
	fd, err := unix.Openat(int(self.Fd()), "mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	list := os.NewFile(uintptr(fd), "mountinfo")
	defer list.Close()
	mounts, err := mountinfo.GetMountsFromReader(list, nil)
	if err != nil {
		return false, err
	}
	for _, m := range DeepestFirst(Copies(mounts, devices)) {
		switch err := unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW); {
		case err == nil:
			unmounted = true
		case !NotMounted(err):
			return unmounted, &os.PathError{Op: "unmount", Path: m.Mountpoint, Err: err}
		}
	}
	return unmounted, nil
}
