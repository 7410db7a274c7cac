package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/disk/devnode"
	"github.com/packer-chroot/packer-plugin-chroot/disk/inotify"
)

// pollEvery is the polling interval of a wait without events of inotify.
const pollEvery = 100 * time.Millisecond

// WaitNode waits until one of the paths is the node of a block device whose size can be
// read, and returns it. Earlier candidates are preferred. The wait ends with ctx; the
// error then has the reason for each candidate.
func WaitNode(ctx context.Context, candidates ...string) (string, error) {
	if len(candidates) == 0 {
		return "", errors.New("cannot wait for a device node: no path was given")
	}
	var found string
	var lacks []string
	err := await(ctx, dirs(candidates), func() bool {
		found, lacks = firstDevice(candidates)
		return found != ""
	})
	if err != nil {
		return "", fmt.Errorf("no device node: %s: %w", strings.Join(lacks, ", "), err)
	}
	return found, nil
}

// firstDevice examines each candidate once.
func firstDevice(candidates []string) (found string, lacks []string) {
	for _, c := range candidates {
		err := isDevice(c)
		if err == nil {
			return c, nil
		}
		lacks = append(lacks, fmt.Sprintf("%s (%v)", c, err))
	}
	return "", lacks
}

func dirs(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = filepath.Dir(p)
	}
	return out
}

// await calls done until it returns true: at once, after every change in the directories,
// and at intervals. If ctx ends before, it returns the cause.
func await(ctx context.Context, dirs []string, done func() bool) error {
	w, err := inotify.New()
	if err != nil {
		w = nil // none is left: polling is enough
	} else {
		defer w.Close()
		defer context.AfterFunc(ctx, func() { w.Close() })()
	}
	for {
		// Watches are set before done is called, so that no change in between is missed.
		watch(w, dirs)
		if done() {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		pause(ctx, w)
	}
}

// watch watches the directories, or their nearest existing parents.
func watch(w *inotify.Watcher, dirs []string) {
	if w == nil {
		return
	}
	for _, dir := range dirs {
		for dir != "/" && dir != "." {
			if info, err := os.Stat(dir); err == nil && info.IsDir() {
				break
			}
			dir = filepath.Dir(dir)
		}
		// A directory that cannot be watched is polled.
		_ = w.Add(dir, inotify.Create|inotify.MovedTo|inotify.Attrib)
	}
}

// pause returns after an event, after pollEvery, or with ctx.
func pause(ctx context.Context, w *inotify.Watcher) {
	if w != nil && w.SetReadDeadline(time.Now().Add(pollEvery)) == nil {
		_, err := w.Read()
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) {
			return
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(pollEvery):
	}
}

// Settle waits until every partition of the device's table has its node. On an ordinary
// host these appear by themselves; a kernel that lacks a partition is informed of it, and
// in a container whose /dev lacks the nodes they are created.
// Call it after everything that may have changed the table: attaching, or a command of
// the user.
func Settle(ctx context.Context, device string) error {
	device, err := filepath.EvalSymlinks(device)
	if err != nil {
		return fmt.Errorf("cannot wait for partitions: %w", err)
	}
	t, err := ReadDevice(device)
	if err != nil {
		return err
	}
	if err := tellKernel(device, t); err != nil {
		return err
	}
	if err := devnode.Sync(device); err != nil {
		return err
	}
	for _, p := range t.Partitions {
		if err := settlePartition(ctx, device, p.Number); err != nil {
			return fmt.Errorf("partition %d of %s has no node: %w", p.Number, device, err)
		}
	}
	return nil
}

// tellKernel informs the kernel if it lacks a partition of the table.
func tellKernel(device string, t Table) error {
	have, err := kernelPartitions(device)
	if err != nil {
		return err
	}
	for _, p := range t.Partitions {
		if h, ok := have[p.Number]; !ok || h.start != p.Start {
			return SyncPartitions(device)
		}
	}
	return nil
}

// settlePartition waits until the node exists and is the kernel's partition: for a moment
// after a change of the table it can be the previous one.
func settlePartition(ctx context.Context, device string, n int) error {
	node := PartitionPath(device, n)
	var lack error
	err := await(ctx, []string{filepath.Dir(node)}, func() bool {
		lack = isPartition(device, node, n)
		return lack == nil || devnode.Refused(lack)
	})
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w: %w", node, lack, err)
	case lack != nil:
		return fmt.Errorf("%s: %w", node, lack)
	}
	return nil
}

// isPartition returns an error unless the node is that of the kernel's partition n.
func isPartition(device, node string, n int) error {
	have, err := kernelPartitions(device)
	if err != nil {
		return err
	}
	if err := isDevice(node); err != nil {
		return explained(err, node)
	}
	dev, err := number(node)
	if err != nil {
		return err
	}
	if have[n].number != dev {
		return fmt.Errorf("it is device %s, and the partition is %q", dev, have[n].number)
	}
	return nil
}

// explained adds the remedy to the error of opening a node that a container refuses.
func explained(err error, node string) error {
	var st unix.Stat_t
	if unix.Stat(node, &st) != nil {
		return err
	}
	return devnode.Explain(err, st.Rdev)
}
