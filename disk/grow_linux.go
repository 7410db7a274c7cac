package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// GrowPartition extends the partition with this node, which must not be in use, to the
// end of its device, in the table and in the kernel. It reports whether the partition
// grew. It does nothing if the node is the whole device.
func GrowPartition(device, node string) (grown bool, err error) {
	n, err := numberOn(device, node)
	if err == nil && n > 0 {
		grown, err = growOn(device, n)
	}
	if err == nil && grown {
		err = SyncPartitions(device)
	}
	if err != nil {
		return grown, fmt.Errorf("cannot grow the partition %s: %w", node, err)
	}
	return grown, nil
}

// numberOn returns the number of the device's partition that has the node, 0 for the
// whole device.
func numberOn(device, node string) (int, error) {
	dev, err := number(node)
	if err != nil {
		return 0, err
	}
	if whole, err := number(device); err != nil || whole == dev {
		return 0, err
	}
	parts, err := kernelPartitions(device)
	if err != nil {
		return 0, err
	}
	for n, p := range parts {
		if p.number == dev {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s is not on %s", node, device)
}

func growOn(device string, number int) (bool, error) {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	sector, err := sectorSize(f)
	if err != nil {
		return false, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	grown, err := GrowInTable(f, size, sector, number)
	return grown, errors.Join(err, f.Sync())
}
