package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
)

// Uploads are the files and directories that were uploaded below the image's directories
// for temporary files, a directory after its content.
type Uploads struct {
	mu   sync.Mutex
	made []upload
	at   map[rootfs.Inode]int
}

// upload is one file or directory, in its state after the upload.
type upload struct {
	path string
	is   rootfs.Inode
	dir  bool
	size int64
	// changed is the time of the last change to the content.
	changed unix.Timespec
}

// temporary reports whether a path as it was given is below a directory for temporary
// files.
func temporary(name string) bool {
	name = path.Clean("/" + name)
	return strings.HasPrefix(name, "/tmp/") || strings.HasPrefix(name, "/var/tmp/")
}

// add adds a file that was created, or written again since.
func (u *Uploads) add(name string, f *os.File, made bool) {
	if !temporary(name) {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return // it stays
	}
	entry := upload{name, rootfs.InodeOf(&st), st.Mode&unix.S_IFMT == unix.S_IFDIR, st.Size, st.Mtim}
	u.mu.Lock()
	defer u.mu.Unlock()
	i, known := u.at[entry.is]
	switch {
	case known && u.made[i].path == name:
		u.made[i] = entry
	case made:
		if u.at == nil {
			u.at = map[rootfs.Inode]int{}
		}
		u.at[entry.is] = len(u.made)
		u.made = append(u.made, entry)
	}
}

// addDirs adds the directories that were created for an upload.
func (u *Uploads) addDirs(in *rootfs.Root) {
	for last := len(in.Created) - 1; last >= 0; last-- {
		dir, err := in.Open(in.Created[last], unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			continue // another one has its place
		}
		u.add(in.Created[last], dir, true)
		dir.Close()
	}
}

// take returns all uploads and forgets them.
func (u *Uploads) take() []upload {
	u.mu.Lock()
	defer u.mu.Unlock()
	made := u.made
	u.made, u.at = nil, nil
	return made
}

// Remove removes the recorded files and directories that are unchanged, and forgets all.
func (u *Uploads) Remove(ctx context.Context, in *rootfs.Root) error {
	for _, made := range u.take() {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := made.remove(in); err != nil {
			return fmt.Errorf("cannot remove the upload %s: %w", made.path, err)
		}
	}
	return nil
}

// remove removes one entry if it is unchanged. Its path is looked up again, as in
// the chroot. If a link on the way leads out of the directories for temporary files, a
// provisioner has moved the upload to keep it.
func (u upload) remove(in *rootfs.Root) error {
	parent, name := rootfs.Split(u.path)
	dir, err := in.Open(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return rootfs.IgnoreMissing(rootfs.IgnoreDangling(err))
	}
	defer dir.Close()
	if kept, err := isOutsideTemporary(in, dir); err != nil || kept {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || rootfs.InodeOf(&st) != u.is {
		return rootfs.IgnoreMissing(err)
	}
	if u.dir {
		err := unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) {
			return nil
		}
		return rootfs.IgnoreMissing(err)
	}
	if st.Size != u.size || st.Mtim != u.changed {
		return nil
	}
	return rootfs.Remove(dir, name)
}

// isOutsideTemporary reports whether an open directory of the root is neither below /tmp
// nor below /var/tmp, with links followed.
func isOutsideTemporary(in *rootfs.Root, dir *os.File) (bool, error) {
	at, err := os.Readlink(rootfs.ProcPath(dir))
	if err != nil {
		return false, err
	}
	for _, temporary := range []string{"/tmp", "/var/tmp"} {
		top, err := in.Open(temporary, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			continue
		}
		dir, err := os.Readlink(rootfs.ProcPath(top))
		top.Close()
		if err != nil {
			return false, err
		}
		if at == dir || strings.HasPrefix(at, dir+"/") {
			return false, nil
		}
	}
	return true, nil
}
