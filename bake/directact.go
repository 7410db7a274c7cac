package bake

import (
	"context"
	"errors"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// diskAct is the block server of a direct disk, with its device.
type diskAct struct {
	call
	DiskRecord
}

func (diskAct) kind() string { return "direct disk" }

// String implements act.
func (a diskAct) String() string { return "disk " + a.Name }

func (a diskAct) check(build BuildID) error { return named(a.Name == diskName(build)) }

// removal returns nothing, because the disk ends with the build's processes.
func (diskAct) removal([]act) string { return "" }

func (a diskAct) undo(ctx context.Context, u *undoer, _ *entry) error {
	return nothingIf(!a.Answered, u.machine.CloseDisk(ctx, a.DiskRecord))
}

func (a diskAct) undoInherited(ctx context.Context, u *undoer, _ *entry) error {
	return u.machine.CloseDisk(ctx, a.DiskRecord)
}

// directMountAct is the mount of the root from a direct disk.
type directMountAct struct {
	mounting
	Disk DiskRecord `json:"disk"`
}

func (directMountAct) kind() string { return "direct mount" }

func (a directMountAct) check(build BuildID) error {
	if err := named(a.Disk.Name == diskName(build)); err != nil {
		return err
	}
	return a.mounting.check(build)
}

// longestLeave is how long leaving the root of a failed build may take before its block server
// is killed: a server that is stopped would block it for ever.
const longestLeave = 30 * time.Second

// undo unmounts the root. Its content is not used any more.
func (a directMountAct) undo(ctx context.Context, u *undoer, _ *entry) error {
	within, stop := context.WithTimeout(ctx, longestLeave)
	defer stop()
	err := a.leave(within, u)
	if err == nil || within.Err() == nil || ctx.Err() != nil {
		return nothingIf(!a.Answered, err)
	}
	u.report.Detail("leaving %s takes longer than %s: its disk is aborted", a.Path, longestLeave)
	if aborted := u.machine.AbortDisk(ctx, a.Disk); aborted != nil {
		return errors.Join(err, aborted)
	}
	return nothingIf(!a.Answered, a.leave(ctx, u))
}

// leave unmounts the root. Data that could not be written is lost with its disk.
func (a directMountAct) leave(ctx context.Context, u *undoer) error {
	if err := u.machine.Leave(ctx, a.Path); !errors.Is(err, chroot.ErrNotWritten) {
		return err
	}
	return nil
}

// undoInherited unmounts the root, if it is mounted from the disk of the build. The disk is
// aborted first, so that nothing waits for a block server without an owner.
func (a directMountAct) undoInherited(ctx context.Context, u *undoer, _ *entry) error {
	device, err := u.machine.FindDisk(ctx, a.Disk.Name)
	if err == nil {
		err = u.machine.AbortDisk(ctx, a.Disk)
	}
	if err != nil {
		return err
	}
	err = a.reclaim(ctx, u, string(device))
	if errors.Is(err, chroot.ErrNotClaimed) && device == "" {
		u.report.Warn("%v", err) // a mount without its disk prevents no removal
		return nil
	}
	if errors.Is(err, chroot.ErrNotWritten) {
		return nil
	}
	return err
}
