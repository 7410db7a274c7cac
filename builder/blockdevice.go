//go:generate packer-sdc struct-markdown
package builder

import (
	"fmt"
	"slices"
	"strings"
)

// BlockDevice is what both clouds let an image say of a block device.
type BlockDevice struct {
	// The name of the device in an instance of the image, such as `/dev/sdh` or
	// `xvdh`. Required for every mapping.
	DeviceName string `mapstructure:"device_name" required:"true"`
	// Leave this device of the source image out of the image. Defaults to `false`.
	NoDevice bool `mapstructure:"no_device"`
	// The snapshot that the volume is made from. The root device has none: its
	// snapshot is what the build makes.
	SnapshotID string `mapstructure:"snapshot_id"`
	// The instance store volume that the device stands for, such as `ephemeral0`,
	// in place of a volume.
	VirtualName string `mapstructure:"virtual_name"`
	// The size of the volume in GiB. Defaults to that of the snapshot, and is
	// required without `snapshot_id`. The root device is at least as large as
	// `root_volume_size`.
	VolumeSize int64 `mapstructure:"volume_size"`
	// The type of the volume, such as `gp2`, `io1` or `standard`. Defaults to the
	// cloud's default, and for the root device to `root_volume_type`.
	VolumeType string `mapstructure:"volume_type"`
	// The number of I/O operations per second that the volume is provisioned for.
	// Only for types that are provisioned, such as `io1`, and required there.
	IOPS int64 `mapstructure:"iops"`
}

// VolumeTypes are the types of volumes that a cloud has.
type VolumeTypes []string

// Check fails when name, given as option, is none of the types. Empty is the
// cloud's default.
func (t VolumeTypes) Check(option, name string) error { return CheckOneOf(option, name, t...) }

// CheckScratchRoot wants the root device among the mapped devices of an image
// that inherits none. option is what the mappings were given as.
func (c *Config) CheckScratchRoot(option string, devices []string) error {
	if !c.FromScratch {
		return nil
	}
	if len(devices) == 0 {
		return fmt.Errorf("%s is required with from_scratch", option)
	}
	bare := func(name string) string { return strings.TrimPrefix(name, "/dev/") }
	isRoot := func(name string) bool { return bare(name) == bare(c.RootDeviceName) }
	if c.RootDeviceName != "" && !slices.ContainsFunc(devices, isRoot) {
		return fmt.Errorf("%s has no device_name %s, which is root_device_name", option, c.RootDeviceName)
	}
	return nil
}
