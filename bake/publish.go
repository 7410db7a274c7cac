package bake

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// publish makes the image available in all its regions, side by side. Only when it is
// available in all of them is it shared: an image that others have seen, or that has been
// protected, is hard to remove if a copy fails.
func (b *build) publish(ctx context.Context, from preflight, made Product) ([]Product, error) {
	all, err := b.copyAll(ctx, from, made.Image)
	if err != nil {
		return nil, err
	}
	if !from.publication.Passing {
		all = append(all, made)
	}
	slices.SortFunc(all, func(p, q Product) int { return cmp.Compare(p.Region, q.Region) })
	work, branch := errgroup.WithContext(ctx)
	for _, product := range all {
		work.Go(func() error { return b.handOver(branch, product, from.publication.Guarded) })
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	return all, nil
}

// handOver shares an available image, and protects it if guarded. The protection is written
// to the journal first: undoing would be refused otherwise, and must not end a protection
// that is not the build's.
func (b *build) handOver(ctx context.Context, p Product, guarded bool) error {
	if guarded {
		if err := b.guard(p.Image); err != nil {
			return fmt.Errorf("cannot protect image %s: %w", p.Image, err)
		}
	}
	return b.cloud.In(p.Region).Publish(ctx, PublishSpec{Image: p.Image, Snapshots: p.Snapshots})
}

// guardable is an act whose image can be protected from deregistration.
type guardable interface {
	act
	// guarded returns the act with a protected image, and reports whether its image is that.
	guarded(ImageID) (act, bool)
}

// guard notes in the journal that an image may be protected from now on.
func (b *build) guard(image ImageID) error {
	for _, e := range slices.Backward(b.ledger.Outstanding()) {
		a, ok := e.Act().act.(guardable)
		if !ok {
			continue
		}
		if guarded, its := a.guarded(image); its {
			if err := e.Extend(func(recorded) recorded { return recorded{guarded} }); err != nil {
				return err
			}
		}
	}
	return nil
}
