package chroot

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// freezer is the freezer cgroup (v1) of a process.
// https://docs.kernel.org/admin-guide/cgroup-v1/freezer-subsystem.html
type freezer struct {
	// top is where the hierarchy is mounted, and dir the group's directory.
	top, dir string
}

// freezerOf returns the freezer cgroup of a process. It is zero if the process is in the
// hierarchy's root, which cannot be frozen, or if the host has no such hierarchy.
func freezerOf(pid int) freezer {
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return freezer{}
	}
	path := freezerPath(string(list))
	if path == "" || path == "/" {
		return freezer{}
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup"))
	if err != nil {
		return freezer{}
	}
	for _, m := range mounts {
		if slices.Contains(strings.Split(m.VFSOptions, ","), "freezer") && below(path, strings.TrimSuffix(m.Root, "/")) {
			return freezer{m.Mountpoint, filepath.Join(m.Mountpoint, strings.TrimPrefix(path, strings.TrimSuffix(m.Root, "/")))}
		}
	}
	return freezer{}
}

// freezerPath finds the path in the freezer hierarchy in a process's list of cgroups;
// cgroups(7), "/proc/[pid]/cgroup". It is empty if there is none.
func freezerPath(list string) string {
	for line := range strings.Lines(list) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) == 3 && slices.Contains(strings.Split(fields[1], ","), "freezer") {
			return fields[2]
		}
	}
	return ""
}

// frozen reports whether the group is frozen, or is about to be.
func (f freezer) frozen() bool {
	if f.dir == "" {
		return false
	}
	state, err := os.ReadFile(filepath.Join(f.dir, "freezer.state"))
	return err == nil && strings.TrimSpace(string(state)) != "THAWED"
}

// thaw moves a process that was killed out of its freezer cgroup if that is frozen,
// because it would not end there. Other processes of the group stay frozen: somebody
// else may have frozen them.
func thaw(pid int) {
	if f := freezerOf(pid); f.frozen() {
		_ = os.WriteFile(filepath.Join(f.top, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
	}
}
