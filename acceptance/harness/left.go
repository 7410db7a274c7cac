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

// leftOnHost lists what tests below dir left: loop devices, mounts of them or below
// dir, and entries of /dev and /mnt that lead to nothing and were not there before.
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

// staleEntries lists the device nodes and links that lead to no disk, and the
// directories for mounts that nothing is mounted on. Somebody else's may be on
// its way to be something: only what stays so for a while counts.
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

// leadsToDisk says whether a node is of a disk that the kernel has, and, if that
// is a loop device, of one that has a file.
func leadsToDisk(path string) bool {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return false
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	target, err := filepath.EvalSymlinks("/sys/dev/block/" + number)
	return err == nil && (!strings.Contains(target, "/loop") || backing(number) != "")
}

// backing is the file behind a loop device, or behind the one that a partition is
// on.
func backing(number string) string {
	dir := "/sys/dev/block/" + number
	return strings.TrimSpace(Read(dir+"/loop/backing_file") + Read(dir+"/../loop/backing_file"))
}

// LoopsOf lists the loop devices whose backing file lies below dir.
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
