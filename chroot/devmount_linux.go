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
func (m *MountedRoot) mountNow(submount Submount) error {
	m.postponedMu.Lock()
	defer m.postponedMu.Unlock()
	if !m.isForLater(submount) {
		return m.mountBelow(submount)
	}
	var err error
	if submount.CopyFirst {
		err = m.mountCopy(submount)
	} else {
		err = m.mountBelow(submount)
	}
	if err == nil {
		m.postponed = append(m.postponed, submount)
	}
	return err
}

// isForLater reports whether a mount must be made, or made again, before the first command
// in the root.
func (m *MountedRoot) isForLater(submount Submount) bool {
	if submount.CopyFirst {
		return !m.hasShell()
	}
	for _, other := range m.postponed {
		if strings.HasPrefix(filepath.Clean(submount.Target), filepath.Clean(other.Target)+"/") {
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
		submount := m.postponed[0]
		err := m.mountBelow(submount)
		if submount.Optional && (errors.Is(err, ErrNoMountPoint) || errors.Is(err, ErrNoFileSystem)) {
			m.keeper.log("warning: going on without %s: %v", submount.Target, err)
			err = nil
		}
		if err != nil {
			return submount.explain(err, m.path)
		}
		m.postponed = m.postponed[1:]
	}
	return nil
}

// mountCopy mounts a tmpfs with copies of the source's directories, links and device
// nodes.
func (m *MountedRoot) mountCopy(submount Submount) error {
	empty := Submount{Type: "tmpfs", Source: "tmpfs", Target: submount.Target, Options: []string{"nosuid,noexec,mode=755"}}
	if err := m.mountBelow(empty); err != nil {
		return err
	}
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.Close()
	top, err := in.Open(submount.Target, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer top.Close()
	var source unix.Stat_t
	if err := unix.Stat(submount.Source, &source); err != nil {
		return &os.PathError{Op: "stat", Path: submount.Source, Err: err}
	}
	return transfer.CopyNodes(submount.Source, rootfs.ProcPath(top), source.Dev)
}
