//go:generate packer-sdc struct-markdown
package amazon

import (
	"fmt"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// VolumeConfig holds the options for the volumes of the image.
type VolumeConfig struct {
	// The provisioned throughput of the root volume in MiB/s, during the build and in the
	// image. For `gp3` only. Defaults to that of the source AMI's root volume.
	RootVolumeThroughput int64 `mapstructure:"root_volume_throughput"`
	// The block devices of instances of the AMI. They are added to those of the source AMI
	// and replace those with the same name. Required with `from_scratch`. See
	// [Block device mappings](#block-device-mappings).
	AMIBlockDeviceMappings []BlockDevice `mapstructure:"ami_block_device_mappings"`
}

// checkRootVolume returns the errors in the root volume's options that builder.Config has not
// found.
func (c *Config) checkRootVolume() []error {
	reported := c.RootVolumeSize < 0 || c.RootVolumeIOPS < 0 || !slices.Contains(append(builder.VolumeTypes{""}, kind.VolumeTypes...), c.RootVolumeType)
	switch {
	case reported:
		return nil
	case hardDisks[c.RootVolumeType]:
		return []error{fmt.Errorf("root_volume_type is %s, but a root volume cannot be a hard disk", c.RootVolumeType)}
	}
	return []error{c.rootVolume().check()}
}

// rootVolume returns the options of the root volume.
func (c *Config) rootVolume() wanted {
	return wanted{
		prefix: "root_volume_", volumeType: c.RootVolumeType, sizeGiB: c.RootVolumeSize,
		iops: c.RootVolumeIOPS, throughput: c.RootVolumeThroughput, inherits: true,
	}
}
