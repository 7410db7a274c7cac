package disk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	// udevControl exists while udevd runs, and udevQueue while it has events to handle;
	// both are part of systemd's udev, and of eudev.
	udevControl, udevQueue = "udev/control", "udev/queue"
	// linkGrace is how long after the node udev's link may appear before udev is seen to
	// be at work; linkLimit is the limit of the whole wait.
	linkGrace, linkLimit = 300 * time.Millisecond, 5 * time.Second
)

// Called returns the name to use for an attached disk: the requested one, such as
// /dev/sdf, if that is a link to the disk's node, as the udev rules of Amazon Linux
// create one; otherwise the node. It waits a moment for such a link, and longer while
// udev is at work.
func Called(ctx context.Context, requested, node string) string {
	return here.called(ctx, requested, node)
}

func (h host) called(ctx context.Context, requested, node string) string {
	if requested == "" || requested == node {
		return node
	}
	ctx, cancel := context.WithTimeout(ctx, linkLimit)
	defer cancel()
	begun, called := time.Now(), node
	// However the wait ends, the node can be used.
	_ = await(ctx, []string{filepath.Dir(requested)}, func() bool {
		if leads(requested, node) {
			called = requested
			return true
		}
		return time.Since(begun) >= linkGrace && !h.udevWorks()
	})
	return called
}

// udevWorks reports whether udev is still handling events.
func (h host) udevWorks() bool {
	for _, file := range []string{udevControl, udevQueue} {
		if _, err := os.Stat(filepath.Join(h.run, file)); err != nil {
			return false
		}
	}
	return true
}

// leads reports whether a path is a link to a node.
func leads(path, node string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSymlink == 0 {
		return false
	}
	target, err := filepath.EvalSymlinks(path)
	return err == nil && target == node
}

// CheckName returns an error if a device cannot be attached under a name because
// something in /dev has it already.
func CheckName(name string) error {
	info, err := os.Lstat(name)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return taken(name, info)
}

// taken returns an error that describes the file with a device name.
func taken(name string, info os.FileInfo) error {
	if info.Mode()&os.ModeSymlink == 0 {
		return fmt.Errorf("%s is taken: this host has a device of that name", name)
	}
	target, err := os.Readlink(name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(name); os.IsNotExist(err) {
		return fmt.Errorf("%s is a link to %s, which does not exist: an earlier build may have left it; remove it, or choose another name", name, target)
	}
	return fmt.Errorf("%s is taken: it is a link to %s", name, target)
}
