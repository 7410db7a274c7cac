package ebsdirect

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// fill writes the blocks of the base that were not changed.
func (u *Upload) fill(ctx context.Context) error {
	if u.HasParent || u.Base == nil {
		return nil
	}
	indexes, err := u.unchanged(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	next := make(chan int64)
	for range min(u.client.Parallel(), len(indexes)) {
		group.Go(func() error { return u.copyEach(ctx, next) })
	}
	group.Go(func() error {
		defer close(next)
		for _, index := range indexes {
			select {
			case next <- index:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	return group.Wait()
}

// unchanged lists the blocks of the base that were not changed.
func (u *Upload) unchanged(ctx context.Context) (all []int64, err error) {
	for from := int64(0); from >= 0; {
		indexes, next, err := u.Base.list(ctx, from, u.Base.page, u.Base.known())
		if err != nil {
			return nil, u.Base.cannotList(err)
		}
		u.mu.Lock()
		for _, index := range indexes {
			if _, written := u.sums[index]; !written && !u.left[index] {
				all = append(all, index)
			}
		}
		u.mu.Unlock()
		from = next
	}
	return all, nil
}

// copyEach copies blocks of the base. A block of zeros is written if the snapshot may be encrypted.
func (u *Upload) copyEach(ctx context.Context, indexes <-chan int64) error {
	data := make([]byte, block.Size)
	for index := range indexes {
		sum, err := u.Base.read(ctx, index, data)
		if err != nil {
			return err
		}
		if err := u.Write(ctx, Block{Index: index, Sum: sum, Data: data, Zero: block.IsZero(data), Present: true, Equal: true}); err != nil {
			return err
		}
	}
	return nil
}
