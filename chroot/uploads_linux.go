package chroot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// uploads remembers what was uploaded below the image's directories for temporary
// files, a directory after what it holds.
type uploads struct {
	mu   sync.Mutex
	made []uploaded
	at   map[inode]int
}

// uploaded is one file or directory, as it was left when it was uploaded.
type uploaded struct {
	path string
	is   inode
	dir  bool
	size int64
	// changed is when the content changed last.
	changed unix.Timespec
}

// temporary says whether a path is below a directory for temporary files, by the
// name that it is spoken of.
func temporary(name string) bool {
	name = path.Clean("/" + name)
	return strings.HasPrefix(name, "/tmp/") || strings.HasPrefix(name, "/var/tmp/")
}

// note remembers a file that was made, or written again since.
func (u *uploads) note(name string, f *os.File, made bool) {
	if !temporary(name) {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return // then it is not known, and stays
	}
	entry := uploaded{name, inodeOf(&st), st.Mode&unix.S_IFMT == unix.S_IFDIR, st.Size, st.Mtim}
	u.mu.Lock()
	defer u.mu.Unlock()
	i, known := u.at[entry.is]
	switch {
	case known && u.made[i].path == name:
		u.made[i] = entry
	case made:
		if u.at == nil {
			u.at = map[inode]int{}
		}
		u.at[entry.is] = len(u.made)
		u.made = append(u.made, entry)
	}
}

// noteDirs remembers the directories that were made on the way.
func (u *uploads) noteDirs(in *inside) {
	for last := len(in.made) - 1; last >= 0; last-- {
		dir, err := in.open(in.made[last], unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			continue // somebody else's by now
		}
		u.note(in.made[last], dir, true)
		dir.Close()
	}
}

// take forgets everything and answers it.
func (u *uploads) take() []uploaded {
	u.mu.Lock()
	defer u.mu.Unlock()
	made := u.made
	u.made, u.at = nil, nil
	return made
}

// RemoveUploads removes what Upload and UploadDir made below /tmp and /var/tmp and
// is still there as they left it: scripts that Packer's provisioners could not
// remove, for one. What was changed or put there by others stays, and so does a
// directory that holds anything else.
func (m *Mounted) RemoveUploads(ctx context.Context) error {
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.close()
	for _, u := range m.uploads.take() {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := in.removeUpload(u); err != nil {
			return fmt.Errorf("cannot remove the upload %s: %w", u.path, err)
		}
	}
	return nil
}

// removeUpload removes one entry if it is unchanged. Its path is looked up again, as in
// the chroot. If a link on the way leads out of the directories for temporary files, a
// provisioner has moved the upload to keep it.
func (in *inside) removeUpload(u uploaded) error {
	parent, name := split(u.path)
	dir, err := in.open(parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return ignoreMissing(ignoreLinks(err))
	}
	defer dir.Close()
	if kept, err := in.isOutsideTemporary(dir); err != nil || kept {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || inodeOf(&st) != u.is {
		return ignoreMissing(err)
	}
	if u.dir {
		err := unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) {
			return nil
		}
		return ignoreMissing(err)
	}
	if st.Size != u.size || st.Mtim != u.changed {
		return nil
	}
	return remove(dir, name)
}

// isOutsideTemporary reports whether an open directory of the root is neither in /tmp
// nor in /var/tmp, wherever links lead these two.
func (in *inside) isOutsideTemporary(dir *os.File) (bool, error) {
	at, err := os.Readlink(procPath(dir))
	if err != nil {
		return false, err
	}
	for _, temporary := range []string{"/tmp", "/var/tmp"} {
		top, err := in.open(temporary, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			continue
		}
		dir, err := os.Readlink(procPath(top))
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

// ignoreLinks lets be a path that leads nowhere any more.
func ignoreLinks(err error) error {
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	return err
}
