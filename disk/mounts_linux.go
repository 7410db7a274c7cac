package disk

import (
	"fmt"
	"path/filepath"
)

// FstabMounts returns the mounts below the root in an image's fstab, in the order in
// which to mount them. Only partitions of the device are found, and subvolumes on them:
// every other mount from a disk or another host is in the result with its reason. Entries
// without a disk, such as a tmpfs, are left out.
func FstabMounts(device, fstab string) ([]FstabMount, error) {
	device, err := filepath.EvalSymlinks(device)
	if err != nil {
		return nil, fmt.Errorf("cannot find what the fstab mounts: %w", err)
	}
	t, err := ReadDevice(device)
	if err != nil {
		return nil, err
	}
	parts, err := t.candidates(device)
	if t.Kind == None {
		var whole candidate
		whole, err = candidateOn(device, Partition{})
		parts = []candidate{whole}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find what the fstab mounts on %s: %w", device, err)
	}
	return fstabMounts(ParseFstab(fstab), parts), nil
}
