package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ReadDevice reads the partition table of a block device. See ReadTable.
func ReadDevice(device string) (Table, error) {
	f, err := os.Open(device)
	if err != nil {
		return Table{}, fmt.Errorf("cannot read the partition table: %w", err)
	}
	defer f.Close()
	return readOpen(f)
}

// readOpen reads the table of an open block device.
func readOpen(f *os.File) (Table, error) {
	sector, err := sectorSize(f)
	if err != nil {
		return Table{}, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return Table{}, fmt.Errorf("cannot tell the size of a device: %w", err)
	}
	t, err := ReadTable(f, size, sector)
	if err != nil {
		return Table{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return t, nil
}

// sectorSize returns the size of a block device's logical sector.
func sectorSize(f *os.File) (int, error) {
	size, err := unix.IoctlGetUint32(int(f.Fd()), unix.BLKSSZGET)
	if err != nil {
		return 0, fmt.Errorf("cannot tell the sector size of %s: %w", f.Name(), err)
	}
	return int(size), nil
}

// isDevice returns an error unless path is the node of a block device that can be read
// and has a size: a node can exist before the device answers, and after it is gone.
func isDevice(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return reason(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return reason(err)
	}
	if info.Mode()&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice {
		return errors.New("not a block device")
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return reason(err)
	}
	if size == 0 {
		return errors.New("a device without a size")
	}
	return nil
}

// reason returns the cause of an error about a path, for a message that names the path
// anyway.
func reason(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// number returns a block device's major and minor number, as sysfs writes it.
func number(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", fmt.Errorf("%s is not a block device", path)
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
}

// known is a partition in the kernel's list.
type known struct {
	start, length int64 // bytes
	number        string
}

// KernelPartitions returns the partitions that the kernel has of a device: the number of
// each and its major:minor. The node of the device may have any name.
func KernelPartitions(device string) (map[int]string, error) {
	parts, err := kernelPartitions(device)
	if err != nil {
		return nil, err
	}
	numbers := make(map[int]string, len(parts))
	for n, p := range parts {
		numbers[n] = p.number
	}
	return numbers, nil
}

// kernelPartitions reads sysfs, in which each partition is a directory in that of its
// disk, with a name that begins with the disk's. It is called often, and while other
// builds wait for the partitions.
func kernelPartitions(device string) (map[int]known, error) {
	dev, err := number(device)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.EvalSymlinks(filepath.Join("/sys/dev/block", dev))
	if err != nil {
		return nil, fmt.Errorf("the kernel has no device %s, the number of %s: %w", dev, device, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list the partitions of %s: %w", device, err)
	}
	parts := map[int]known{}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), filepath.Base(dir)) {
			continue
		}
		n, p, err := readKnown(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			continue // it is gone by now
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list the partitions of %s: %w", device, err)
		}
		parts[n] = p
	}
	return parts, nil
}

// readKnown reads a partition's directory. Its units are of 512 bytes, for every sector
// size.
func readKnown(dir string) (int, known, error) {
	values := [3]int64{}
	for i, name := range []string{"partition", "start", "size"} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return 0, known{}, err
		}
		if values[i], err = strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err != nil {
			return 0, known{}, err
		}
	}
	dev, err := os.ReadFile(filepath.Join(dir, "dev"))
	if err != nil {
		return 0, known{}, err
	}
	return int(values[0]), known{values[1] * 512, values[2] * 512, strings.TrimSpace(string(dev))}, nil
}

// Flush writes the kernel's cached data of a device and of its partitions to it, and
// drops the caches: a partition has a cache of its own, so that a read of the whole disk
// could return old bytes. A file system must be unmounted, or synced, before.
func Flush(device string) error {
	parts, err := kernelPartitions(device)
	if err != nil {
		return fmt.Errorf("cannot flush %s: %w", device, err)
	}
	for n := range parts {
		if err := flush(PartitionPath(device, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return flush(device)
}

func flush(node string) error {
	f, err := os.Open(node)
	if err != nil {
		return fmt.Errorf("cannot flush: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cannot flush: %w", err)
	}
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return fmt.Errorf("cannot drop the caches of %s: %w", node, err)
	}
	return nil
}
