package osc

import (
	"context"
	"fmt"
	"slices"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// everybody is the group of all accounts.
const everybody = "all"

// Publish shares the image and the snapshots made for it. Each has its own options: sharing an
// image does not share its snapshots.
func (c *Cloud) Publish(ctx context.Context, spec bake.PublishSpec) error {
	return c.unsettledImage(ctx, spec.Image, c.publish(ctx, spec))
}

func (c *Cloud) publish(ctx context.Context, spec bake.PublishSpec) error {
	if err := c.share(ctx, spec.Image, permissions(c.config.OMIAccountIDs, c.config.GlobalPermission)); err != nil {
		return err
	}
	wanted := permissions(c.config.SnapshotUsers, slices.Contains(c.config.SnapshotGroups, everybody))
	for _, id := range spec.Snapshots {
		if wanted == nil {
			return nil
		}
		_, err := updateSnapshot.call(ctx, c.client, api.UpdateSnapshotRequest{
			SnapshotId:                string(id),
			PermissionsToCreateVolume: api.PermissionsOnResourceCreation{Additions: wanted},
		})
		if err != nil {
			return fmt.Errorf("cannot share snapshot %s: %w", id, err)
		}
	}
	return nil
}

// permissions are those of some accounts, or of everybody; nil if of nobody.
func permissions(accounts []string, global bool) *api.PermissionsOnResource {
	if len(accounts) == 0 && !global {
		return nil
	}
	return &api.PermissionsOnResource{AccountIds: optionalSlice(accounts), GlobalPermission: optional(global)}
}

// share gives permissions to launch an image.
func (c *Cloud) share(ctx context.Context, id bake.ImageID, with *api.PermissionsOnResource) error {
	if with == nil {
		return nil
	}
	_, err := updateImage.call(ctx, c.client, api.UpdateImageRequest{
		ImageId: string(id), PermissionsToLaunch: &api.PermissionsOnResourceCreation{Additions: with},
	})
	if err != nil {
		return fmt.Errorf("cannot share image %s: %w", id, err)
	}
	return nil
}

// Unguard does nothing: Outscale has no protection against an image's deletion.
func (c *Cloud) Unguard(context.Context, bake.ImageID) error { return nil }
