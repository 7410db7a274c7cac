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

// follower keeps the partitions of an attached device, and their nodes, equal to
// its table, whoever changes it:
//
//	a tool that tells the kernel (parted, fdisk)   its nodes appear or go → ours do
//	one that cannot (sfdisk, dd)                   it closes the device   → the kernel is told, and so on
//
// It opens the device only to read, so it never wakes itself, and tells the kernel
// only of what differs, so it disturbs nobody.
type follower struct {
	loop  loop
	nodes nodes
	log   *slog.Logger
	watch *inotify.Watcher

	mu    sync.Mutex
	ended bool
}

// newFollower makes the partitions and their nodes, and follows them.
func newFollower(l loop, named nodes, log *slog.Logger) (*follower, error) {
	w, err := inotify.New()
	if err != nil {
		return nil, fmt.Errorf("cannot follow the partitions of %s: %w", l.path, err)
	}
	f := &follower{loop: l, nodes: named, log: log, watch: w}
	// Both nodes are watched: an event is the node's, not the device's.
	err = errors.Join(
		w.Add(devDir, inotify.Create|inotify.Delete),
		w.Add(l.path, inotify.CloseWrite),
		w.Add(named.base, inotify.CloseWrite),
	)
	if err == nil {
		f.sync()
		err = named.followPartitions()
	}
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	go f.run()
	return f, nil
}

// run goes on until the watcher is closed.
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

// handle does once what a batch of events asks for.
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

// meaning tells whether the device was written and whether the kernel's nodes of
// its partitions changed. After an overflow either may be so.
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

// sync tells the kernel of the table. A table that cannot be read, or has
// partitions that cannot be, is the device's user's matter: what can be is there.
func (f *follower) sync() {
	if err := disk.SyncPartitions(f.loop.path); err != nil {
		f.log.Warn("partitions cannot be followed", "device", f.nodes.base, "error", err)
	}
}

// end runs release with nothing followed meanwhile, and ends following when it
// succeeds. When it fails the partitions are followed on.
func (f *follower) end(release func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := release(); err != nil {
		return errors.Join(err, f.nodes.followPartitions())
	}
	f.ended = true
	return f.watch.Close()
}
