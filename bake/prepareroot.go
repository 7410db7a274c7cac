package bake

import (
	"context"
	"errors"
	"fmt"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// prepareRoot prepares the mounted root for provisioning. Nothing of it is an act of its own:
// leaving the root unmounts everything below it, and copied files are deleted with the
// volume if the build fails.
func (b *build) prepareRoot(ctx context.Context, root mountedRoot) error {
	commands, err := b.plan.PostMount(root.disk, root.Path())
	if err != nil {
		return err
	}
	for _, command := range commands {
		if err := b.shell(ctx, "post_mount_commands", command); err != nil {
			return err
		}
	}
	if b.plan.MountFstab {
		if err := b.mountFstab(ctx, root); err != nil {
			return err
		}
	}
	for _, mount := range b.plan.Mounts {
		if err := b.mountBelow(ctx, root, mount); err != nil {
			return fmt.Errorf("chroot_mounts: %w", err)
		}
	}
	if err := b.copyIn(ctx, root); err != nil {
		return err
	}
	b.announceMissingContexts(ctx, root)
	b.listPackages(ctx, root, false)
	return nil
}

// copyIn copies files into the root, and blocks its services if the user wants that.
func (b *build) copyIn(ctx context.Context, root mountedRoot) error {
	for _, file := range b.plan.CopyFiles {
		b.report.Detail("copying %s", file)
		if err := root.CopyIn(ctx, file); err != nil {
			return fmt.Errorf("copy_files: %w", err)
		}
	}
	if b.plan.BlockServices {
		b.report.Detail("blocking services")
		if err := root.BlockServices(ctx); err != nil {
			return fmt.Errorf("block_services: %w", err)
		}
	}
	return nil
}

// mountBelow makes one of the further mounts. The build continues without an optional one
// if the kernel does not have its type, or there is no directory to mount it on.
func (b *build) mountBelow(ctx context.Context, root mountedRoot, mount chroot.Submount) error {
	err := root.MountBelow(ctx, mount)
	if mount.Optional && (errors.Is(err, chroot.ErrNoFileSystem) || errors.Is(err, chroot.ErrNoMountPoint)) {
		b.report.Warn("going on without %s: %v", mount.Target, err)
		return nil
	}
	if err != nil {
		return err
	}
	b.report.Detail("mounted %s on %s", mount.Type, mount.Target)
	return nil
}
