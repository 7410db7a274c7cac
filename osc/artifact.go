package osc

import (
	"context"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// destroy removes an image that a build made, and then its snapshot, which the
// image keeps from being deleted.
func (c *Cloud) destroy(ctx context.Context, made builder.Made) error {
	if err := c.Deregister(ctx, made.Image); err != nil {
		return err
	}
	return c.DeleteSnapshot(ctx, made.Snapshot)
}
