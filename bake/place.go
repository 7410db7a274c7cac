package bake

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// place is the mounted root.
type place struct {
	Mounted
	disk Disk
	// gone unmounts it, with everything below it.
	gone *armed
}

// prepare finds the disk in the kernel and has the user's commands work on it.
func (b *build) prepare(ctx context.Context, a attachment) (Disk, error) {
	b.report.Step("Waiting for the device of %s", a.volume)
	disk, err := b.find(ctx, a)
	if err != nil {
		return Disk{}, err
	}
	b.report.Detail("device %s", disk)
	if err := b.machine.Settle(ctx, disk.Node); err != nil {
		return Disk{}, err
	}
	commands, err := b.plan.PreMount(disk)
	if err != nil {
		return Disk{}, err
	}
	for _, command := range commands {
		if err := b.shell(ctx, "pre_mount_commands", command); err != nil {
			return Disk{}, err
		}
		if err := b.machine.Settle(ctx, disk.Node); err != nil {
			return Disk{}, err
		}
	}
	return disk, b.done(ctx, "prepare device")
}

// find waits for the device no longer than a kernel may take. A name that the user gave
// is the disk's, if it leads there.
func (b *build) find(ctx context.Context, a attachment) (Disk, error) {
	ctx, cancel := context.WithTimeout(ctx, b.waits.Device)
	defer cancel()
	node, err := b.machine.Find(ctx, disk.Query{
		Volume: string(a.volume), Device: string(a.name), Bytes: a.sizeGiB << 30, Before: a.before,
	})
	if err != nil || b.plan.Device == "" {
		return Disk{Node: node, Name: node}, err
	}
	return Disk{Node: node, Name: b.machine.Called(ctx, b.plan.Device, node)}, nil
}

// shell runs one of the user's commands on the host.
func (b *build) shell(ctx context.Context, option, command string) error {
	b.report.Step("Running on the host: %s", command)
	err := b.machine.Shell(ctx, command, func(line string) { b.report.Detail("%s", line) })
	if err != nil {
		return fmt.Errorf("%s: %w", option, err)
	}
	return nil
}

// mount mounts the root partition.
func (b *build) mount(ctx context.Context, a attachment, disk Disk) (place, error) {
	spec, err := b.root(ctx, disk.Node)
	if err != nil {
		return place{}, err
	}
	if b.plan.GrowRoot {
		if err := b.growPartition(ctx, disk.Node, spec); err != nil {
			return place{}, err
		}
	}
	spec.Path, err = b.plan.MountPath(filepath.Base(string(disk.Name)))
	if err != nil {
		return place{}, err
	}
	spec.PassEnvironment = b.plan.PassEnvironment
	b.report.Step("Mounting %s on %s", spec.Device, spec.Path)
	root, err := b.machine.Record(ctx, spec)
	if err != nil {
		return place{}, err
	}
	p := place{disk: disk}
	p.gone, err = b.arm(b.scaffold, act{
		Kind: actMount, Volume: a.volume, Host: a.host, Node: spec.Device, Path: spec.Path, Root: &root, Before: a.before,
	})
	if err != nil {
		return place{}, err
	}
	p.Mounted, err = b.machine.Mount(ctx, spec)
	if err != nil {
		return place{}, err
	}
	p.gone.answered(func(*act) {})
	if b.plan.GrowRoot {
		if err := b.machine.GrowFileSystem(spec); err != nil {
			return place{}, fmt.Errorf("grow_root_filesystem: %w", err)
		}
	}
	return p, b.done(ctx, "mount root")
}

// root finds what to mount as the root. It warns if that may be something else.
func (b *build) root(ctx context.Context, device DevicePath) (chroot.MountSpec, error) {
	found, err := b.machine.Root(ctx, device, disk.Choice{
		Partition: b.plan.Partition, Path: b.plan.NVMePath, Options: b.plan.MountOptions, Source: !b.plan.FromScratch,
	})
	if found.Warning != "" {
		b.report.Warn("this may not be the root: %s", found.Warning)
	}
	return chroot.MountSpec{Device: found.Device, Type: found.Type, Options: found.Options}, err
}

// growPartition makes room for the root before it is mounted; its file system
// follows when it is.
func (b *build) growPartition(ctx context.Context, device DevicePath, root chroot.MountSpec) error {
	grown, err := b.machine.GrowPartition(ctx, device, root)
	if err != nil {
		return fmt.Errorf("grow_root_filesystem: %w", err)
	}
	if grown {
		b.report.Detail("%s has grown to the end of the disk", root.Device)
	}
	return nil
}

// furnish makes the root fit to work in. Nothing of it needs an undoing of its
// own: leaving the root unmounts what lies below it, and copied files go with
// the volume when the build fails.
func (b *build) furnish(ctx context.Context, root place) error {
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
	return b.done(ctx, "furnish root")
}

// mountBelow makes one of the further mounts. The build goes without an optional one
// if the kernel does not have its type, or there is no directory to mount it on.
func (b *build) mountBelow(ctx context.Context, root place, mount chroot.ExtraMount) error {
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

// provision lets the user's provisioners at it.
func (b *build) provision(ctx context.Context, from basis, root place) error {
	b.announceLabels(ctx, root)
	b.report.Step("Provisioning in %s", root.Path())
	if err := b.plan.Provision(ctx, Workplace{Facts: from.Facts, Root: root.Mounted, Device: root.disk.Name}); err != nil {
		return err
	}
	return b.done(ctx, "provision")
}

// finish does what is left to do in the root while it is as provisioners had it,
// but for their uploads.
func (b *build) finish(ctx context.Context, root place) error {
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
	return b.done(ctx, "finish root")
}

// leave makes the disk ready to be photographed: the image's own files in their
// place, nothing mounted, everything written.
func (b *build) leave(ctx context.Context, root place) error {
	b.report.Step("Unmounting %s", root.Path())
	if err := root.PutBack(ctx); err != nil {
		return err
	}
	if err := b.warnOfLabels(ctx, root); err != nil {
		return err
	}
	if err := b.machine.Leave(ctx, root.Path()); err != nil {
		return err // undoing would not mind a disk that is not written
	}
	if err := root.gone.Undo(ctx); err != nil {
		return err
	}
	if err := b.machine.Flush(root.disk.Node); err != nil {
		return err
	}
	return b.done(ctx, "unmount root")
}
