package blockdev

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Identity distinguishes a block device from a later one that has the same node, for
// example if a volume is detached from a build by force and the next one gets its name.
type Identity struct {
	// Number is its dev_t. 0 is none, or one that is not known.
	Number uint64
	// Count is the kernel's number of its disk, which no other one gets until the next
	// boot (diskseq, Linux 5.15); empty if the kernel has none.
	Count string
}

// At returns the identity of the block device at a path. It is zero for another file.
func At(path string) (Identity, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Identity{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Identity{}, nil
	}
	return Numbered(st.Rdev), nil
}

// Numbered returns the identity of the device that has a number now.
func Numbered(number uint64) Identity {
	dir := "/sys/dev/block/" + Format(number) + "/"
	for _, name := range []string{"diskseq", "../diskseq"} { // of a disk, and of a partition's
		if count, err := os.ReadFile(dir + name); err == nil {
			return Identity{number, strings.TrimSpace(string(count))}
		}
	}
	return Identity{Number: number}
}

// Same reports whether two identities can be those of one device.
func (d Identity) Same(other Identity) bool {
	return d.Number == other.Number && (d.Count == other.Count || d.Count == "" || other.Count == "")
}

// Present returns the number of the block device at a path, and 0 if the device is gone or
// another one has its node.
func (d Identity) Present(path string) (uint64, error) {
	now, err := At(path)
	if err != nil || d.Number != 0 && !d.Same(now) {
		return 0, IgnoreGone(err)
	}
	return now.Number, nil
}

// IgnoreGone returns nil for an error about a device that has no disk any more, such as one
// that was detached, and every other error as it is.
func IgnoreGone(err error) error {
	for _, gone := range []error{unix.ENXIO, unix.ENODEV, unix.ENOMEDIUM, unix.ENOENT} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	return err
}

// Format returns a device number as sysfs writes it.
func Format(number uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number))
}

// parse reads a device number as sysfs writes it.
func parse(text string) (uint64, error) {
	var major, minor uint32
	if _, err := fmt.Sscanf(text, "%d:%d", &major, &minor); err != nil {
		return 0, err
	}
	return unix.Mkdev(major, minor), nil
}
