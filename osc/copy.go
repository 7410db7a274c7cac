package osc

import (
	"context"
	"fmt"
	"slices"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Copy asks for a copy of an image of this region: the API has no others. Neither
// does it take a client token, so before it is asked a second time the copy is
// looked for.
func (c *Cloud) Copy(ctx context.Context, spec bake.CopySpec) (bake.ImageID, error) {
	if spec.Encrypted || spec.KMSKeyID != "" {
		return "", fmt.Errorf("cannot copy image %s: Outscale does not encrypt images", spec.Source)
	}
	req := api.CreateImageRequest{
		SourceImageId:    optional(string(spec.Source)),
		SourceRegionName: optional(spec.SourceRegion),
		ImageName:        optional(spec.Name),
		Description:      optional(spec.Description),
	}
	key := imageKey{string(spec.Source), spec.Name}
	made, err := c.createImage(ctx, req, c.begun.Again(key), func(ctx context.Context) (*api.Image, error) { return c.copyOf(ctx, key) })
	if err != nil {
		return "", fmt.Errorf("cannot copy image %s as %q: %w", spec.Source, spec.Name, err)
	}
	c.mu.Lock()
	c.copied[string(spec.Source)] = made.ImageId
	c.mu.Unlock()
	return bake.ImageID(made.ImageId), nil
}

// copyOf is the copy that an earlier try made, nil if there is none.
func (c *Cloud) copyOf(ctx context.Context, key imageKey) (*api.Image, error) {
	found, err := c.FindCopies(ctx, bake.ImageID(key.of), key.name)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	img, err := c.readImage(ctx, string(found[0]))
	return &img, err
}

// FindCopied lists nothing: an image lists its snapshots while it is pending.
func (c *Cloud) FindCopied(context.Context, bake.ImageID) ([]bake.SnapshotID, error) { return nil, nil }

// FindCopies lists the account's images of the name, without the image itself: the API does not
// name the source of a copy.
func (c *Cloud) FindCopies(ctx context.Context, source bake.ImageID, name string) ([]bake.ImageID, error) {
	named, err := c.Named(ctx, name)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(named, func(id bake.ImageID) bool { return id == source }), nil
}
