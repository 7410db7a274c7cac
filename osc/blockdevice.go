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
func (b *BlockDevice) resolveAlias(i int) (warnings []string) {
	if !b.DeleteOnTermination {
		return nil
	}
	b.DeleteOnVMDeletion = true
	return []string{fmt.Sprintf(
		"omi_block_device_mappings[%d]: delete_on_termination is taken for delete_on_vm_deletion: please write delete_on_vm_deletion", i)}
}

// mapping is the block device as Cloud takes it.
func (b BlockDevice) mapping() Mapping {
	return Mapping{
		DeviceName:         b.DeviceName,
		VirtualName:        b.VirtualName,
		SnapshotID:         b.SnapshotID,
		VolumeType:         b.VolumeType,
		VolumeSizeGiB:      b.VolumeSize,
		IOPS:               b.IOPS,
		DeleteOnVMDeletion: b.DeleteOnVMDeletion,
		NoDevice:           b.NoDevice,
	}
}
