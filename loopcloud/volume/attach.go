//go:build linux

package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"golang.org/x/sys/unix"
)

// busyGrace is how long a device may stay open before it counts as in use: udev and blkid open
// every device for a moment after a write.
const busyGrace = 500 * time.Millisecond

// AttachVolume attaches a volume to a block device and returns its node. The name is /dev/sdf,
// /dev/xvdf, or either without /dev; the naming scheme decides the actual name. Until the volume
// is detached, the nodes of its partitions follow its partition table. An error wraps
// state.ErrDeviceTaken if the name exists, and state.ErrBusy if the volume is attached. A failed
// attachment leaves nothing behind.
func (s *Store) AttachVolume(id, name string) (string, error) {
	path, err := s.attach(id, name)
	if err != nil {
		return "", fmt.Errorf("cannot attach %s as %s: %w", id, name, err)
	}
	return path, nil
}

func (s *Store) attach(id, name string) (_ string, err error) {
	file, err := s.path("volumes", id)
	if err != nil {
		return "", err
	}
	asked, err := parseName(name)
	if err != nil {
		return "", err
	}
	err = eachLoop(is(file), func(l loop) error {
		return fmt.Errorf("its file is in use by %s: %w", l.path, state.ErrBusy)
	})
	if err != nil {
		return "", err
	}
	l, err := newLoop(file)
	if err != nil {
		return "", err
	}
	f, err := s.follow(l, id, asked)
	if err != nil {
		return "", errors.Join(err, release(l, false))
	}
	return f.nodes.base, nil
}

// follow names a new loop device and starts following its partitions.
func (s *Store) follow(l loop, id string, name asked) (*follower, error) {
	// The device was free before: its nodes are leftovers of a device whose file another process
	// detached.
	if err := removeNodes(l); err != nil {
		return nil, err
	}
	dev, err := deviceOf(l.path)
	if err != nil {
		return nil, err
	}
	created, err := s.naming.claim(id, name, dev)
	if err != nil {
		return nil, err
	}
	f, err := newFollower(l, created, s.log)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followers[l.path] = f
	return f, nil
}

// DetachVolume removes a volume's device and all its nodes. If the device is mounted or open, it
// changes nothing and returns an error that wraps state.ErrBusy and names the users of the
// device. With force it removes the nodes, and the kernel removes the device when its last user
// closes it. Detaching a volume that is not attached succeeds.
func (s *Store) DetachVolume(id string, force bool) error {
	file, err := s.path("volumes", id)
	if err == nil {
		err = eachLoop(is(file), func(l loop) error { return s.release(l, force) })
	}
	if err != nil {
		return fmt.Errorf("cannot detach %s: %w", id, err)
	}
	return nil
}

// ReleaseAll removes every device of this directory, of any process, and unfinished files. A
// device in use is detached lazily: the kernel releases it when its last user closes it. The
// error then names the device and its users, and wraps state.ErrBusy.
func (s *Store) ReleaseAll() error {
	errs := []error{sweep(filepath.Join(s.dir, "volumes")), sweep(filepath.Join(s.dir, "snapshots"))}
	found, err := loops(below(s.dir))
	errs = append(errs, err)
	for _, l := range found {
		err := s.release(l, false)
		if errors.Is(err, state.ErrBusy) {
			err = fmt.Errorf("%w; it is released when that ends", errors.Join(err, s.release(l, true)))
		}
		if err != nil {
			err = fmt.Errorf("cannot release the device of %s: %w", l.file, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// release removes a device and stops its follower.
func (s *Store) release(l loop, force bool) error {
	s.mu.Lock()
	f := s.followers[l.path]
	s.mu.Unlock()
	if f == nil {
		return release(l, force)
	}
	if err := f.end(func() error { return release(l, force) }); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.followers, l.path)
	return nil
}

// release removes the partitions, the nodes and the file of a loop device.
func release(l loop, force bool) error {
	dev, err := claimDevice(l, force)
	if err != nil {
		return err
	}
	lazy, err := releaseOpen(l, dev, force)
	if closeErr := dev.Close(); err == nil {
		err = closeErr
	}
	if err == nil && !lazy && !l.cleared() {
		err = fmt.Errorf("%s was opened meanwhile, and goes when it is closed: %w", l.path, state.ErrBusy)
	}
	return err
}

// releaseOpen releases an open device. It returns lazy if the device is still in use, which only
// force allows.
func releaseOpen(l loop, dev *os.File, force bool) (lazy bool, err error) {
	if !l.bound() {
		return false, nil // another process detached the file; the present one is not ours
	}
	err = disk.RemovePartitions(l.path)
	lazy = errors.Is(err, unix.EBUSY)
	switch {
	case lazy && !force:
		return true, errors.Join(fmt.Errorf("%w: %w", err, state.ErrBusy), disk.SyncPartitions(l.path))
	case !lazy && err != nil:
		return false, err
	}
	if err := removeNodes(l); err != nil {
		return lazy, err
	}
	return lazy || force, clearLoop(dev, lazy)
}

// claimDevice opens a loop device exclusively, so that it cannot be mounted any more. It fails at
// once if the device is mounted, and after a while if it is open.
func claimDevice(l loop, force bool) (*os.File, error) {
	if force {
		return os.Open(l.path)
	}
	for deadline := time.Now().Add(busyGrace); ; time.Sleep(10 * time.Millisecond) {
		dev, err := os.OpenFile(l.path, os.O_RDONLY|unix.O_EXCL, 0)
		if err != nil && !errors.Is(err, unix.EBUSY) {
			return nil, err
		}
		users, usersErr := usersOf(l, dev)
		if usersErr != nil {
			return nil, errors.Join(usersErr, closeFile(dev))
		}
		if dev != nil && len(users.all()) == 0 {
			return dev, nil
		}
		if err := closeFile(dev); err != nil {
			return nil, err
		}
		if len(users.mounts) > 0 || time.Now().After(deadline) {
			return nil, fmt.Errorf("%s is in use (%s): %w", l.path, users, state.ErrBusy)
		}
	}
}

func closeFile(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}

// removeNodes removes all names of a loop device, created by any process.
func removeNodes(l loop) error {
	found, err := nodesOf(l)
	if err != nil {
		return err
	}
	for _, n := range found {
		if err := n.remove(); err != nil {
			return err
		}
	}
	return nil
}

// users lists the users of a device that cannot be detached.
type users struct {
	mounts, processes []string
}

func (u users) all() []string { return append(append([]string(nil), u.mounts...), u.processes...) }

func (u users) String() string {
	if all := u.all(); len(all) > 0 {
		return strings.Join(all, ", ")
	}
	return "mounted in another mount namespace, or as swap or part of a RAID"
}
