package chroot

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// porchPrefix begins the names of the directories that keepers' sockets are in, among
// the temporary files.
const porchPrefix = "packer-chroot-keeper-"

// A porch is the directory with the socket that a keeper comes to. It is locked while
// the plugin that made it lives: whoever can lock it knows that the plugin was killed.
type porch struct{ dir *os.File }

// newPorch makes one that only this user and root may enter. Who looks for those of
// killed plugins may take it for one before it is locked.
func newPorch() (porch, error) {
	for {
		path, err := os.MkdirTemp("", porchPrefix)
		if err != nil {
			return porch{}, err
		}
		p, err := lockPorch(path)
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, os.ErrNotExist) {
			return porch{}, errors.Join(err, os.Remove(path))
		}
	}
}

// errForeign is the error for the directory of another user.
var errForeign = errors.New("it belongs to another user")

// lockPorch opens and locks an existing one of this user. The error is EWOULDBLOCK if
// another process has locked it.
func lockPorch(path string) (porch, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return porch{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	p := porch{os.NewFile(uintptr(fd), path)}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Uid != uint32(os.Geteuid()) {
		p.dir.Close()
		return porch{}, &os.PathError{Op: "lock", Path: path, Err: cmp.Or(err, errForeign)}
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		p.dir.Close()
		return porch{}, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	if _, err := os.Lstat(path); err != nil {
		p.dir.Close()
		return porch{}, err
	}
	return p, nil
}

// path is where it is.
func (p porch) path() string { return p.dir.Name() }

// remove removes it with its socket, and nothing else, while it is locked.
func (p porch) remove() {
	defer p.dir.Close()
	_ = unix.Unlinkat(int(p.dir.Fd()), socketName, 0)
	_ = os.Remove(p.path())
}

// SweepSockets removes the sockets, with their directories, that keepers of killed
// builds were to connect to. Those of running builds and of other users stay.
func SweepSockets() {
	entries, _ := os.ReadDir(os.TempDir())
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), porchPrefix) {
			continue
		}
		if p, err := lockPorch(filepath.Join(os.TempDir(), entry.Name())); err == nil {
			p.remove()
		}
	}
}
