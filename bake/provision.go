package bake

import (
	"context"
	"fmt"
)

// provision runs the user's provisioners.
func (b *build) provision(ctx context.Context, from preflight, root mountedRoot) error {
	return b.plan.Provision(ctx, Workplace{Facts: from.Facts, Root: forProvisioners(ctx, root.Mounted), Device: root.disk.Name})
}

// finish removes uploads, and runs the user's last commands before the root is restored.
func (b *build) finish(ctx context.Context, root mountedRoot) error {
	if b.plan.CleanUploads {
		if err := root.RemoveUploads(ctx); err != nil {
			return fmt.Errorf("clean_uploads: %w", err)
		}
	}
	commands, err := b.plan.PreUnmount(root.disk, root.Path())
	if err != nil {
		return err
	}
	for _, command := range commands {
		if err := b.shell(ctx, "pre_unmount_commands", command); err != nil {
			return err
		}
	}
	b.listPackages(ctx, root, true)
	return nil
}
