package chroot

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/blockdev"
)

// claimed returns nil if the recorded device is the claimed disk, one of its partitions,
// or a device that is made of these.
func (r RootRecord) claimed(c Claim) error {
	if c.Disk == "" {
		return fmt.Errorf("the disk of the build's volume is not found, and device %s is mounted: %w", blockdev.Format(r.Number), ErrNotClaimed)
	}
	disk, err := blockdev.At(c.Disk)
	if err != nil {
		return err
	}
	if disk.Number == 0 || !blockdev.MadeOf(r.Number, disk.Number) {
		return fmt.Errorf("device %s is mounted, which is not of %s (%s), the disk of the build's volume: %w",
			blockdev.Format(r.Number), c.Disk, blockdev.Format(disk.Number), ErrNotClaimed)
	}
	return nil
}

// leaveDirs returns a message for each directory that exists and is not removed.
func (r RootRecord) leaveDirs() []string {
	var left []string
	for _, dir := range r.Made {
		if _, err := os.Lstat(dir); err == nil {
			left = append(left, fmt.Sprintf("the directory %s is left: nothing shows that it was made for the build", dir))
		}
	}
	return left
}

// removeYoung removes the directories that were created for a root which is not mounted any
// more. One that is older than the build was not created for it. It returns a message for
// each directory that is not removed.
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

// coarse is more than the lag of a file system's clock behind the kernel's.
const coarse = time.Second

// birth returns the time at which a file was created. Links are not followed.
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
