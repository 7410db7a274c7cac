//go:build linux

package volume

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/disk/inotify"
)

// follower keeps the partitions of an attached device, and their nodes, consistent with its
// partition table:
//
//	a tool that informs the kernel (parted, fdisk)   its nodes appear or disappear → so do ours
//	a tool that does not (sfdisk, dd)                it closes the device → the kernel is informed, then as above
//
// It opens the device for reading only, so it does not trigger itself, and it informs the kernel
// only of differences, so it does not disturb other users.
type follower struct {
	loop  loop
	nodes nodes
	log   *slog.Logger
	watch *inotify.Watcher

	mu    sync.Mutex
	ended bool
}

// newFollower creates the partitions and their nodes, and starts following them.
func newFollower(l loop, created nodes, log *slog.Logger) (*follower, error) {
	w, err := inotify.New()
	if err != nil {
		return nil, fmt.Errorf("cannot follow the partitions of %s: %w", l.path, err)
	}
	f := &follower{loop: l, nodes: created, log: log, watch: w}
	// Both nodes are watched: an event belongs to the node, not to the device.
	err = errors.Join(
		w.Add(devDir, inotify.Create|inotify.Delete),
		w.Add(l.path, inotify.CloseWrite),
		w.Add(created.base, inotify.CloseWrite),
	)
	if err == nil {
		f.sync()
		err = created.followPartitions()
	}
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	go f.run()
	return f, nil
}

// run handles events until the watcher is closed.
func (f *follower) run() {
	for {
		events, err := f.watch.Read()
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			f.log.Error("partitions are no longer followed", "device", f.nodes.base, "error", err)
			return
		}
		f.handle(events)
	}
}

// handle handles a batch of events at once.
func (f *follower) handle(events []inotify.Event) {
	written, parts := f.meaning(events)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || !written && !parts {
		return
	}
	if written {
		f.sync()
	}
	if err := f.nodes.followPartitions(); err != nil {
		f.log.Warn("partition nodes cannot be followed", "device", f.nodes.base, "error", err)
	}
}

// meaning reports whether the device was written and whether the kernel's partition nodes
// changed. After an overflow it reports both.
func (f *follower) meaning(events []inotify.Event) (written, parts bool) {
	prefix := filepath.Base(f.loop.path) + "p"
	for _, e := range events {
		switch {
		case e.Mask&inotify.Overflow != 0:
			return true, true
		case e.Path == devDir:
			parts = parts || strings.HasPrefix(e.Name, prefix)
		case e.Mask&inotify.CloseWrite != 0:
			written = true
		}
	}
	return written, parts
}

// sync informs the kernel of the partition table. A table or a partition that cannot be used is
// the responsibility of the device's user: the other partitions are created.
func (f *follower) sync() {
	if err := disk.SyncPartitions(f.loop.path); err != nil {
		f.log.Warn("partitions cannot be followed", "device", f.nodes.base, "error", err)
	}
}

// end calls release while nothing is followed. It stops following if release succeeds, and
// continues otherwise.
func (f *follower) end(release func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := release(); err != nil {
		return errors.Join(err, f.nodes.followPartitions())
	}
	f.ended = true
	return f.watch.Close()
}
