//go:generate packer-sdc struct-markdown
package builder

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// BlockDevice holds the options of a block device mapping that both clouds have.
type BlockDevice struct {
	// The name of the device in an instance of the image, such as `/dev/sdh` or `xvdh`.
	// Required for every mapping.
	DeviceName string `mapstructure:"device_name" required:"true"`
	// Omit this device of the source image from the new image. Defaults to `false`.
	NoDevice bool `mapstructure:"no_device"`
	// The ID of the snapshot that the volume is created from. By default the volume is
	// blank. It is an error for the root device, whose snapshot is created by the build.
	SnapshotID string `mapstructure:"snapshot_id"`
	// The name of an instance store volume, such as `ephemeral0`, that the device is mapped
	// to instead of an EBS or BSU volume. By default there is none.
	VirtualName string `mapstructure:"virtual_name"`
	// The size of the volume in GiB. Defaults to the size of the snapshot. Required without
	// `snapshot_id`. The root device has at least `root_volume_size`.
	VolumeSize int64 `mapstructure:"volume_size"`
	// The type of the volume, such as `gp2`, `io1` or `standard`. Defaults to
	// `root_volume_type` for the root device, and to the default of the cloud for others.
	// An unknown type is refused.
	VolumeType string `mapstructure:"volume_type"`
	// The provisioned IOPS (I/O operations per second) of the volume. Required for `io1`
	// and, in `amazon-chroot`, `io2`; in `amazon-chroot` also allowed for `gp3`. It is an
	// error for other types.
	IOPS int64 `mapstructure:"iops"`
}

// Root returns the root device of an image: this mapping, laid over the volume that the build has
// made. Its content is always the build's snapshot, and it is at least as large as that volume.
func (d BlockDevice) Root(name string, built bake.ImageSpec, rules func(volumeType string) bake.VolumeType) BlockDevice {
	d.DeviceName, d.SnapshotID = name, string(built.Snapshot)
	d.VolumeSize = max(d.VolumeSize, built.SizeGiB)
	d.VolumeType = cmp.Or(d.VolumeType, built.VolumeType)
	if d.VolumeType == built.VolumeType && rules(d.VolumeType).TakesIOPS {
		d.IOPS = cmp.Or(d.IOPS, built.IOPS)
	}
	return d
}

// VolumeTypes are the types of volumes that a cloud has.
type VolumeTypes []string

// Check fails when name, given as option, is none of the types. Empty is the
// cloud's default.
func (t VolumeTypes) Check(option, name string) error { return CheckOneOf(option, name, t...) }

// CheckScratchRoot returns an error if the root device is not among the mapped devices of an image
// from scratch. option is the name of the mappings' option.
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
