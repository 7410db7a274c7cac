package osc

import (
	"context"
	"errors"
	"fmt"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Publication tells that the image stays where it was made: the API copies within
// a region only. The region must be one that the API has.
func (c *Cloud) Publication(ctx context.Context, facts bake.Facts) (bake.Publication, error) {
	if err := errors.Join(c.checkDevices(facts), c.checkSpeed(facts)); err != nil {
		return bake.Publication{}, err
	}
	if c.opts.SkipRegionValidation {
		return bake.Publication{}, nil
	}
	return bake.Publication{}, c.checkRegion(ctx)
}

// checkDevices fails when machines of the image would have more volumes than a VM
// can have.
func (c *Cloud) checkDevices(facts bake.Facts) error {
	var inherited []api.BlockDeviceMappingImage
	c.mu.Lock()
	if c.source != nil && facts.Source != nil && c.source.ImageId == string(facts.Source.ID) {
		inherited = dataMappings(*c.source)
	}
	c.mu.Unlock()
	if n := 1 + len(c.dataMappings(inherited)); n > maxVolumes {
		return fmt.Errorf("omi_block_device_mappings and the source's devices are %d, its root included, but a VM can have %d volumes",
			n, maxVolumes)
	}
	return nil
}

// checkSpeed fails when IOPS are wanted of a root volume that takes none.
func (c *Cloud) checkSpeed(facts bake.Facts) error {
	rootType := c.opts.RootVolumeType
	if rootType == "" && facts.Source != nil {
		rootType = facts.Source.Root.Type
	}
	if c.opts.RootVolumeIOPS != 0 && rootType != io1 {
		return fmt.Errorf("root_volume_iops is %d, but the root volume is %s: only io1 takes it", c.opts.RootVolumeIOPS, rootType)
	}
	return nil
}
