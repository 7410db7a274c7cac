package chroot

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
)

// group is a cgroup (v2) of one command: whatever the command starts is in it,
// wherever it forks itself to, and one write to it ends all of that at once.
// https://docs.kernel.org/admin-guide/cgroup-v2.html
type group struct {
	// dir is its open directory, which processes are started in.
	dir *os.File
}

// groupCount tells the groups of a process apart.
var groupCount atomic.Uint64

// newGroup makes a group below this process's own. It fails where cgroups cannot
// be had: without a v2 hierarchy, or one that may not be written.
func newGroup() (*group, error) {
	parent, err := ownGroup()
	if err != nil {
		return nil, err
	}
	path, err := makeGroup(parent)
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return &group{dir}, nil
}

// makeGroup makes a directory below another one.
func makeGroup(parent string) (path string, err error) {
	since, err := startOf(os.Getpid())
	if err != nil {
		return "", err
	}
	for {
		path = filepath.Join(parent, fmt.Sprintf("%s%d", groupsSince(os.Getpid(), since), groupCount.Add(1)))
		if err = os.Mkdir(path, 0o755); !errors.Is(err, os.ErrExist) {
			return path, err
		}
	}
}

// groupPrefix begins the names of the groups that a process made.
func groupPrefix(pid int) string { return fmt.Sprintf("packer-chroot-%d-", pid) }

// groupsSince begins the names of those of a process that was started then: another one
// may be given its id.
func groupsSince(pid int, since uint64) string { return fmt.Sprintf("%s%d-", groupPrefix(pid), since) }

// groupsOf finds the groups that another process, which has just ended, left here.
func groupsOf(pid int) []*group {
	parent, err := ownGroup()
	if err != nil {
		return nil
	}
	return groupsIn(parent, groupPrefix(pid))
}

// groupsIn finds the groups below a group whose names begin so.
func groupsIn(parent, prefix string) []*group {
	paths, _ := filepath.Glob(filepath.Join(parent, prefix+"*"))
	var found []*group
	for _, path := range paths {
		if dir, err := os.Open(path); err == nil {
			found = append(found, &group{dir})
		}
	}
	return found
}

// ownGroup is the directory of the group that this process is in. The hierarchy
// can be mounted anywhere, and from any place of it on.
func ownGroup() (string, error) { return groupOf(os.Getpid()) }

// groupOf is the directory of the group that a process is in.
func groupOf(pid int) (string, error) {
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
			if ok && below(path, strings.TrimSuffix(m.Root, "/")) {
				return filepath.Join(m.Mountpoint, strings.TrimPrefix(path, strings.TrimSuffix(m.Root, "/"))), nil
			}
		}
	}
	return "", fmt.Errorf("no cgroup v2 hierarchy: %w", errors.ErrUnsupported)
}

// kill kills every process in the group, and waits until they have ended, but not
// longer than given.
func (g *group) kill(within time.Duration) {
	for begun := time.Now(); g.populated() && time.Since(begun) < within; time.Sleep(time.Millisecond) {
		if g.write("cgroup.kill", "1") != nil { // Linux before 5.14
			g.killEach()
		}
		if time.Since(begun) > retryAfter { // others have ended by now
			for _, pid := range g.processes() {
				thaw(pid)
			}
		}
	}
}

func (g *group) write(file, text string) error {
	return os.WriteFile(filepath.Join(g.dir.Name(), file), []byte(text), 0)
}

// killEach kills one process after the other. Meanwhile the group is frozen (Linux
// 5.2), so that none of them forks: in this hierarchy a frozen process can be killed.
func (g *group) killEach() {
	if g.write("cgroup.freeze", "1") == nil {
		defer func() { _ = g.write("cgroup.freeze", "0") }()
		for range 100 {
			if g.event("frozen") {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	for _, pid := range g.processes() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// processes lists the processes in the group and in those below it.
func (g *group) processes() []int {
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

// has reports whether a process is in the group or in one below it.
func (g *group) has(pid int) bool { return slices.Contains(g.processes(), pid) }

// dirs lists the directories of the group and of those below it, parents first.
func (g *group) dirs() []string {
	var dirs []string
	_ = filepath.WalkDir(g.dir.Name(), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs
}

// populated reports whether any process lives in the group, or below it.
func (g *group) populated() bool { return g.event("populated") }

// event reports whether a state of the group is on.
func (g *group) event(name string) bool { return groupEvent(g.dir.Name(), name) }

// groupEvent reports whether a state of the group with a directory is on.
func groupEvent(dir, name string) bool {
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

// remove removes the group, with those that were made below it, and says whether
// it could: what has processes stays.
func (g *group) remove() bool {
	if g.populated() {
		return false
	}
	for _, dir := range slices.Backward(g.dirs()) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false
		}
	}
	return g.dir.Close() == nil
}
