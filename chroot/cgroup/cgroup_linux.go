package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/procfs"
)

// Group is the cgroup (v2) of one command: every process that the command starts is in
// it, however it forks, and one write to it kills them all.
// https://docs.kernel.org/admin-guide/cgroup-v2.html
type Group struct {
	// dir is its open directory, in which processes are started.
	dir *os.File
}

// created counts the groups of this process.
var created atomic.Uint64

// New creates a group below that of this process. It fails if there is no v2 hierarchy, or
// if it cannot be written.
func New() (*Group, error) {
	parent, err := Own()
	if err != nil {
		return nil, err
	}
	path, err := create(parent)
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return &Group{dir}, nil
}

// create creates the directory of a group below another one.
func create(parent string) (path string, err error) {
	since, err := procfs.StartTime(os.Getpid())
	if err != nil {
		return "", err
	}
	for {
		path = filepath.Join(parent, fmt.Sprintf("%s%d", prefixSince(os.Getpid(), since), created.Add(1)))
		if err = os.Mkdir(path, 0o755); !errors.Is(err, os.ErrExist) {
			return path, err
		}
	}
}

// prefix returns the beginning of the names of a process's groups.
func prefix(pid int) string { return fmt.Sprintf("packer-chroot-%d-", pid) }

// prefixSince returns the beginning of the names of the groups of a process with a start
// time: another one may be given its id.
func prefixSince(pid int, since uint64) string { return fmt.Sprintf("%s%d-", prefix(pid), since) }

// LeftBy returns the groups that another process, which has just ended, left below the
// group of this process.
func LeftBy(pid int) []*Group {
	parent, err := Own()
	if err != nil {
		return nil
	}
	return find(parent, prefix(pid))
}

// LeftIn returns the groups that a process with a start time left below a group. It
// returns none if the path is not that of a group.
func LeftIn(parent string, pid int, since uint64) []*Group {
	var fs unix.Statfs_t
	if err := unix.Statfs(parent, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil
	}
	return find(parent, prefixSince(pid, since))
}

// find returns the groups below a group whose names begin with a prefix.
func find(parent, prefix string) []*Group {
	paths, _ := filepath.Glob(filepath.Join(parent, prefix+"*"))
	var found []*Group
	for _, path := range paths {
		if dir, err := os.Open(path); err == nil {
			found = append(found, &Group{dir})
		}
	}
	return found
}

// Own returns the directory of the group that this process is in.
func Own() (string, error) { return Of(os.Getpid()) }

// Of returns the directory of the group that a process is in. The hierarchy can be
// mounted anywhere, and only a part of it.
func Of(pid int) (string, error) {
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(own)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for _, m := range mounts {
			if dir := locate(m, path); ok && dir != "" {
				return dir, nil
			}
		}
	}
	return "", fmt.Errorf("no cgroup v2 hierarchy: %w", errors.ErrUnsupported)
}

// locate returns the directory of the group with a path in a mounted hierarchy; it is
// empty if the mount does not show it.
func locate(m *mountinfo.Info, path string) string {
	root := strings.TrimSuffix(m.Root, "/")
	if path != root && !strings.HasPrefix(path, root+"/") {
		return ""
	}
	return filepath.Join(m.Mountpoint, strings.TrimPrefix(path, root))
}

// Path returns the directory of the group.
func (g *Group) Path() string { return g.dir.Name() }

// FD returns the descriptor of the group's directory, for clone3(2).
func (g *Group) FD() int { return int(g.dir.Fd()) }

// thawAfter is how long processes of a group may take to end before those in a frozen
// freezer are moved out of it.
const thawAfter = 50 * time.Millisecond

// Kill kills every process in the group. It waits until they have ended, but not longer
// than within.
func (g *Group) Kill(within time.Duration) {
	for begun := time.Now(); g.Populated() && time.Since(begun) < within; time.Sleep(time.Millisecond) {
		if g.write("cgroup.kill", "1") != nil { // Linux before 5.14
			g.killEach()
		}
		if time.Since(begun) > thawAfter { // others have ended by now
			for _, pid := range g.Processes() {
				Thaw(pid)
			}
		}
	}
}

// KillAll kills every process in groups. Each group may take as long as within. It reports
// whether there was any process in them.
func KillAll(groups []*Group, within time.Duration) (some bool) {
	for _, g := range groups {
		if g.Populated() {
			some = true
			g.Kill(within)
		}
	}
	return some
}

func (g *Group) write(file, text string) error {
	return os.WriteFile(filepath.Join(g.dir.Name(), file), []byte(text), 0)
}

// killEach kills one process after the other. Meanwhile the group is frozen (Linux 5.2),
// so that none of them forks: in this hierarchy a frozen process can be killed.
func (g *Group) killEach() {
	if g.write("cgroup.freeze", "1") == nil {
		defer func() { _ = g.write("cgroup.freeze", "0") }()
		for range 100 {
			if g.event("frozen") {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	for _, pid := range g.Processes() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// Processes returns the processes in the group and in those below it.
func (g *Group) Processes() []int {
	var found []int
	for _, dir := range g.dirs() {
		pids, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, word := range bytes.Fields(pids) {
			if pid, err := strconv.Atoi(string(word)); err == nil && pid > 0 {
				found = append(found, pid)
			}
		}
	}
	return found
}

// Has reports whether a process is in the group or in one below it.
func (g *Group) Has(pid int) bool { return slices.Contains(g.Processes(), pid) }

// dirs returns the directories of the group and of those below it, parents first.
func (g *Group) dirs() []string {
	var dirs []string
	_ = filepath.WalkDir(g.dir.Name(), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs
}

// Populated reports whether any process is in the group, or in one below it.
func (g *Group) Populated() bool { return g.event("populated") }

// event reports whether a state of the group is on.
func (g *Group) event(name string) bool { return event(g.dir.Name(), name) }

// event reports whether a state of the group with a directory is on.
func event(dir, name string) bool {
	events, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return false
	}
	defer events.Close()
	for lines := bufio.NewScanner(events); lines.Scan(); {
		if lines.Text() == name+" 1" {
			return true
		}
	}
	return false
}

// Remove removes the group, and those that were created below it. It reports whether it
// could: a group with processes stays.
func (g *Group) Remove() bool {
	if g.Populated() {
		return false
	}
	for _, dir := range slices.Backward(g.dirs()) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false
		}
	}
	return g.dir.Close() == nil
}
