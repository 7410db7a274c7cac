package osc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Publication reports whether the image stays where it was made: the API copies within
// a region only. The region must be one that the API has.
func (c *Cloud) Publication(ctx context.Context, facts bake.Facts) (bake.Publication, error) {
	if err := errors.Join(c.checkDevices(facts), c.checkRootVolume(facts)); err != nil {
		return bake.Publication{}, err
	}
	if err := c.checkSnapshots(ctx); err != nil {
		return bake.Publication{}, err
	}
	if c.config.SkipRegionValidation {
		return bake.Publication{}, nil
	}
	return bake.Publication{}, c.checkRegion(ctx)
}

// checkDevices fails when machines of the image would have more volumes than a VM
// can have.
func (c *Cloud) checkDevices(facts bake.Facts) error {
	var inherited []api.BlockDeviceMappingImage
	if source := detailsOf(facts.Source); source != nil {
		inherited = furtherMappings(*source)
	}
	if n := 1 + len(c.mergedMappings(inherited)); n > maxVolumes {
		return fmt.Errorf("omi_block_device_mappings and the source's devices are %d, its root included, but a VM can have %d volumes",
			n, maxVolumes)
	}
	return nil
}

// checkSnapshots fails if a snapshot of the user's block devices cannot be used.
func (c *Cloud) checkSnapshots(ctx context.Context) error {
	var ids []string
	for _, m := range c.config.OMIBlockDeviceMappings {
		if m.SnapshotID != "" && !slices.Contains(ids, m.SnapshotID) {
			ids = append(ids, m.SnapshotID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	found, err := c.readSnapshots(ctx, &api.FiltersSnapshot{SnapshotIds: &ids})
	if err != nil && !isRefusal(err, (*refusal).notFound) {
		return fmt.Errorf("cannot read the snapshots of omi_block_device_mappings: %s: %w", strings.Join(ids, ", "), err)
	}
	var errs []error
	for _, m := range c.config.OMIBlockDeviceMappings {
		if err := m.checkSnapshot(found); err != nil {
			errs = append(errs, fmt.Errorf("omi_block_device_mappings: device %s: %w in region %s", m.DeviceName, err, c.client.Region()))
		}
	}
	return errors.Join(errs...)
}

// checkSnapshot fails if the mapping's snapshot is none of those that were found, or of
// no use.
func (m BlockDevice) checkSnapshot(found []api.Snapshot) error {
	if m.SnapshotID == "" {
		return nil
	}
	at := slices.IndexFunc(found, func(s api.Snapshot) bool { return s.SnapshotId == m.SnapshotID })
	if at < 0 {
		return fmt.Errorf("snapshot_id is %s, which does not exist, or is not shared with this account,", m.SnapshotID)
	}
	switch s := found[at]; {
	case s.State != api.SnapshotStateCompleted:
		return fmt.Errorf("snapshot_id is %s, whose state is %q, and must be completed,", m.SnapshotID, s.State)
	case m.VolumeSize != 0 && m.VolumeSize < int64(s.VolumeSize):
		return fmt.Errorf("volume_size is %d GiB, but snapshot %s has %d GiB", m.VolumeSize, m.SnapshotID, s.VolumeSize)
	}
	return nil
}
