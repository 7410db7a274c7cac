package oapi

import (
	"regexp"
	"strings"
)

// rootDevice is the root device name of every image.
const rootDevice = "/dev/sda1"

// dataDevice matches the names of the other devices, as the API's description defines them.
var dataDevice = regexp.MustCompile(`^/dev/(sd|xvd)[b-z][a-z]?$`)

func isDevice(name string) bool { return name == rootDevice || dataDevice.MatchString(name) }

// diskName returns the same name for /dev/sdf and /dev/xvdf, which are one device.
func diskName(device string) string {
	return strings.Replace(device, "/dev/xvd", "/dev/sd", 1)
}
