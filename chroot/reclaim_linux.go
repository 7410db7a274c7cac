package chroot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/blockdev"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/cgroup"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/hostdir"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/mounttable"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/procfs"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/registration"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
)

// Record returns the information that Reclaim needs about a root that is about to be
// mounted.
func (c *Client) Record(ctx context.Context, spec MountSpec) (RootRecord, error) {
	return callRecord.Call(ctx, c, spec)
}

// Reclaim leaves a root whose keeper is gone, as Leave does, and removes the directories
// created for it. It returns nil if the root is not mounted any more. It does not touch a
// later mount there, or one of another boot. The error wraps ErrNotClaimed if the root is
// not mounted from the claimed disk. left are the messages about directories that stay.
func (c *Client) Reclaim(ctx context.Context, r RootRecord, claim Claim) (left []string, err error) {
	left, err = callReclaim.Call(ctx, c, reclaimArgs{r, claim})
	if err != nil {
		return left, fmt.Errorf("cannot reclaim %s: %w", r.Path, err)
	}
	return left, nil
}

// reclaimArgs is a root to leave, and the evidence that it is the build's.
type reclaimArgs struct {
	Root  RootRecord
	Claim Claim
}

var callRecord = operation("record", func(_ context.Context, _ request, spec MountSpec) (RootRecord, error) {
	return recordOf(spec)
})

var callReclaim = operation("reclaim", func(ctx context.Context, req request, r reclaimArgs) ([]string, error) {
	return req.keeper.reclaim(ctx, r.Root, r.Claim)
})

// recordOf returns the record of a root that this process is going to mount.
func recordOf(spec MountSpec) (r RootRecord, err error) {
	r = RootRecord{Path: filepath.Clean(spec.Path), Made: hostdir.Missing(spec.Path), Keeper: os.Getpid(), Known: registration.Known()}
	if r.Device, err = filepath.EvalSymlinks(spec.Device); err != nil {
		return r, err
	}
	block, err := blockdev.At(r.Device)
	if err != nil {
		return r, err
	}
	r.Number, r.Count = block.Number, block.Count
	if r.Boot, err = procfs.BootID(); err != nil {
		return r, err
	}
	r.Group, _ = cgroup.Own() // without one there are no commands' groups either
	r.Since, err = procfs.StartTime(r.Keeper)
	return r, err
}

// reclaim leaves a root that another keeper has mounted, unless the machine was booted
// since. That keeper may still be leaving it.
func (k *Keeper) reclaim(ctx context.Context, r RootRecord, claim Claim) (left []string, err error) {
	boot, err := procfs.BootID()
	if err != nil {
		return nil, err
	}
	if boot != r.Boot || r.Device == "" {
		return r.leaveDirs(), nil
	}
	if err := k.awaitKeeper(ctx, r); err != nil {
		return nil, err
	}
	there, err := r.mounted()
	if err != nil {
		return nil, err
	}
	if there == "" {
		k.kill(&MountedRoot{keeper: k, path: r.Path, groups: r.groups()})
		return r.removeYoung(claim.Since), nil
	}
	if err := r.claimed(claim); err != nil {
		return nil, err
	}
	m := &MountedRoot{keeper: k, path: r.Path, real: there, device: r.Device, block: r.block(), made: r.Made, groups: r.groups(), known: r.Known}
	if k.at(r.Path) != nil {
		return nil, errors.New("it is this keeper's own")
	}
	k.kill(m)
	k.add(m)
	return nil, k.Leave(ctx, m.path)
}

// groups returns the cgroups of commands that the keeper has left.
func (r RootRecord) groups() []*cgroup.Group {
	if r.Group == "" {
		return nil
	}
	return cgroup.LeftIn(r.Group, r.Keeper, r.Since)
}

// mounted returns the path without links on which the root is mounted. It is empty if the
// root is not mounted. A mount over it is an error, because it is not the build's.
func (r RootRecord) mounted() (string, error) {
	path, err := filepath.EvalSymlinks(r.Path)
	if err != nil {
		return "", rootfs.IgnoreMissing(err)
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(path))
	if err != nil {
		return "", err
	}
	ours, top := false, false
	for _, m := range mounts {
		if m.Mountpoint == path {
			top = r.isOf(m)
			ours = ours || top
		}
	}
	switch {
	case top:
		return path, nil
	case ours:
		return "", errors.New("something else is mounted over it")
	}
	return "", nil
}

// isOf reports whether a mount is of the recorded device. Some file systems, such as btrfs,
// have device numbers of their own; their mounts name the node.
func (r RootRecord) isOf(m *mountinfo.Info) bool {
	if r.Number == 0 {
		return false
	}
	if number := mounttable.Device(m); number == r.Number {
		return r.block().Same(blockdev.Numbered(number))
	}
	source, err := blockdev.At(m.Source)
	return err == nil && (r.block().Same(source) || m.FSType == "btrfs" && blockdev.ShareBtrfs(r.Number, source.Number) && r.block().Same(blockdev.Numbered(r.Number)))
}

func (r RootRecord) block() blockdev.Identity {
	return blockdev.Identity{Number: r.Number, Count: r.Count}
}
