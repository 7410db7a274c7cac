package lazydisk

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/disk/loopdev"
)

// Check returns an error if this host, or the container that this process is in, lacks something that
// lazy disks need.
func Check() error {
	for _, check := range []func() error{checkPrivileges, checkNodes, loopdev.Check} {
		if err := check(); err != nil {
			return fmt.Errorf("this host cannot have a disk whose blocks are fetched when they are read: %w", err)
		}
	}
	return nil
}

// checkPrivileges returns an error if this process may not mount file systems of the kernel.
func checkPrivileges() error {
	var sets [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	if sets[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return fmt.Errorf("it needs the capability SYS_ADMIN, which a container must be given: %w", unix.EPERM)
	}
	if users, err := os.ReadFile("/proc/self/uid_map"); err == nil && !isWhole(string(users)) {
		return fmt.Errorf("it needs the host's root, and this process is in a user namespace, as in a rootless container: %w", unix.EPERM)
	}
	return nil
}

// isWhole reports whether a uid_map is that of the first user namespace, which has all users.
func isWhole(users string) bool {
	return strings.Join(strings.Fields(users), " ") == "0 0 4294967295"
}

// checkNodes returns an error if the nodes cannot be opened with which disks are created.
func checkNodes() error {
	for _, node := range []struct{ path, module, number string }{
		{"/dev/fuse", "fuse", "c 10:229"},
		{"/dev/loop-control", "loop", "c 10:237"},
	} {
		dev, err := os.OpenFile(node.path, os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("it needs the kernel module %s, and in a container the device %s (%s): %w", node.module, node.path, node.number, err)
		}
		dev.Close()
	}
	return nil
}
