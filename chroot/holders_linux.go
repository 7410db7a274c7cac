package chroot

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// holders names what keeps files below a path in use: processes by id and name,
// and loop devices.
func holders(root string) []string {
	var found []string
	for _, pid := range processes() {
		if holds(pid, root) {
			found = append(found, processName(pid))
		}
	}
	backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, file := range backing {
		path, err := os.ReadFile(file)
		if err == nil && below(string(bytes.TrimSpace(path)), root) {
			found = append(found, "/dev/"+strings.Split(file, "/")[3])
		}
	}
	return found
}

// mountsOf names where a block device is mounted, in this namespace or in that of
// another process.
func mountsOf(device uint64) []string {
	var found []string
	ofDevice := func(m *mountinfo.Info) (skip, stop bool) {
		return m.Major != int(unix.Major(device)) || m.Minor != int(unix.Minor(device)), false
	}
	for _, pid := range processes() {
		for _, m := range mountsSeenBy(pid, ofDevice) {
			found = append(found, "a mount on "+m.Mountpoint)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// mountsSeenBy lists the mounts of a process's namespace; none if it has ended.
func mountsSeenBy(pid int, filter mountinfo.FilterFunc) []*mountinfo.Info {
	list, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil
	}
	defer list.Close()
	mounts, _ := mountinfo.GetMountsFromReader(list, filter)
	return mounts
}

// processes lists the ids of all processes.
func processes() []int {
	names, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(filepath.Base(name)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// processName is a process as an error names it.
func processName(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("process %d", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, bytes.TrimSpace(name))
}

// holds says whether a process has its root, its directory, its program, an open
// file or a mapped one below a path.
func holds(pid int, root string) bool {
	dir := fmt.Sprintf("/proc/%d", pid)
	links := []string{dir + "/root", dir + "/cwd", dir + "/exe"}
	files, _ := filepath.Glob(dir + "/fd/*")
	for _, link := range append(links, files...) {
		if target, err := os.Readlink(link); err == nil && below(target, root) {
			return true
		}
	}
	return maps(dir+"/maps", root)
}

// maps says whether a list of mapped files has one below a path.
func maps(file, root string) bool {
	list, err := os.Open(file)
	if err != nil {
		return false
	}
	defer list.Close()
	for lines := bufio.NewScanner(list); lines.Scan(); {
		if _, path, ok := strings.Cut(lines.Text(), " /"); ok && below("/"+path, root) {
			return true
		}
	}
	return false
}

// below says whether a path is root or lies below it.
func below(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

// killInside ends every process whose root is at or below a path, and those that
// they start meanwhile.
func killInside(root string) {
	const passes = 20
	for range passes {
		if !killOnce(root) {
			return
		}
		time.Sleep(retryAfter / 5)
	}
}

// killOnce says whether there were any.
func killOnce(root string) bool {
	found := false
	for _, pid := range processes() {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/root", pid))
		if err == nil && below(target, root) {
			found = true
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return found
}
