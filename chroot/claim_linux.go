package chroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// claimed returns nil if the recorded device is the claimed disk, one of its partitions,
// or a device that is made of these.
func (r RootRecord) claimed(c Claim) error {
	if c.Disk == "" {
		return fmt.Errorf("the disk of the build's volume is not found, and device %s is mounted: %w", numbers(r.Number), ErrNotClaimed)
	}
	disk, err := deviceAt(c.Disk)
	if err != nil {
		return err
	}
	if disk.Number == 0 || !madeOf(r.Number, disk.Number, deepest) {
		return fmt.Errorf("device %s is mounted, which is not of %s (%s), the disk of the build's volume: %w",
			numbers(r.Number), c.Disk, numbers(disk.Number), ErrNotClaimed)
	}
	return nil
}

// numbers returns a device number as sysfs writes it.
func numbers(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }

// deepest is how many devices may be made one of the other: a partition, a RAID of it,
// an encrypted device of that, and so on.
const deepest = 8

// madeOf reports whether a block device is a disk, one of its partitions, or made of
// these by other drivers, as sysfs has it.
func madeOf(device, disk uint64, depth int) bool {
	if device == disk {
		return true
	}
	dir, err := filepath.EvalSymlinks("/sys/dev/block/" + numbers(device))
	if err != nil || depth == 0 {
		return false
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		return numberIn(filepath.Dir(dir)) == numbers(disk) || madeOfAny(filepath.Dir(dir), disk, depth)
	}
	return madeOfAny(dir, disk, depth)
}

// madeOfAny reports whether one of the devices below a device is of a disk.
func madeOfAny(dir string, disk uint64, depth int) bool {
	below, _ := filepath.Glob(filepath.Join(dir, "slaves", "*"))
	return slices.ContainsFunc(below, func(slave string) bool {
		node, err := deviceNumbered(numberIn(slave))
		return err == nil && madeOf(node, disk, depth-1)
	})
}

// numberIn returns the device number that a directory of sysfs tells.
func numberIn(dir string) string {
	text, _ := os.ReadFile(filepath.Join(dir, "dev"))
	return strings.TrimSpace(string(text))
}

// deviceNumbered reads a device number as sysfs writes it.
func deviceNumbered(text string) (uint64, error) {
	var major, minor uint32
	if _, err := fmt.Sscanf(text, "%d:%d", &major, &minor); err != nil {
		return 0, err
	}
	return unix.Mkdev(major, minor), nil
}

// leaveDirs says of the directories that are there that they stay.
func (r RootRecord) leaveDirs() []string {
	var left []string
	for _, dir := range r.Made {
		if _, err := os.Lstat(dir); err == nil {
			left = append(left, fmt.Sprintf("the directory %s is left: nothing shows that it was made for the build", dir))
		}
	}
	return left
}

// removeYoung removes the directories that were made for a root which is not mounted any
// more. One that was there before the build was not made for it.
func (r RootRecord) removeYoung(since time.Time) []string {
	for i, dir := range slices.Backward(r.Made) {
		born, err := birth(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil || born.Before(since.Add(-coarse)) {
			r.Made = r.Made[:i+1]
			return r.leaveDirs()
		}
		if os.Remove(dir) != nil {
			return nil // it is in use
		}
	}
	return nil
}

// coarse is more than the clock of a file system lags behind the kernel's.
const coarse = time.Second

// birth returns when a file was made. Links are not followed.
func birth(path string) (time.Time, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME, &st)
	if err != nil {
		return time.Time{}, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	if st.Mask&unix.STATX_BTIME == 0 {
		return time.Time{}, fmt.Errorf("the file system does not tell when %s was made", path)
	}
	return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)), nil
}
