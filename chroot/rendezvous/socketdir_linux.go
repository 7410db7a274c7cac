package rendezvous

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// socketName is the name of the socket in its directory.
const socketName = "keeper"

// dirPrefix begins the names of the directories of keepers' sockets, among the temporary
// files.
const dirPrefix = "packer-chroot-keeper-"

// socketDir is the directory of the socket that a keeper connects to. It is locked while
// the plugin that created it lives: if another process can lock it, the plugin was killed.
type socketDir struct{ dir *os.File }

// newSocketDir creates one that only this user and root may enter. A process that looks
// for those of killed plugins may take it for one before it is locked.
func newSocketDir() (socketDir, error) {
	for {
		path, err := os.MkdirTemp("", dirPrefix)
		if err != nil {
			return socketDir{}, err
		}
		d, err := lockSocketDir(path)
		if err == nil {
			return d, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, os.ErrNotExist) {
			return socketDir{}, errors.Join(err, os.Remove(path))
		}
	}
}

// errForeign is the error for the directory of another user.
var errForeign = errors.New("it belongs to another user")

// lockSocketDir opens and locks an existing one of this user. The error is EWOULDBLOCK if
// another process has locked it.
func lockSocketDir(path string) (socketDir, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return socketDir{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	d := socketDir{os.NewFile(uintptr(fd), path)}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Uid != uint32(os.Geteuid()) {
		d.dir.Close()
		return socketDir{}, &os.PathError{Op: "lock", Path: path, Err: cmp.Or(err, errForeign)}
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.dir.Close()
		return socketDir{}, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	if _, err := os.Lstat(path); err != nil {
		d.dir.Close()
		return socketDir{}, err
	}
	return d, nil
}

// path returns the path of the directory.
func (d socketDir) path() string { return d.dir.Name() }

// listen creates the socket. Its path can be too long for a socket's name, if the
// directory for temporary files is deep; the kernel knows a shorter one.
func (d socketDir) listen() (*net.UnixListener, error) {
	listener, err := net.ListenUnix("unix", socketIn(int(d.dir.Fd())))
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket for the keeper in %s: %w", d.path(), err)
	}
	listener.SetUnlinkOnClose(false)
	return listener, nil
}

// socketIn returns the address of the socket in an open directory.
func socketIn(dir int) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, socketName)}
}

// remove removes the directory with its socket, and nothing else, while it is locked.
func (d socketDir) remove() {
	defer d.dir.Close()
	_ = unix.Unlinkat(int(d.dir.Fd()), socketName, 0)
	_ = os.Remove(d.path())
}

// Sweep removes the sockets, with their directories, to which keepers of killed builds were
// to connect. Those of running builds and of other users stay.
func Sweep() {
	entries, _ := os.ReadDir(os.TempDir())
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), dirPrefix) {
			continue
		}
		if d, err := lockSocketDir(filepath.Join(os.TempDir(), entry.Name())); err == nil {
			d.remove()
		}
	}
}
