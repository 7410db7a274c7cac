package osc

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// rootDevice is the only name that the API takes for an image's root device.
const rootDevice = "/dev/sda1"

// dataDevice is what the API takes for every other device.
var dataDevice = regexp.MustCompile(`^/dev/(sd|xvd)[b-z][a-z]?$`)

// firstDisk is what people call the root device where /dev/sda1 is meant.
var firstDisk = regexp.MustCompile(`^/dev/(sd|xvd)a1?$`)

// withDev turns xvdf into /dev/xvdf.
func withDev(name string) string {
	if name == "" || strings.HasPrefix(name, "/") {
		return name
	}
	return "/dev/" + name
}

// DeviceNames lists the kernel's names of disks that the API takes: /dev/xvdb to
// /dev/xvdz, then /dev/xvdba to /dev/xvdbz, which is more than the 40 volumes
// that a VM can have.
func (c *Cloud) DeviceNames() []bake.DeviceName {
	names := make([]bake.DeviceName, 0, 51)
	for l := 'b'; l <= 'z'; l++ {
		names = append(names, bake.DeviceName("/dev/xvd"+string(l)))
	}
	for l := 'a'; l <= 'z'; l++ {
		names = append(names, bake.DeviceName("/dev/xvdb"+string(l)))
	}
	return names
}

// sameDevice tells whether two names are of one place on a VM: /dev/sdf and
// /dev/xvdf are.
func sameDevice(a, b string) bool { return kernelName(a) == kernelName(b) }

// kernelName is the name that the kernel gives a device asked for under this name.
func kernelName(name string) string {
	if letters, ok := strings.CutPrefix(name, "/dev/sd"); ok {
		return "/dev/xvd" + letters
	}
	return name
}

// io1 is the only volume type whose IOPS the user provisions.
const io1 = "io1"

var ephemeral = regexp.MustCompile(`^ephemeral[0-9]+$`)

// check finds what the API would refuse in the mapping of a device that is not
// the root's.
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

// checkRoot finds what is wrong in the mapping of the root device, whose snapshot
// is the build's.
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

// checkVolume finds what the API would refuse in a mapping's volume.
func (m BlockDevice) checkVolume() error {
	if m.VolumeType == io1 && m.IOPS == 0 {
		return fmt.Errorf("iops is required for device %s, whose volume_type is io1", m.DeviceName)
	}
	if m.VolumeType != io1 && m.IOPS != 0 {
		return fmt.Errorf("iops is set for device %s, whose volume_type is not io1", m.DeviceName)
	}
	return checkVolume("device "+m.DeviceName, m.VolumeType, m.VolumeSize, m.IOPS)
}
