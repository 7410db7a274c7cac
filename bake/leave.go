package bake

import "context"

// leave prepares the disk for the snapshot: the image's own files are put back, everything
// is unmounted and written to the disk.
func (b *build) leave(ctx context.Context, root mountedRoot) error {
	if err := root.PutBack(ctx); err != nil {
		return err
	}
	if err := b.warnOfMissingContexts(ctx, root); err != nil {
		return err
	}
	if err := b.machine.Leave(ctx, root.Path()); err != nil {
		return err // unlike here, undoing tolerates a disk that could not be written
	}
	if err := root.mount.Undo(ctx); err != nil {
		return err
	}
	return b.machine.Flush(root.disk.Node)
}

// removeVolume detaches and deletes the root volume.
func (b *build) removeVolume(ctx context.Context, a attachment, v volume) error {
	if err := a.attached.Undo(ctx); err != nil {
		return err
	}
	return v.created.Undo(ctx)
}
