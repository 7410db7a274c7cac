package osc

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// The API's limits of a volume.
const (
	maxSizeGiB    = 14901
	maxIOPS       = 13000
	maxIOPSPerGiB = 300
)

// VolumeType implements bake.Cloud.
func (c *Cloud) VolumeType(name string) bake.VolumeType {
	return bake.VolumeType{Name: cmp.Or(name, "gp2"), TakesIOPS: name == io1, NeedsIOPS: name == io1}
}

// maxVolumes is how many volumes a VM can have, its root included.
const maxVolumes = 40

// checkVolume returns an error if a volume exceeds the API's limits. Zero and empty values are
// unknown, or left to the API.
func checkVolume(what, volumeType string, sizeGiB, iops int64) error {
	switch {
	case volumeType != "" && !slices.Contains(kind.VolumeTypes, volumeType):
		return fmt.Errorf("%s has the volume_type %q, but must be one of %s", what, volumeType, strings.Join(kind.VolumeTypes, ", "))
	case sizeGiB < 0 || sizeGiB > maxSizeGiB:
		return fmt.Errorf("%s has the volume_size %d, which is not from 1 to %d GiB", what, sizeGiB, maxSizeGiB)
	case iops < 0 || iops > maxIOPS:
		return fmt.Errorf("%s has iops %d, which is not from 1 to %d", what, iops, maxIOPS)
	case sizeGiB > 0 && iops > sizeGiB*maxIOPSPerGiB:
		return fmt.Errorf("%s has iops %d, which is more than %d for each of %d GiB", what, iops, maxIOPSPerGiB, sizeGiB)
	}
	return nil
}
