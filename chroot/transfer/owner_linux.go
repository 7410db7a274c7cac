package transfer

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/hostdir"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
)

// Owner is the user who gets the files that the keeper, which is root, creates on the host
// for its plugin. The zero Owner is root.
type Owner struct{ UID, GID int }

// isRoot reports whether files stay as this process creates them.
func (o Owner) isRoot() bool { return o.UID == 0 }

// take makes the user the owner of an open file or directory that was just created. It
// uses the descriptor, because others may be able to rename entries of the directory.
func (o Owner) take(f *os.File) error {
	if o.isRoot() {
		return nil
	}
	return unix.Fchownat(int(f.Fd()), "", o.UID, o.GID, unix.AT_EMPTY_PATH)
}

// takeLink is take for a symbolic link that was just created.
func (o Owner) takeLink(to rootfs.Entry) error {
	if o.isRoot() {
		return nil
	}
	f, st, err := to.OpenPath()
	if err != nil {
		return err
	}
	defer f.Close()
	if st.Mode&unix.S_IFMT != unix.S_IFLNK || st.Uid != 0 {
		return unix.ESTALE // another file is in its place by now
	}
	return o.take(f)
}

// mode returns the mode of a copied file. A program of an image must not run with the
// rights of the user who downloads it, whoever starts it.
func (o Owner) mode(st *unix.Stat_t) uint32 {
	mode := st.Mode &^ unix.S_IFMT
	if !o.isRoot() && st.Mode&unix.S_IFMT == unix.S_IFREG {
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	return mode
}

// mkdirAll creates a directory and its parents if they are missing.
func (o Owner) mkdirAll(path string) error {
	made := hostdir.Missing(path)
	if err := os.MkdirAll(path, 0o755); err != nil || o.isRoot() {
		return err
	}
	var failed error
	for _, dir := range made {
		failed = errors.Join(failed, o.takeDir(dir))
	}
	return failed
}

// takeDir is take for a directory of root's. Only an empty one was just created.
func (o Owner) takeDir(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Uid != 0 {
		return err
	}
	return o.take(f)
}
