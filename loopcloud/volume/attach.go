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

// busyGrace is how long a device may stay open before it counts as in use: udev
// and blkid look into every device that was written, for a moment.
const busyGrace = 500 * time.Millisecond

// AttachVolume makes a volume a block device and answers its node. The name is
// the one asked for, /dev/sdf or /dev/xvdf or without /dev; the naming decides which
// one it gets. Until the volume is detached the nodes of its partitions follow its
// table. It wraps state.ErrDeviceTaken when the name exists and state.ErrBusy when
// the volume is attached; nothing is left of an attachment that fails.
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

// follow names a new loop device, and follows its partitions from now on.
func (s *Store) follow(l loop, id string, name asked) (*follower, error) {
	// The device was free a moment ago: nodes that it has by now are leftovers of
	// one whose file someone else took away.
	if err := removeNodes(l); err != nil {
		return nil, err
	}
	dev, err := deviceOf(l.path)
	if err != nil {
		return nil, err
	}
	named, err := s.naming.claim(id, name, dev)
	if err != nil {
		return nil, err
	}
	f, err := newFollower(l, named, s.log)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followers[l.path] = f
	return f, nil
}

// DetachVolume takes a volume's device and all its nodes away. While the device is
// mounted or otherwise open it wraps state.ErrBusy, says by whom, and changes
// nothing; with force the nodes go, and the device when its last user has gone. A
// volume that is not attached is no error.
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

// ReleaseAll takes away every device of this directory, whichever process made it,
// and files that were left unfinished. A device that is in use is let go, so that
// the kernel releases it when its last user has gone; the error says which it is
// and who uses it, and wraps state.ErrBusy.
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

// release takes a device away, with what follows it.
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

// release takes a loop device away: its partitions, its nodes, its file.
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

// releaseOpen does it on the open device. It is lazy when the device is still in
// use, which only force allows.
func releaseOpen(l loop, dev *os.File, force bool) (lazy bool, err error) {
	if !l.bound() {
		return false, nil // someone else was faster; what is there now is theirs
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

// claimDevice opens a loop device for this process alone, so that nobody can mount
// it any more. What is mounted fails at once, what is merely open after a while.
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

// removeNodes removes all names of a loop device, whoever made them.
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

// users are who keeps a device from being detached.
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
