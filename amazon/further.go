package amazon

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// checkFurther returns an error if the source belongs to another account and has a further device
// with a snapshot that this account may not use: sharing an image does not share its snapshots.
// RegisterImage would refuse it at the end.
func (c imagePlan) checkFurther(ctx context.Context) error {
	source, account := c.source, c.host.Account
	if source == nil || account == "" || aws.ToString(source.OwnerId) == account {
		return nil
	}
	needed := c.furtherOf(source)
	if len(needed) == 0 {
		return nil
	}
	found, err := c.client.snapshotsAmong(ctx, snapshotIDs(needed))
	if hasCode(err, codeUnauthorized) {
		c.logf("whether the snapshots of %s may be used is not known: %v", nameOf(*source), err)
		return nil
	}
	if err != nil {
		return c.client.cannot(err, "tell whether the snapshots of source image %s may be used", nameOf(*source))
	}
	for _, m := range needed {
		if !slices.ContainsFunc(found, func(s types.Snapshot) bool { return aws.ToString(s.SnapshotId) == m.SnapshotID }) {
			return fmt.Errorf("source image %s of account %s has the device %s of snapshot %s, which is %w in region %s, or not shared with this account: "+
				"its owner must share the snapshot too, or leave the device out with no_device in ami_block_device_mappings",
				nameOf(*source), aws.ToString(source.OwnerId), m.DeviceName, m.SnapshotID, bake.ErrNotFound, c.client.Region())
		}
	}
	return nil
}

// furtherOf returns the source's devices beside the root that the image has of it, as far as
// they are made of snapshots. Those of the user's mappings are checked otherwise.
func (c imagePlan) furtherOf(source *types.Image) []BlockDevice {
	return slices.DeleteFunc(c.mergedMappings(source, c.rootName()), func(m BlockDevice) bool {
		_, given := find(c.config.AMIBlockDeviceMappings, m.DeviceName)
		return given || m.SnapshotID == ""
	})
}

func snapshotIDs(mappings []BlockDevice) (ids []string) {
	for _, m := range mappings {
		if !slices.Contains(ids, m.SnapshotID) {
			ids = append(ids, m.SnapshotID)
		}
	}
	return ids
}
