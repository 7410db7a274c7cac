package chroot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/command"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/transfer"
)

// A root without a shell is unpacked by programs of the host, which set the owner, mode
// and times of /dev, or create nodes in it. They get a copy of /dev. The mount that
// commands need is made on top of the copy before the first command in the root.

// mountNow makes a mount, or a copy of its source if it is postponed.
func (m *MountedRoot) mountNow(extra ExtraMount) error {
	m.postponedMu.Lock()
	defer m.postponedMu.Unlock()
	if !m.isForLater(extra) {
		return m.mountBelow(extra)
	}
	var err error
	if extra.CopyFirst {
		err = m.mountCopy(extra)
	} else {
		err = m.mountBelow(extra)
	}
	if err == nil {
		m.postponed = append(m.postponed, extra)
	}
	return err
}

// isForLater reports whether a mount must be made, or made again, before the first command
// in the root.
func (m *MountedRoot) isForLater(extra ExtraMount) bool {
	if extra.CopyFirst {
		return !m.hasShell()
	}
	for _, other := range m.postponed {
		if strings.HasPrefix(filepath.Clean(extra.Target), filepath.Clean(other.Target)+"/") {
			return true
		}
	}
	return false
}

// hasShell reports whether commands can run in the root.
func (m *MountedRoot) hasShell() bool {
	in, err := m.open()
	if err != nil {
		return false
	}
	defer in.Close()
	f, err := in.Open(command.Shell, unix.O_PATH, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// mountPostponed makes the mounts that were postponed, once the root has a shell.
func (m *MountedRoot) mountPostponed() error {
	m.postponedMu.Lock()
	defer m.postponedMu.Unlock()
	for len(m.postponed) > 0 && m.hasShell() {
		extra := m.postponed[0]
		err := m.mountBelow(extra)
		if extra.Optional && (errors.Is(err, ErrNoMountPoint) || errors.Is(err, ErrNoFileSystem)) {
			m.keeper.log("warning: going on without %s: %v", extra.Target, err)
			err = nil
		}
		if err != nil {
			return extra.explain(err, m.path)
		}
		m.postponed = m.postponed[1:]
	}
	return nil
}

// mountCopy mounts a tmpfs with copies of the source's directories, links and device
// nodes.
func (m *MountedRoot) mountCopy(extra ExtraMount) error {
	empty := ExtraMount{Type: "tmpfs", Source: "tmpfs", Target: extra.Target, Options: []string{"nosuid,noexec,mode=755"}}
	if err := m.mountBelow(empty); err != nil {
		return err
	}
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.Close()
	top, err := in.Open(extra.Target, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer top.Close()
	var source unix.Stat_t
	if err := unix.Stat(extra.Source, &source); err != nil {
		return &os.PathError{Op: "stat", Path: extra.Source, Err: err}
	}
	return transfer.CopyNodes(extra.Source, rootfs.ProcPath(top), source.Dev)
}
