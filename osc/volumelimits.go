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

// wanted holds the options of a volume; zero and empty mean unknown, or left to the API.
type wanted struct {
	// prefix is of the names of the options: empty, or root_volume_.
	prefix, volumeType string
	sizeGiB, iops      int64
}

// rootPrefix is the prefix of the options of the root volume.
const rootPrefix = "root_volume_"

// name returns the name of an option: volume_type of a mapping is root_volume_type of the root.
func (w wanted) name(option string) string {
	if w.prefix == "" && option != "iops" {
		return "volume_" + option
	}
	return w.prefix + option
}

// check returns an error if the volume exceeds the API's limits.
func (w wanted) check() error {
	switch {
	case w.volumeType != "" && !slices.Contains(kind.VolumeTypes, w.volumeType):
		return fmt.Errorf("%s is %q, but must be one of %s", w.name("type"), w.volumeType, strings.Join(kind.VolumeTypes, ", "))
	case w.sizeGiB < 0 || w.sizeGiB > maxSizeGiB:
		return fmt.Errorf("%s is %d, but must be from 1 to %d GiB", w.name("size"), w.sizeGiB, maxSizeGiB)
	case w.iops < 0 || w.iops > maxIOPS:
		return fmt.Errorf("%s is %d, but must be from 1 to %d", w.name("iops"), w.iops, maxIOPS)
	case w.sizeGiB > 0 && w.iops > w.sizeGiB*maxIOPSPerGiB:
		return fmt.Errorf("%s is %d, but io1 may have %d for each of its %d GiB", w.name("iops"), w.iops, maxIOPSPerGiB, w.sizeGiB)
	}
	return nil
}

// checkRootVolume returns an error if the root volume, whose type and size may be those of the
// source's, exceeds the API's limits, or has IOPS that its type does not take.
func (c *Cloud) checkRootVolume(facts bake.Facts) error {
	w := wanted{prefix: rootPrefix, volumeType: c.config.RootVolumeType, sizeGiB: c.config.RootVolumeSize, iops: c.config.RootVolumeIOPS}
	if facts.Source != nil {
		w.volumeType = cmp.Or(w.volumeType, facts.Source.Root.Type)
		w.sizeGiB = cmp.Or(w.sizeGiB, facts.Source.Root.SizeGiB)
	}
	if w.iops != 0 && w.volumeType != io1 {
		return fmt.Errorf("root_volume_iops is %d, but the root volume is %s: only io1 takes it", w.iops, c.VolumeType(w.volumeType).Name)
	}
	return w.check()
}
