//go:generate packer-sdc mapstructure-to-hcl2 -type BlockDevice
//go:generate packer-sdc struct-markdown
package amazon

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// BlockDevice is an entry of ami_block_device_mappings.
type BlockDevice struct {
	builder.BlockDevice `mapstructure:",squash"`

	// Delete the volume when the instance is terminated. Defaults to `false`: the volume
	// remains, and is billed, until it is deleted.
	DeleteOnTermination bool `mapstructure:"delete_on_termination"`
	// Encrypt the volume. A snapshot that is not encrypted cannot become an encrypted
	// volume without `encrypt_boot`. Defaults to `false`: a volume is still encrypted if
	// its snapshot is, or if `encrypt_boot` is set.
	Encrypted bool `mapstructure:"encrypted"`
	// The KMS key of the root volume: an ID, an alias or an ARN. Requires `encrypted`.
	// Defaults to the key of the source AMI's root volume, or to the default key if that
	// has none. It is an error for other volumes, because EC2 accepts no key for them:
	// blank volumes are encrypted with the account's default key for EBS, and volumes from
	// a snapshot with the key of the snapshot or of `encrypt_boot`.
	KMSKeyID string `mapstructure:"kms_key_id"`
	// The provisioned throughput of a `gp3` volume in MiB/s. Defaults to the default of
	// AWS.
	Throughput int64 `mapstructure:"throughput"`
}

const mappingsOption = "ami_block_device_mappings"

// reservedForRoot are the names that EC2 keeps for root devices.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html
var reservedForRoot = regexp.MustCompile(`^(/dev/)?(sda1?|xvda)$`)

// isRoot reports whether a device will be the root device. The source's name for its root is not
// known yet.
func (c *Config) isRoot(device string) bool {
	if c.RootDeviceName == "" {
		return reservedForRoot.MatchString(device)
	}
	return sameDevice(device, c.RootDeviceName)
}

// deviceName matches the device names of a Linux instance; mappedName also matches the other names
// that EC2 accepts in an image.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html
var (
	deviceName = regexp.MustCompile(`^/dev/(sd|xvd|hd)[a-z]{1,2}([1-9]|1[0-5])?$`)
	mappedName = regexp.MustCompile(`^(/dev/)?(sd|xvd|hd)[a-z]{1,2}([1-9]|1[0-5])?$`)
)

var ephemeralName = regexp.MustCompile(`^ephemeral[0-9]+$`)

// checkMappings returns all errors in the block devices.
func (c *Config) checkMappings() []error {
	var errs []error
	var names []string
	for i, device := range c.AMIBlockDeviceMappings {
		if err := device.check(c.isRoot(device.DeviceName)); err != nil {
			errs = append(errs, fmt.Errorf("%s[%d]: %w", mappingsOption, i, err))
		}
		twin := func(name string) bool { return sameDevice(name, device.DeviceName) }
		if first := slices.IndexFunc(names, twin); first >= 0 {
			errs = append(errs, fmt.Errorf("%s[%d]: device_name %s is that of entry %d too", mappingsOption, i, device.DeviceName, first))
		}
		names = append(names, device.DeviceName)
	}
	return append(errs, c.CheckScratchRoot(mappingsOption, names))
}

// check returns the errors in a device; root says that it is the root's.
func (m BlockDevice) check(root bool) error {
	switch {
	case m.DeviceName == "":
		return errors.New("device_name is required")
	case !mappedName.MatchString(m.DeviceName):
		return fmt.Errorf("device_name is %q, but must be a name such as /dev/sdh or xvdh", m.DeviceName)
	case m.NoDevice:
		return m.checkAlone(root, "no_device", BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: m.DeviceName, NoDevice: true}})
	case m.VirtualName != "" && !ephemeralName.MatchString(m.VirtualName):
		return fmt.Errorf("virtual_name is %q, but must be ephemeral and a number, such as ephemeral0", m.VirtualName)
	case m.VirtualName != "":
		return m.checkAlone(root, "virtual_name", BlockDevice{
			BlockDevice: builder.BlockDevice{DeviceName: m.DeviceName, VirtualName: m.VirtualName}, DeleteOnTermination: m.DeleteOnTermination,
		})
	case root && m.SnapshotID != "":
		return errors.New("the root device cannot have a snapshot_id: its snapshot is what the build makes")
	case !root && m.VolumeSize == 0 && m.SnapshotID == "":
		return errors.New("volume_size is required without snapshot_id")
	case m.SnapshotID != "" && !snapshotID.MatchString(m.SnapshotID):
		return fmt.Errorf("snapshot_id is %q, but must be the id of a snapshot such as snap-e81d5881", m.SnapshotID)
	}
	return m.checkVolume(root)
}

// terminationWarnings names the instance store volumes that have an option of EBS
// volumes: an instance store volume never outlives its instance.
func (c *Config) terminationWarnings() []string {
	var warnings []string
	for i, device := range c.AMIBlockDeviceMappings {
		if device.VirtualName != "" && device.DeleteOnTermination {
			warnings = append(warnings, fmt.Sprintf("%s[%d]: delete_on_termination is ignored: %s is an instance store volume, "+
				"which is always gone with its instance", mappingsOption, i, device.VirtualName))
		}
	}
	return warnings
}

// checkAlone wants an option to stand alone beside device_name.
func (m BlockDevice) checkAlone(root bool, option string, alone BlockDevice) error {
	if root {
		return fmt.Errorf("the root device cannot have %s", option)
	}
	if m != alone {
		return fmt.Errorf("%s can be combined only with device_name", option)
	}
	return nil
}

// checkVolume returns the errors in the device's volume. The root's volume gets missing values
// from elsewhere.
func (m BlockDevice) checkVolume(root bool) error {
	if err := kind.VolumeTypes.Check("volume_type", m.VolumeType); err != nil {
		return err
	}
	if root && hardDisks[m.VolumeType] {
		return fmt.Errorf("volume_type is %s, but a root volume cannot be a hard disk", m.VolumeType)
	}
	if m.KMSKeyID != "" && !m.Encrypted {
		return errors.New("kms_key_id needs encrypted")
	}
	if m.KMSKeyID != "" && !root {
		return fmt.Errorf("kms_key_id is %q, but EC2 accepts a key only for the root device of an image: "+
			"remove it (or, if %s is the root device, set root_device_name)", m.KMSKeyID, m.DeviceName)
	}
	if err := checkKey("kms_key_id", m.KMSKeyID, ""); err != nil {
		return err
	}
	return wanted{volumeType: m.VolumeType, sizeGiB: m.VolumeSize, iops: m.IOPS, throughput: m.Throughput, inherits: root}.check()
}
