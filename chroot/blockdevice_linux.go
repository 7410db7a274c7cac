package chroot

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// blockDevice tells a block device from another one that comes to its node later, as
// when a volume is taken away from a build by force and the next one gets its name.
type blockDevice struct {
	// Number is its dev_t. 0 is none, or one that is not known.
	Number uint64
	// Count is the kernel's number of its disk, which no other one gets until the next
	// boot (diskseq, Linux 5.15); empty if the kernel has none.
	Count string
}

// deviceAt answers what block device is at a path. Another file is none.
func deviceAt(path string) (blockDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return blockDevice{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return blockDevice{}, nil
	}
	return blockDeviceOf(st.Rdev), nil
}

// blockDeviceOf is the one that has a number now.
func blockDeviceOf(number uint64) blockDevice {
	dir := fmt.Sprintf("/sys/dev/block/%d:%d/", unix.Major(number), unix.Minor(number))
	for _, name := range []string{"diskseq", "../diskseq"} { // of a disk, and of a partition's
		if count, err := os.ReadFile(dir + name); err == nil {
			return blockDevice{number, strings.TrimSpace(string(count))}
		}
	}
	return blockDevice{Number: number}
}

// is says whether two that were seen at one path can be one.
func (d blockDevice) is(other blockDevice) bool {
	return d.Number == other.Number && (d.Count == other.Count || d.Count == "" || other.Count == "")
}

// present returns the number of the block device that was seen at a path, and 0 if the
// node is gone or is another one's by now.
func (d blockDevice) present(path string) (uint64, error) {
	now, err := deviceAt(path)
	if err != nil || d.Number != 0 && !d.is(now) {
		return 0, ignoreGone(err)
	}
	return now.Number, nil
}

// further are block devices whose file systems were mounted below a root, by path.
type further struct {
	mu      sync.Mutex
	devices map[string]blockDevice
}

func (f *further) add(path string) {
	block, err := deviceAt(path)
	if err != nil || block.Number == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.devices == nil {
		f.devices = map[string]blockDevice{}
	}
	f.devices[path] = block
}

// present returns the numbers of the root's block devices that are still there, by
// path.
func (m *Mounted) present() (map[string]uint64, error) {
	m.further.mu.Lock()
	defer m.further.mu.Unlock()
	all := map[string]blockDevice{m.device: m.block}
	maps.Copy(all, m.further.devices)
	numbers := map[string]uint64{}
	var errs []error
	for path, block := range all {
		number, err := block.present(path)
		if errs = append(errs, err); number != 0 {
			numbers[path] = number
		}
	}
	return numbers, errors.Join(errs...)
}
