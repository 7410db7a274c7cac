package chroot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// owner is whom files belong to that the keeper makes on the host for its plugin.
type owner struct{ uid, gid int }

// ownerOf is the plugin's user.
func ownerOf(peer *unix.Ucred) owner { return owner{int(peer.Uid), int(peer.Gid)} }

// gift is what a plugin's user gets of a directory that the keeper, which is root,
// writes into.
type gift struct {
	owner
	dir string
	// made are the directories that were missing; what has changed since begun and
	// is root's is the keeper's work too.
	made  []string
	begun time.Time
}

// gift begins one. The kernel's clock of files lags a little behind.
func (o owner) gift(dir string) gift {
	return gift{owner: o, dir: dir, made: missing(dir), begun: time.Now().Add(-time.Second)}
}

// give gives away what was made. Links are neither followed nor led out by.
func (g gift) give() error {
	if g.uid == 0 {
		return nil
	}
	var failed error
	for _, dir := range g.made {
		failed = errors.Join(failed, ignoreMissing(os.Lchown(dir, g.uid, g.gid)))
	}
	root, err := os.OpenRoot(g.dir)
	if err != nil {
		return errors.Join(failed, ignoreMissing(err))
	}
	defer root.Close()
	return errors.Join(failed, fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := root.Lstat(name)
		if err != nil || !g.isOurs(info) {
			return err
		}
		return root.Lchown(filepath.FromSlash(name), g.uid, g.gid)
	}))
}

func (g gift) isOurs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0 && time.Unix(st.Ctim.Unix()).After(g.begun)
}
