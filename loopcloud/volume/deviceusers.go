//go:build linux

package volume

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"golang.org/x/sys/unix"
)

// usersOf returns the mounts of a loop device and its partitions, and the processes that have one
// of them open, except through own. It does not find mounts in other mount namespaces; opening
// the device exclusively fails for them too.
func usersOf(l loop, own *os.File) (users, error) {
	devs, err := devices(l)
	if err != nil {
		return users{}, err
	}
	mounts, err := mountsOf(devs)
	if err != nil {
		return users{}, err
	}
	return users{mounts: mounts, processes: processesOf(devs, own)}, nil
}

// devices returns the device numbers of a loop device and its partitions.
func devices(l loop) (map[string]bool, error) {
	dev, err := deviceOf(l.path)
	if err != nil {
		return nil, err
	}
	parts, err := disk.KernelPartitions(l.path)
	if err != nil {
		return nil, err
	}
	devs := map[string]bool{numbers(dev): true}
	for _, number := range parts {
		devs[number] = true
	}
	return devs, nil
}

// mountsOf returns the mounts of devices, found by device number and by source: Btrfs has device
// numbers of its own.
func mountsOf(devs map[string]bool) ([]string, error) {
	all, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		if devs[fmt.Sprintf("%d:%d", m.Major, m.Minor)] {
			return false, false
		}
		dev, err := deviceOf(m.Source)
		return err != nil || !devs[numbers(dev)], false
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list mounts: %w", err)
	}
	var mounts []string
	for _, m := range all {
		mounts = append(mounts, "mounted on "+m.Mountpoint)
	}
	return mounts, nil
}

// processesOf returns the processes that have one of the devices open. A process may end, or be
// unreadable, at any moment.
func processesOf(devs map[string]bool, own *os.File) []string {
	self := ""
	if own != nil {
		self = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), own.Fd())
	}
	var found []string
	processes, _ := os.ReadDir("/proc")
	for _, process := range processes {
		pid := process.Name()
		dir := "/proc/" + pid
		if pid[0] < '0' || pid[0] > '9' || !hasOpen(dir+"/fd/", self, devs) {
			continue
		}
		name, _ := os.ReadFile(dir + "/comm")
		found = append(found, fmt.Sprintf("open in %s, process %s", strings.TrimSpace(string(name)), pid))
	}
	slices.Sort(found)
	return found
}

// hasOpen reports whether a file of the directory, other than self, is one of the devices.
func hasOpen(dir, self string, devs map[string]bool) bool {
	files, _ := os.ReadDir(dir)
	return slices.ContainsFunc(files, func(file os.DirEntry) bool {
		var st unix.Stat_t
		path := dir + file.Name()
		return path != self && unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && devs[numbers(st.Rdev)]
	})
}
