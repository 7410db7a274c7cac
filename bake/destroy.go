package bake

import (
	"context"
	"errors"
)

// Destroy deletes an image that a build made, and then the snapshots made for it, except
// those that another image has come to use. A resource that is gone already is no error.
// The cloud may be that of any region.
func Destroy(ctx context.Context, cloud Cloud, p Product) error {
	waits := DefaultWaits()
	u := &undoer{cloud: settled(cloud, waits.Settling, nil), waits: waits}
	home := u.cloud.In(p.Region)
	if err := u.deregister(ctx, home, p.Image); err != nil {
		return err
	}
	var errs []error
	for _, id := range p.Snapshots {
		_, err := u.deleteUnused(ctx, home, p.Image, id)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
