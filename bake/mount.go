package bake

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// rootSource is the file system of the root, and its mount point.
type rootSource = chroot.MountSpec

// mountedRoot is the mounted root.
type mountedRoot struct {
	Mounted
	disk  Disk
	mount armedMount
}

// findRoot chooses the partition of the root, grows it if the user wants that, and chooses
// its mount point.
func (b *build) findRoot(ctx context.Context, disk Disk) (rootSource, error) {
	spec, err := b.root(ctx, disk.Node)
	if err != nil {
		return rootSource{}, err
	}
	if b.plan.GrowRoot {
		if err := b.growUnmounted(ctx, disk.Node, spec); err != nil {
			return rootSource{}, err
		}
	}
	spec.Path, err = b.plan.MountPath(filepath.Base(string(disk.Name)))
	spec.PassEnvironment = b.plan.PassEnvironment
	return spec, err
}

// root finds the file system to mount as the root. It warns if that may be another one.
func (b *build) root(ctx context.Context, device DevicePath) (rootSource, error) {
	found, err := b.machine.Root(ctx, device, disk.Choice{
		Partition: b.plan.Partition, Path: b.plan.NVMePath, Options: b.plan.MountOptions, Source: !b.plan.FromScratch,
	})
	if found.Warning != "" {
		b.report.Warn("this may not be the root: %s", found.Warning)
	}
	return rootSource{Device: found.Device, Type: found.Type, Options: found.Options}, err
}

// growUnmounted extends the root's partition before the root is mounted. An ext4 in it grows too;
// other file systems grow after the mount, in mount.
func (b *build) growUnmounted(ctx context.Context, device DevicePath, root rootSource) error {
	grown, err := b.machine.GrowUnmounted(ctx, device, root)
	if err != nil {
		return fmt.Errorf("grow_root_filesystem: %w", err)
	}
	if grown {
		b.report.Detail("%s has grown to the end of the disk", root.Device)
	}
	return nil
}

// mount mounts the root.
func (b *build) mount(ctx context.Context, root rootDisk, disk Disk, spec rootSource) (mountedRoot, error) {
	record, err := b.machine.Record(ctx, spec)
	if err != nil {
		return mountedRoot{}, err
	}
	m := mountedRoot{disk: disk}
	m.mount, err = root.armMount(mounting{Node: spec.Device, Path: spec.Path, Root: &record})
	if err != nil {
		return mountedRoot{}, err
	}
	m.Mounted, err = b.machine.Mount(ctx, spec)
	if err != nil {
		return mountedRoot{}, err
	}
	m.mount.answered()
	if b.plan.GrowRoot {
		if err := b.machine.GrowMounted(spec); err != nil {
			return mountedRoot{}, fmt.Errorf("grow_root_filesystem: %w", err)
		}
	}
	return m, nil
}

// armedMount is the armed act of mounting the root.
type armedMount struct {
	*entry
	// answered notes that the root is mounted.
	answered func()
}

// mounting is the part of the act of mounting the root that does not depend on its disk.
type mounting struct {
	call
	// Node is mounted on Path. Another process needs Root to unmount it.
	Node string             `json:"node,omitempty"`
	Path string             `json:"path,omitempty"`
	Root *chroot.RootRecord `json:"root,omitempty"`
}

// String implements act.
func (a mounting) String() string { return fmt.Sprintf("mount of %s on %s", a.Node, a.Path) }

func (a mounting) removal([]act) string { return "run: sudo umount -R " + a.Path }

// inspection returns the instruction for inspecting the root.
func (a mounting) inspection() string {
	return fmt.Sprintf("To look at the root: sudo chroot %s /bin/sh", a.Path)
}

func (a mounting) check(BuildID) error {
	if a.Root == nil {
		return errUnnamed
	}
	return checkRoot(*a.Root)
}

// blockDevice matches the kernel's name of a block device.
var blockDevice = regexp.MustCompile(`^/dev/[A-Za-z0-9-]+$`)

func checkRoot(r chroot.RootRecord) error {
	if r.Device != "" && !blockDevice.MatchString(r.Device) {
		return fmt.Errorf("%q is not the name of a block device", r.Device)
	}
	for _, path := range r.Made {
		if path != r.Path && !strings.HasPrefix(r.Path, path+"/") {
			return fmt.Errorf("%q was not made for %q", path, r.Path)
		}
		if err := checkPath(path); err != nil {
			return err
		}
	}
	if r.Group != "" {
		if err := checkPath(r.Group); err != nil {
			return err
		}
	}
	return checkPath(r.Path)
}

// reclaim unmounts a root that another process has mounted, if it is mounted from the claimed
// disk; empty if the disk does not exist.
func (a mounting) reclaim(ctx context.Context, u *undoer, claimed string) error {
	left, err := u.machine.Reclaim(ctx, *a.Root, chroot.Claim{Disk: claimed, Since: u.since})
	for _, what := range left {
		u.report.Warn("%s", what)
	}
	return err
}

// mountAct is the mount of the root from a volume.
type mountAct struct {
	mounting
	// Volume is attached to Host. Before are the disks that existed before that.
	Volume VolumeID  `json:"volume,omitempty"`
	Before disk.Seen `json:"before,omitempty"`
	Host   HostID    `json:"host,omitempty"`
}

func (mountAct) kind() string { return "mount" }

// undo unmounts the root. Data that could not be written to its disk is reported, and is no
// reason to leave the disk attached: it is not used any more.
func (a mountAct) undo(ctx context.Context, u *undoer, _ *entry) error {
	err := u.machine.Leave(ctx, a.Path)
	if errors.Is(err, chroot.ErrNotWritten) {
		u.report.Warn("%v", err)
		err = nil
	}
	return nothingIf(!a.Answered, err)
}

// undoInherited unmounts the root, if it is mounted from the disk of the build's volume,
// which is found again.
func (a mountAct) undoInherited(ctx context.Context, u *undoer, _ *entry) error {
	v, err := u.attachedTo(ctx, a.Volume, a.Host)
	if err != nil {
		return err
	}
	claimed, attached := "", v != nil && v.Attach != Detached
	var notFound error
	if attached {
		claimed, notFound = a.findAgain(ctx, u, v)
	}
	err = a.reclaim(ctx, u, claimed)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, chroot.ErrNotClaimed) && !attached:
		u.report.Warn("%v", err) // a mount without its disk prevents no removal
		return nil
	}
	return errors.Join(err, notFound)
}

// longestFindAgain is how long the kernel may take to show a volume that was attached
// before.
const longestFindAgain = 20 * time.Second

// findAgain finds the disk of a volume.
func (a mountAct) findAgain(ctx context.Context, u *undoer, v *Volume) (string, error) {
	ctx, stop := context.WithTimeout(ctx, min(longestFindAgain, u.waits.Device))
	defer stop()
	found, err := u.machine.Find(ctx, disk.Query{
		Volume: string(v.ID), Device: string(v.Device), Bytes: v.SizeGiB << 30, Before: a.Before,
	})
	return string(found), err
}
