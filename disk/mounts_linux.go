package disk

import (
	"fmt"
	"path/filepath"
)

// FstabMounts finds what an image's fstab mounts below the root, in the order in
// which it is to be mounted. Only partitions of the device are found, and subvolumes
// on them: everything else that the image would mount from a disk or another host is
// in the answer with what it lacks. What is of no disk, such as a tmpfs, is left out.
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
