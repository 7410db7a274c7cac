package transfer

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
)

// CopyNodes copies the directories, links and device nodes in a directory of the host on
// one file system. It leaves out regular files, sockets, and entries that vanish.
func CopyNodes(from, to string, dev uint64) error {
	entries, err := os.ReadDir(from)
	for _, entry := range entries {
		if err := copyNode(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name()), dev); err != nil {
			return err
		}
	}
	return rootfs.IgnoreMissing(err)
}

func copyNode(from, to string, dev uint64) error {
	var st unix.Stat_t
	err := unix.Lstat(from, &st)
	if err != nil {
		return rootfs.IgnoreMissing(err)
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
		return CopyNodes(from, to, dev)
	}
	return nil
}

func copyLink(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return rootfs.IgnoreMissing(err)
	}
	return os.Symlink(target, to)
}
