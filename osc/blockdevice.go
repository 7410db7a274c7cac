//go:generate packer-sdc mapstructure-to-hcl2 -type BlockDevice
//go:generate packer-sdc struct-markdown
package osc

import (
	"errors"
	"fmt"
	"regexp"

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
		"omi_block_device_mappings[%d]: delete_on_termination is read as delete_on_vm_deletion: please write delete_on_vm_deletion", i)}
}

// checkMappings returns the errors in the block devices.
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

// io1 is the only volume type with provisioned IOPS.
const io1 = "io1"

var ephemeral = regexp.MustCompile(`^ephemeral[0-9]+$`)

// check returns an error in the mapping of a device that is not the root.
func (m BlockDevice) check() error {
	switch {
	case m.DeviceName == "":
		return errors.New("device_name is required")
	case !dataDevice.MatchString(withDev(m.DeviceName)):
		return fmt.Errorf("device_name %q is not of the form /dev/sdX, /dev/sdXX, /dev/xvdX or /dev/xvdXX "+
			"with a first letter from b to z", m.DeviceName)
	case m.NoDevice:
		return nil
	case m.VirtualName != "" && !ephemeral.MatchString(m.VirtualName):
		return fmt.Errorf("virtual_name %q is not of the form ephemeral0", m.VirtualName)
	case m.VirtualName != "":
		return nil
	case m.VolumeSize == 0 && m.SnapshotID == "":
		return fmt.Errorf("device %s needs volume_size or snapshot_id", m.DeviceName)
	case m.SnapshotID != "" && !snapshotID.MatchString(m.SnapshotID):
		return fmt.Errorf("snapshot_id of device %s is %q, but must be the id of a snapshot such as snap-3e158364", m.DeviceName, m.SnapshotID)
	}
	return m.checkVolume()
}

// checkRoot returns an error in the mapping of the root device. Its snapshot is the build's.
func (m BlockDevice) checkRoot() error {
	switch {
	case m.NoDevice:
		return fmt.Errorf("no_device is set for %s, which is the root device", m.DeviceName)
	case m.VirtualName != "":
		return fmt.Errorf("virtual_name is set for %s, which is the root device", m.DeviceName)
	case m.SnapshotID != "":
		return fmt.Errorf("snapshot_id is set for %s, which is the root device: it gets the build's snapshot", m.DeviceName)
	}
	return m.checkVolume()
}

// checkVolume returns an error in the volume of a mapping.
func (m BlockDevice) checkVolume() error {
	if m.VolumeType == io1 && m.IOPS == 0 {
		return fmt.Errorf("iops is required for device %s, whose volume_type is io1", m.DeviceName)
	}
	if m.VolumeType != io1 && m.IOPS != 0 {
		return fmt.Errorf("iops is set for device %s, whose volume_type is not io1", m.DeviceName)
	}
	if err := (wanted{volumeType: m.VolumeType, sizeGiB: m.VolumeSize, iops: m.IOPS}).check(); err != nil {
		return fmt.Errorf("device %s: %w", m.DeviceName, err)
	}
	return nil
}
