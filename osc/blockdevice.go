//go:generate packer-sdc mapstructure-to-hcl2 -type BlockDevice
//go:generate packer-sdc struct-markdown
package osc

import (
	"fmt"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// BlockDevice is an entry of omi_block_device_mappings.
type BlockDevice struct {
	builder.BlockDevice `mapstructure:",squash"`

	// Delete the volume when the VM is deleted. Defaults to `false`: the volume remains,
	// and is billed, until it is deleted.
	DeleteOnVMDeletion bool `mapstructure:"delete_on_vm_deletion"`

	// The spelling of the page's own example of a build from scratch.
	DeleteOnTermination bool `mapstructure:"delete_on_termination" undocumented:"true"`
}

// resolveAlias takes the spelling of AWS for that of Outscale. i is the place of
// the device in the list.
func (m *BlockDevice) resolveAlias(i int) (warnings []string) {
	if !m.DeleteOnTermination {
		return nil
	}
	m.DeleteOnVMDeletion = true
	return []string{fmt.Sprintf(
		"omi_block_device_mappings[%d]: delete_on_termination is taken for delete_on_vm_deletion: please write delete_on_vm_deletion", i)}
}

// checkMappings returns what the API would refuse of the block devices.
func (c *Config) checkMappings() []error {
	var errs []error
	if n := len(c.OMIBlockDeviceMappings); n > maxVolumes {
		errs = append(errs, fmt.Errorf("omi_block_device_mappings has %d devices, but a VM can have %d volumes, its root included", n, maxVolumes))
	}
	seen := map[string]bool{}
	for i, m := range c.OMIBlockDeviceMappings {
		name, check := kernelName(c.imageDevice(m.DeviceName)), m.check
		if name == kernelName(rootDevice) {
			check = m.checkRoot
		}
		if err := check(); err != nil {
			errs = append(errs, fmt.Errorf("omi_block_device_mappings[%d]: %w", i, err))
		}
		if seen[name] {
			errs = append(errs, fmt.Errorf("omi_block_device_mappings[%d]: device %s is there twice", i, m.DeviceName))
		}
		seen[name] = true
	}
	return errs
}

// imageDevice returns the API's name of a device of the image that the user calls name.
func (c *Config) imageDevice(name string) string {
	name = withDev(name)
	if firstDisk.MatchString(name) || c.RootDeviceName != "" && sameDevice(name, withDev(c.RootDeviceName)) {
		return rootDevice
	}
	return name
}
