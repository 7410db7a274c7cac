package chroot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Record tells what Reclaim must know of a root that is about to be mounted.
func (c *Client) Record(ctx context.Context, spec MountSpec) (RootRecord, error) {
	return callRecord.Call(ctx, c, spec)
}

// Reclaim leaves a root whose keeper is gone, as Leave does, and removes the
// directories made for it. It returns nil if it is not mounted any more. What
// else is mounted there by now, or was after another boot, is not touched. The error
// wraps ErrNotClaimed if the root is not mounted from the claimed disk. left says which
// directories stay, and why.
func (c *Client) Reclaim(ctx context.Context, r RootRecord, claim Claim) (left []string, err error) {
	left, err = callReclaim.Call(ctx, c, reclaiming{r, claim})
	if err != nil {
		return left, fmt.Errorf("cannot reclaim %s: %w", r.Path, err)
	}
	return left, nil
}

// reclaiming is a root that is to be left, and what shows that it is the build's.
type reclaiming struct {
	Root  RootRecord
	Claim Claim
}

var callRecord = operation("record", func(_ context.Context, _ served, spec MountSpec) (RootRecord, error) {
	return recordOf(spec)
})

var callReclaim = operation("reclaim", func(ctx context.Context, s served, r reclaiming) ([]string, error) {
	return s.keeper.reclaim(ctx, r.Root, r.Claim)
})

// recordOf writes down a root that this process is going to mount.
func recordOf(spec MountSpec) (r RootRecord, err error) {
	r = RootRecord{Path: filepath.Clean(spec.Path), Made: missing(spec.Path), Keeper: os.Getpid(), Known: knownToKernel()}
	if r.Device, err = filepath.EvalSymlinks(spec.Device); err != nil {
		return r, err
	}
	block, err := deviceAt(r.Device)
	if err != nil {
		return r, err
	}
	r.Number, r.Count = block.Number, block.Count
	if r.Boot, err = bootID(); err != nil {
		return r, err
	}
	r.Group, _ = ownGroup() // without one there are no commands' groups either
	r.Since, err = startOf(r.Keeper)
	return r, err
}

// bootID is what the kernel calls the time since it was started.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// startOf is when a process was started: with its id, that is its alone. A process
// that has ended and was not waited for counts as none: it has no files open.
// https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html, fields 3 and 22.
func startOf(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// the second field is the program's name in parentheses, and may hold anything
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	if state := string(fields[0]); state == "Z" || state == "X" {
		return 0, os.ErrNotExist
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// reclaim leaves a root that another keeper mounted, unless the machine was booted
// since. That keeper may still be about to.
func (k *Keeper) reclaim(ctx context.Context, r RootRecord, claim Claim) (left []string, err error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if boot != r.Boot || r.Device == "" {
		return r.leaveDirs(), nil
	}
	if err := k.keeperEnded(ctx, r); err != nil {
		return nil, err
	}
	there, err := r.mounted()
	if err != nil {
		return nil, err
	}
	if there == "" {
		k.end(&Mounted{keeper: k, path: r.Path, groups: r.groups()})
		return r.removeYoung(claim.Since), nil
	}
	if err := r.claimed(claim); err != nil {
		return nil, err
	}
	m := &Mounted{keeper: k, path: r.Path, real: there, device: r.Device, block: r.block(), made: r.Made, groups: r.groups(), known: r.Known}
	if k.at(r.Path) != nil {
		return nil, errors.New("it is this keeper's own")
	}
	k.end(m)
	k.keep(m)
	return nil, k.Leave(ctx, m.path)
}

// groups finds the groups of commands that the keeper has left.
func (r RootRecord) groups() []*group {
	if r.Group == "" {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(r.Group, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil
	}
	return groupsIn(r.Group, groupsSince(r.Keeper, r.Since))
}

// mounted answers the path without links that the root is mounted on, and nothing if
// it is not. Something that is mounted over it is not this program's to remove.
func (r RootRecord) mounted() (string, error) {
	path, err := filepath.EvalSymlinks(r.Path)
	if err != nil {
		return "", ignoreMissing(err)
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

// isOf says whether a mount is of the recorded device. Some file systems, as btrfs,
// have device numbers of their own; their mounts name the node.
func (r RootRecord) isOf(m *mountinfo.Info) bool {
	if r.Number == 0 {
		return false
	}
	if number := deviceOf(m); number == r.Number {
		return r.block().is(blockDeviceOf(number))
	}
	source, err := deviceAt(m.Source)
	return err == nil && (r.block().is(source) || m.FSType == "btrfs" && sharesBtrfs(r.Number, source.Number) && r.block().is(blockDeviceOf(r.Number)))
}

// sharesBtrfs reports whether two block devices are of one mounted btrfs, whose mounts
// name either.
func sharesBtrfs(one, other uint64) bool {
	all, _ := filepath.Glob("/sys/fs/btrfs/*/devices")
	return slices.ContainsFunc(all, func(devices string) bool { return isAmong(devices, one) && isAmong(devices, other) })
}

// isAmong reports whether sysfs lists a block device in a directory.
func isAmong(dir string, number uint64) bool {
	want := fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number))
	return slices.ContainsFunc(namesIn(dir), func(name string) bool {
		dev, err := os.ReadFile(filepath.Join(dir, name, "dev"))
		return err == nil && strings.TrimSpace(string(dev)) == want
	})
}

func (r RootRecord) block() blockDevice { return blockDevice{r.Number, r.Count} }
