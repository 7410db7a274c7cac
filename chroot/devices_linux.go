package chroot

import (
	"errors"
	"maps"
	"sync"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/blockdev"
)

// diskDevices are block devices of a root's disk whose file systems were mounted below the
// root, by path.
type diskDevices struct {
	mu      sync.Mutex
	devices map[string]blockdev.Identity
}

// add adds the block device at a path, if there is one.
func (d *diskDevices) add(path string) {
	device, err := blockdev.At(path)
	if err != nil || device.Number == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.devices == nil {
		d.devices = map[string]blockdev.Identity{}
	}
	d.devices[path] = device
}

// presentDevices returns the numbers of the root's block devices that still exist, by
// path.
func (m *MountedRoot) presentDevices() (map[string]uint64, error) {
	m.devices.mu.Lock()
	defer m.devices.mu.Unlock()
	all := map[string]blockdev.Identity{m.device: m.block}
	maps.Copy(all, m.devices.devices)
	numbers := map[string]uint64{}
	var errs []error
	for path, device := range all {
		number, err := device.Present(path)
		if errs = append(errs, err); number != 0 {
			numbers[path] = number
		}
	}
	return numbers, errors.Join(errs...)
}
