package chroot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/command"
)

// A root without a shell is unpacked by programs of the host, which set the owner, mode
// and times of /dev, or create nodes in it. They get a copy of it. The mount that
// commands in the root need is made on top of the copy before the first of them.

// mountNow makes a mount, or a copy of what it shows if its time is later.
func (m *Mounted) mountNow(extra ExtraMount) error {
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

// isForLater reports whether a mount has to be made, or made again, before the first
// command in the root.
func (m *Mounted) isForLater(extra ExtraMount) bool {
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
func (m *Mounted) hasShell() bool {
	in, err := m.open()
	if err != nil {
		return false
	}
	defer in.close()
	f, err := in.open(command.Shell, unix.O_PATH, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// mountPostponed makes the mounts that were postponed, once the root has a shell.
func (m *Mounted) mountPostponed() error {
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
func (m *Mounted) mountCopy(extra ExtraMount) error {
	empty := ExtraMount{Type: "tmpfs", Source: "tmpfs", Target: extra.Target, Options: []string{"nosuid,noexec,mode=755"}}
	if err := m.mountBelow(empty); err != nil {
		return err
	}
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.close()
	top, err := in.open(extra.Target, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer top.Close()
	var source unix.Stat_t
	if err := unix.Stat(extra.Source, &source); err != nil {
		return &os.PathError{Op: "stat", Path: extra.Source, Err: err}
	}
	return copyNodes(extra.Source, procPath(top), source.Dev)
}

// copyNodes copies what a directory holds on one file system. What vanishes meanwhile
// is left out, and so are regular files and sockets.
func copyNodes(from, to string, dev uint64) error {
	entries, err := os.ReadDir(from)
	for _, entry := range entries {
		if err := copyNode(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name()), dev); err != nil {
			return err
		}
	}
	return ignoreMissing(err)
}

func copyNode(from, to string, dev uint64) error {
	var st unix.Stat_t
	err := unix.Lstat(from, &st)
	if err != nil {
		return ignoreMissing(err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = unix.Mkdir(to, 0o700)
	case unix.S_IFLNK:
		return copyLink(from, to)
	case unix.S_IFCHR, unix.S_IFBLK:
		err = unix.Mknod(to, st.Mode, int(st.Rdev))
	default:
		return nil
	}
	if err == nil {
		err = unix.Lchown(to, int(st.Uid), int(st.Gid))
	}
	if err == nil {
		err = unix.Chmod(to, st.Mode&0o7777)
	}
	if err != nil {
		return &os.PathError{Op: "copy", Path: from, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Dev == dev {
		return copyNodes(from, to, dev)
	}
	return nil
}

func copyLink(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return ignoreMissing(err)
	}
	return os.Symlink(target, to)
}
