package harness

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// leftOnHost lists the loop devices and mounts that tests below dir have left, and new entries of /dev and /mnt without
// a disk.
func leftOnHost(dir string, before []string) []string {
	var left []string
	for _, loop := range LoopsOf(dir) {
		left = append(left, "loop device "+loop)
	}
	for _, line := range strings.Split(Read("/proc/self/mountinfo"), "\n") {
		f := strings.Fields(line)
		if len(f) > 4 && (strings.HasPrefix(f[4], dir+"/") || strings.HasPrefix(backing(f[2]), dir+"/")) {
			left = append(left, "mount "+f[4])
		}
	}
	for _, entry := range staleEntries() {
		if !slices.Contains(before, entry) {
			left = append(left, "leading nowhere: "+entry)
		}
	}
	return left
}

// staleEntries lists device nodes and links without a disk, and directories for mounts without a mount. Another process
// may be about to use an entry, so that only those count that stay stale for a while.
func staleEntries() []string {
	stale := staleNow()
	for range 4 {
		if len(stale) == 0 {
			break
		}
		time.Sleep(500 * time.Millisecond)
		again := staleNow()
		stale = slices.DeleteFunc(stale, func(entry string) bool { return !slices.Contains(again, entry) })
	}
	return stale
}

func staleNow() []string {
	var stale []string
	for _, pattern := range []string{"/dev/xvd*", "/dev/sd*", "/dev/nvme*n*", "/dev/disk/by-id/*"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			if !leadsToDisk(path) {
				stale = append(stale, path)
			}
		}
	}
	mounts := Read("/proc/self/mountinfo")
	dirs, _ := filepath.Glob("/mnt/packer-amazon-chroot-volumes/*")
	for _, path := range dirs {
		if !strings.Contains(mounts, " "+path+" ") {
			stale = append(stale, path)
		}
	}
	return stale
}

// leadsToDisk reports whether a node belongs to a disk that the kernel has and, if that is a loop device, to one with a
// file.
func leadsToDisk(path string) bool {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return false
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	target, err := filepath.EvalSymlinks("/sys/dev/block/" + number)
	return err == nil && (!strings.Contains(target, "/loop") || backing(number) != "")
}

// backing returns the file of a loop device, or of the loop device of a partition.
func backing(number string) string {
	dir := "/sys/dev/block/" + number
	return strings.TrimSpace(Read(dir+"/loop/backing_file") + Read(dir+"/../loop/backing_file"))
}

// LoopsOfDisks lists the loop devices of direct disks with these names.
func LoopsOfDisks(names []string) []string {
	var found []string
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		name := strings.TrimSuffix(strings.TrimSpace(Read(f)), " (deleted)")
		if slices.Contains(names, strings.TrimPrefix(name, "/")) {
			found = append(found, "loop device "+strings.Split(f, "/")[3]+" of "+name)
		}
	}
	return found
}

// LoopsOf lists the loop devices on files below dir.
func LoopsOf(dir string) []string {
	var found []string
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		if backing := strings.TrimSpace(Read(f)); strings.HasPrefix(backing, strings.TrimSuffix(dir, "/")+"/") {
			found = append(found, strings.Split(f, "/")[3]+" on "+backing)
		}
	}
	return found
}
