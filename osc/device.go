package osc

import (
	"regexp"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// rootDevice is the only name that the API takes for an image's root device.
const rootDevice = "/dev/sda1"

// dataDevice matches the names that the API accepts for all other devices.
var dataDevice = regexp.MustCompile(`^/dev/(sd|xvd)[b-z][a-z]?$`)

// firstDisk matches the names that users give to the root device instead of /dev/sda1.
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

// sameDevice reports whether two names are of one place on a VM: /dev/sdf and
// /dev/xvdf are.
func sameDevice(a, b string) bool { return kernelName(a) == kernelName(b) }

// kernelName is the name that the kernel gives a device asked for under this name.
func kernelName(name string) string {
	if letters, ok := strings.CutPrefix(name, "/dev/sd"); ok {
		return "/dev/xvd" + letters
	}
	return name
}
