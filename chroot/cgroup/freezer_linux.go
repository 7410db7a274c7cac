package cgroup

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
	// top is the mount point of the hierarchy, and dir the group's directory.
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
		if dir := locate(m, path); dir != "" && slices.Contains(strings.Split(m.VFSOptions, ","), "freezer") {
			return freezer{m.Mountpoint, dir}
		}
	}
	return freezer{}
}

// freezerPath returns the path in the freezer hierarchy of a process with a list of
// cgroups; cgroups(7), "/proc/[pid]/cgroup". It is empty if there is none.
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

// Thaw moves a killed process out of its freezer cgroup if that is frozen, because it
// would not end there. Other processes of the group stay frozen, for they may have been
// frozen on purpose.
func Thaw(pid int) {
	if f := freezerOf(pid); f.frozen() {
		_ = os.WriteFile(filepath.Join(f.top, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
	}
}

// FrozenIn returns the directory of the frozen cgroup that a process is in, of either
// version. It is empty if the process is not frozen.
func FrozenIn(pid int) string {
	if f := freezerOf(pid); f.frozen() {
		return f.dir
	}
	if dir, err := Of(pid); err == nil && event(dir, "frozen") {
		return dir
	}
	return ""
}
