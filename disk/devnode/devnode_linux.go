package devnode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Make creates the node of a block device at a path if it is missing there, and replaces the node
// of another block device. It does nothing if the kernel maintains the directory.
func Make(path string, number uint64) error {
	if found, err := at(path); err == nil && found == number || Maintained(path) {
		return nil
	}
	defer lock()()
	return makeNode(path, number)
}

// Sync makes the nodes of a disk's partitions equal to the kernel's list: it creates those that are
// missing, replaces those of other devices, and removes those of partitions that do not exist. It
// does nothing if the kernel maintains the directory.
func Sync(device string) error {
	return maintain(device, func() error {
		have, err := partitions(device)
		if err != nil {
			return err
		}
		var errs []error
		for n, number := range have {
			errs = append(errs, makeNode(PartitionPath(device, n), number))
		}
		return errors.Join(append(errs, prune(device, have))...)
	})
}

// Prune removes the nodes of partitions that a disk does not have. It does nothing if the kernel
// maintains the directory.
func Prune(device string) error {
	return maintain(device, func() error {
		have, err := partitions(device)
		if err != nil {
			return err
		}
		return prune(device, have)
	})
}

// Remove removes the nodes of all partitions of a disk. It must be called before the kernel can use
// the device for another disk. It does nothing if the kernel maintains the directory.
func Remove(device string) error {
	return maintain(device, func() error { return prune(device, nil) })
}

// maintain calls a function that changes the nodes of a disk's partitions, while the directory is
// locked.
func maintain(device string, change func() error) error {
	if Maintained(device) {
		return nil
	}
	defer lock()()
	return change()
}

// followEvery is the interval of Follow. A script that creates a partition and waits for its node
// seldom waits for less than a second.
const followEvery = 100 * time.Millisecond

// Follow calls Sync at intervals until ctx ends. It returns at once if the kernel maintains the
// directory.
func Follow(ctx context.Context, device string) {
	if Maintained(device) {
		return
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = Sync(device) // the wait for a certain partition reports it
		}
	}
}

// directory is the directory of the kernel's nodes.
const directory = "/dev"

// Maintained reports whether a node is none for this package to create: it is not in /dev itself, or
// the kernel maintains that directory, which is a devtmpfs then. It also returns true if that cannot
// be determined.
func Maintained(path string) bool {
	var st unix.Stat_t
	if err := unix.Stat(directory, &st); err != nil || filepath.Dir(path) != directory {
		return true
	}
	found, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		is := m.FSType == "devtmpfs" && unix.Mkdev(uint32(m.Major), uint32(m.Minor)) == st.Dev
		return !is, is
	})
	return err != nil || len(found) > 0
}

// at returns the number of the block device whose node is at a path.
func at(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, fmt.Errorf("%s is not a block device", path)
	}
	return st.Rdev, nil
}

// makeNode creates or replaces a node. The directory must be locked.
func makeNode(path string, number uint64) error {
	found, err := at(path)
	switch {
	case err == nil && found == number:
		return nil
	case err == nil:
		err = remove(path)
	case errors.Is(err, os.ErrNotExist):
		err = nil
	}
	if err == nil {
		err = unix.Mknod(path, unix.S_IFBLK|0o600, int(number))
	}
	if err != nil {
		return Explain(fmt.Errorf("cannot create %s, which this /dev lacks: %w", path, err), number)
	}
	return nil
}

// Explain adds the remedy to an error of creating or opening the node of a block device, if it is
// the refusal of a container.
func Explain(err error, number uint64) error {
	if !Refused(err) {
		return err
	}
	return fmt.Errorf("%w: a container needs a writable /dev, the capability MKNOD, and a rule that allows the block devices %d:*",
		err, unix.Major(number))
}

// Refused reports whether creating or opening a node was refused, so that a repetition has no effect.
func Refused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS)
}

// remove removes a node.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// partitions returns the numbers of the partitions that the kernel has of a disk. There are none if
// the disk does not exist.
func partitions(device string) (map[int]uint64, error) {
	number, err := at(device)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the partitions of %s: %w", device, err)
	}
	entries, err := filepath.Glob(fmt.Sprintf("/sys/dev/block/%d:%d/*/partition", unix.Major(number), unix.Minor(number)))
	if err != nil {
		return nil, err
	}
	have := map[int]uint64{}
	for _, entry := range entries {
		n, number, err := partition(filepath.Dir(entry))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			continue // it is gone by now
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list the partitions of %s: %w", device, err)
		}
		have[n] = number
	}
	return have, nil
}

// partition reads the directory of a partition in sysfs.
func partition(dir string) (n int, number uint64, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "partition"))
	if err == nil {
		n, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err == nil {
		number, err = Number(dir)
	}
	return n, number, err
}

// Number returns the number of the block device that has a directory in sysfs.
func Number(dir string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(dir, "dev"))
	if err != nil {
		return 0, err
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err != nil {
		return 0, fmt.Errorf("cannot read the device number %.20q of %s: %w", text, dir, err)
	}
	return unix.Mkdev(major, minor), nil
}

// prune removes the nodes of partitions that a disk does not have.
func prune(device string, have map[int]uint64) error {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		digits, ok := strings.CutPrefix(entry.Name(), filepath.Base(prefix(device)))
		n, err := strconv.Atoi(digits)
		if _, exists := have[n]; !ok || err != nil || exists || entry.Type()&os.ModeType != os.ModeDevice {
			continue
		}
		errs = append(errs, remove(filepath.Join(directory, entry.Name())))
	}
	return errors.Join(errs...)
}

// lockTimeout is how long a process waits for the lock of the directory. Every process can lock it,
// so a node is created without the lock in the end.
const lockTimeout = time.Second

// lock locks the directory, so that no process removes a node that another one has just created. The
// function that it returns ends the lock.
func lock() (unlock func()) {
	f, err := os.Open(directory)
	if err != nil {
		return func() {}
	}
	for begun := time.Now(); unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil && time.Since(begun) < lockTimeout; {
		time.Sleep(time.Millisecond)
	}
	return func() { f.Close() }
}
