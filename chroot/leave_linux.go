package chroot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/blockdev"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/holders"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/hostdir"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/mounttable"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/writeback"
	"github.com/packer-chroot/packer-plugin-chroot/disk/exclusive"
)

// retryAfter is the longest interval between two attempts while a root is in use.
const retryAfter = 50 * time.Millisecond

// Leave ends every process that uses the root which this keeper has mounted on the path,
// unmounts it with everything below it, and removes the directories created for it. It
// returns nil if this keeper has mounted nothing there.
//
// While the root stays in use, Leave retries for Options.Busy. Then it fails and names the
// holders; it never detaches a mount that is still in use, because the disk would not be
// flushed. It may be called again.
func (k *Keeper) Leave(ctx context.Context, path string) error {
	m := k.at(path)
	if m == nil {
		return nil
	}
	m.leaving.Lock()
	defer m.leaving.Unlock()
	if err := m.leave(ctx); err != nil {
		return fmt.Errorf("cannot leave %s: %w", m.path, err)
	}
	hostdir.Remove(m.made)
	k.removeGroups(m)
	k.forget(m)
	if m.lost != nil {
		return fmt.Errorf("%w to %s: %w", ErrNotWritten, m.device, m.lost)
	}
	return nil
}

// leave ends the holders, writes cached data, and unmounts. An error about data that was
// lost is recorded, and does not keep the root mounted.
func (m *MountedRoot) leave(ctx context.Context) error {
	m.probed = false
	m.unfreeze()
	m.lost = cmp.Or(m.lost, m.markers.Sync())
	if m.real == "" {
		return nil
	}
	mounted, err := mountinfo.Mounted(m.real)
	if err != nil {
		return rootfs.IgnoreMissing(err)
	}
	if mounted && !m.replaced() {
		if err := m.clear(ctx); err != nil {
			return err
		}
	}
	return m.keeper.retryBusy(ctx, m.mountCount, func() error { return m.unmount(ctx) })
}

// clear ends the holders, and writes cached data.
func (m *MountedRoot) clear(ctx context.Context) error {
	// From now on, unmounts in the root do not spread: otherwise a recursive bind mount of a
	// shared tree would unmount the host's mounts too.
	if err := unix.Mount("", m.real, "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil && !mounttable.NotMounted(err) {
		return err
	}
	if err := m.keeper.retryBusy(ctx, nil, func() error { return m.endHolders(ctx) }); err != nil {
		return err
	}
	if err := m.registrations().RemoveFormats(); err != nil {
		return err
	}
	lost, err := writeback.Sync(m.real)
	m.lost = cmp.Or(m.lost, lost)
	return err
}

// unfreeze thaws the root's file systems, which a provisioner may have frozen
// (fsfreeze(8)): a process that writes to a frozen one sleeps in the kernel, and the file
// system keeps its disk in use after it was unmounted.
func (m *MountedRoot) unfreeze() {
	const fithaw = 0xC0045878 // FITHAW of linux/fs.h
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(m.real))
	if err != nil || m.real == "" {
		return
	}
	for _, mount := range mounts {
		if mount.Mountpoint != m.real && (!mounttable.HasDisk(mount) || mount.Root != "/") {
			continue
		}
		fd, err := unix.Open(mount.Mountpoint, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if unix.IoctlSetInt(fd, fithaw, 0) == nil {
			m.keeper.log("thawed the file system on %s, which was frozen", mount.Mountpoint)
		}
		unix.Close(fd)
	}
}

// unmount unmounts everything, and verifies that the device is free. There may be new
// holders, or holders of a mount that was detached.
func (m *MountedRoot) unmount(ctx context.Context) error {
	if m.replaced() {
		m.keeper.log("what is mounted on %s by now is not this build's, and stays", m.path)
		return m.released()
	}
	err := m.tryUnmount()
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	return cmp.Or(m.endHolders(ctx), m.releaseKernel(), err)
}

// tryUnmount unmounts everything once.
func (m *MountedRoot) tryUnmount() error {
	err := m.clearPoints()
	if err == nil {
		err = m.unmountBelow()
	}
	if err == nil {
		err = m.released()
	}
	return err
}

// retryBusy calls try again while it returns EBUSY, within the keeper's time limit. If left
// is not nil, the limit restarts whenever the number that it returns has become smaller.
func (k *Keeper) retryBusy(ctx context.Context, left func() int, try func() error) error {
	limit := time.NewTimer(k.busy)
	defer limit.Stop()
	least := math.MaxInt
	for after := retryAfter / 25; ; after = min(2*after, retryAfter) {
		err := try()
		if err == nil || !errors.Is(err, unix.EBUSY) {
			return err
		}
		if left != nil {
			if n := left(); n < least {
				least = n
				limit.Reset(k.busy)
			}
		}
		select {
		case <-time.After(after):
		case <-limit.C:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// unmountBelow unmounts the root and everything below it, the deepest mounts first.
func (m *MountedRoot) unmountBelow() error { return m.unmountFound(mountinfo.PrefixFilter(m.real)) }

// unmountInside unmounts everything below the root, and not the root itself.
func (m *MountedRoot) unmountInside() error {
	return m.unmountFound(func(mount *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(mount.Mountpoint, m.real+"/"), false
	})
}

// unmountFound unmounts the mounts that a filter selects, until there are none.
func (m *MountedRoot) unmountFound(filter mountinfo.FilterFunc) error {
	for {
		mounts, err := mountinfo.GetMounts(filter)
		if err != nil || len(mounts) == 0 || m.replaced() {
			return err
		}
		if err := m.unmountAll(mounts); err != nil {
			return err
		}
	}
}

// unmountAll unmounts all mounts. One that is in use keeps only the mounts above it.
func (m *MountedRoot) unmountAll(mounts []*mountinfo.Info) error {
	var inUse error
	for _, mount := range mounttable.DeepestFirst(mounts) {
		switch err := mounttable.Unmount(mount.Mountpoint); {
		case err == nil || mounttable.NotMounted(err):
		case errors.Is(err, unix.EBUSY):
			inUse = cmp.Or(inUse, holders.Busy(mount.Mountpoint, m.holders))
		default:
			return &os.PathError{Op: "unmount", Path: mount.Mountpoint, Err: err}
		}
	}
	return inUse
}

// mountCount returns the number of mounts on the root and below it.
func (m *MountedRoot) mountCount() int {
	mounts, _ := mountinfo.GetMounts(mountinfo.PrefixFilter(m.real))
	return len(mounts)
}

// released returns an error if the kernel still uses the root's block devices. They may be
// mounted elsewhere, even in a namespace that this process cannot see.
func (m *MountedRoot) released() error {
	numbers, err := m.presentDevices()
	for device, number := range numbers {
		err = cmp.Or(m.releasedBy(device, number), err)
	}
	return err
}

// releasedBy returns an error if the kernel uses a block device.
func (m *MountedRoot) releasedBy(device string, number uint64) error {
	if err := blockdev.IgnoreGone(exclusive.Check(device)); !errors.Is(err, unix.EBUSY) {
		return err
	}
	return cmp.Or(mounttable.UnmountCopies(device, number, m.keeper.log), holders.Busy(device, func() []string {
		return append(mounttable.Describe(number), mounttable.DescribeOverlays(m.real)...)
	}))
}
