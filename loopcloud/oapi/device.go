package oapi

import (
	"regexp"
	"strings"
)

// rootDevice is the name of every image's root device.
const rootDevice = "/dev/sda1"

// dataDevice is every other device's, as the API's description has it.
var dataDevice = regexp.MustCompile(`^/dev/(sd|xvd)[b-z][a-z]?$`)

func isDevice(name string) bool { return name == rootDevice || dataDevice.MatchString(name) }

// diskName is one name for /dev/sdf and /dev/xvdf, which are the same place.
func diskName(device string) string {
	return strings.Replace(device, "/dev/xvd", "/dev/sd", 1)
}
