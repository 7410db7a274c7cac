package osc

import (
	"context"
	"errors"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// unsettledImage marks a refusal of a changing call on an image that is shown. One that is not
// shown either is gone.
func (c *Cloud) unsettledImage(ctx context.Context, id bake.ImageID, err error) error {
	if !isUnsettled(err) {
		return err
	}
	if _, unread := c.readImage(ctx, string(id)); errors.Is(unread, bake.ErrNotFound) {
		return err
	}
	return unsettledIf(err, (*refusal).unsettled)
}

// unsettledIf marks a refusal that the predicate holds for as one that may be gone when the
// call is made again.
func unsettledIf(err error, holds func(*refusal) bool) error {
	if isRefusal(err, holds) {
		return bake.Unsettled(err)
	}
	return err
}
