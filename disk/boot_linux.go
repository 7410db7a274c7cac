package disk

import (
	"fmt"
	"path/filepath"
)

// Boot finds what an image's fstab wants at /boot and /boot/efi, in the order in
// which it is to be mounted. Only partitions of the device count: what the image
// has elsewhere is not there.
func Boot(device, fstab string) ([]BootMount, error) {
	device, err := filepath.EvalSymlinks(device)
	if err != nil {
		return nil, fmt.Errorf("cannot find /boot: %w", err)
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
		return nil, fmt.Errorf("cannot find /boot on %s: %w", device, err)
	}
	return bootMounts(ParseFstab(fstab), parts), nil
}
