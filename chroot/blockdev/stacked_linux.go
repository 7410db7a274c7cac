package blockdev

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxDepth is how many devices may be stacked: a partition, a RAID of it, an encrypted
// device of that, and so on.
const maxDepth = 8

// MadeOf reports whether a block device is a disk, one of its partitions, or made of these
// by other drivers, as sysfs shows it.
func MadeOf(device, disk uint64) bool { return madeOf(device, disk, maxDepth) }

func madeOf(device, disk uint64, depth int) bool {
	if device == disk {
		return true
	}
	dir, err := filepath.EvalSymlinks("/sys/dev/block/" + Format(device))
	if err != nil || depth == 0 {
		return false
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		return numberIn(filepath.Dir(dir)) == Format(disk) || madeOfAny(filepath.Dir(dir), disk, depth)
	}
	return madeOfAny(dir, disk, depth)
}

// madeOfAny reports whether one of the devices that a device is made of is of a disk.
func madeOfAny(dir string, disk uint64, depth int) bool {
	below, _ := filepath.Glob(filepath.Join(dir, "slaves", "*"))
	return slices.ContainsFunc(below, func(slave string) bool {
		number, err := parse(numberIn(slave))
		return err == nil && madeOf(number, disk, depth-1)
	})
}

// numberIn returns the device number in a directory of sysfs.
func numberIn(dir string) string {
	text, _ := os.ReadFile(filepath.Join(dir, "dev"))
	return strings.TrimSpace(string(text))
}

// ShareBtrfs reports whether two block devices are of one mounted btrfs, whose mounts
// name either.
func ShareBtrfs(one, other uint64) bool {
	all, _ := filepath.Glob("/sys/fs/btrfs/*/devices")
	return slices.ContainsFunc(all, func(devices string) bool { return lists(devices, one) && lists(devices, other) })
}

// lists reports whether a directory of sysfs lists a block device.
func lists(dir string, number uint64) bool {
	entries, _ := filepath.Glob(filepath.Join(dir, "*"))
	return slices.ContainsFunc(entries, func(entry string) bool { return numberIn(entry) == Format(number) })
}
