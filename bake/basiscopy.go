package bake

import (
	"context"
	"fmt"
)

// copyBasis copies the source image of a direct build into the account, or waits for the copy that
// another build is making. A copy that stays for later builds is not undone any more when it is
// complete.
func (b *build) copyBasis(ctx context.Context, from preflight) (preflight, error) {
	wanted := *from.basis.Copy
	copied, ready := b.pendingCopy(ctx, wanted.Pending)
	if !ready {
		var err error
		if copied, err = b.copyOfSource(ctx, from, wanted); err != nil {
			return from, err
		}
	}
	if copied.Root.Snapshot == "" {
		return from, fmt.Errorf("cannot start from image %s: the root device %q of its copy %s has no snapshot",
			from.Source.ID, copied.RootDevice, copied.ID)
	}
	from.basis.Read, from.basis.Parent = copied.Root.Snapshot, copied.Root.Snapshot
	from.volume.Snapshot = copied.Root.Snapshot
	return from, nil
}

// copyOfSource makes the copy.
func (b *build) copyOfSource(ctx context.Context, from preflight, wanted SourceCopy) (Image, error) {
	group := scaffold
	if wanted.Keep {
		group = sourceCopies
	}
	copied, err := b.copyImage(ctx, group, from.Host.Region, CopySpec{
		Build: b.plan.Build, Source: from.Source.ID, SourceRegion: from.Host.Region, Name: sourceCopyName(b.plan.Build),
		ImageTags: wanted.Tags, SnapshotTags: wanted.Tags, Shared: from.Source.Snapshots,
		Encrypted: wanted.Encrypted, KMSKeyID: wanted.KMSKeyID,
	})
	if err == nil && wanted.Keep {
		b.leaveOut(sourceCopies)
	}
	return copied, err
}

// pendingCopy waits for a copy that another build is making. It reports whether the copy can be used:
// the other build may fail.
func (b *build) pendingCopy(ctx context.Context, id ImageID) (copied Image, ready bool) {
	if id == "" {
		return Image{}, false
	}
	b.report.Detail("waiting for %s, which another build is making", id)
	err := b.watch(ctx, b.waits.Copy, pendingWait, fmt.Sprintf("image %s", id), func(ctx context.Context) (seen observation, err error) {
		copied, seen, err = observeImage(ctx, b.cloud, id, func(Image) error { return nil })
		return seen, err
	})
	if err != nil {
		b.report.Detail("%s cannot be used: %v", id, err)
	}
	return copied, err == nil
}
