//go:build linux

package chroot

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMakeGroupBesideOthers: a keeper with the same process id was killed.
func TestMakeGroupBesideOthers(t *testing.T) {
	parent := t.TempDir()
	first, err := makeGroup(parent)
	if err != nil {
		t.Fatal(err)
	}
	groupCount.Add(^uint64(0))
	second, err := makeGroup(parent)
	if err != nil || second == first {
		t.Errorf("beside %s: %s, %v", first, second, err)
	}
	if _, err := makeGroup(filepath.Join(parent, "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestFamily(t *testing.T) {
	f := ancestors()
	if !f.has(os.Getpid()) || !f.has(os.Getppid()) || !f.has(1) || f.has(1<<30) {
		t.Errorf("the family is %v", f)
	}
	f[os.Getpid()] = "long ago"
	if f.has(os.Getpid()) {
		t.Error("another process with the id is of the family")
	}
}

// sessionWith is a session whose keeper is a function that gets every call.
func sessionWith(t *testing.T, keeper func(l *link, f frame)) *session {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		conn, err := net.FileConn(file)
		if file.Close(); err != nil {
			t.Fatal(err)
		}
		ends[i] = conn.(*net.UnixConn)
		t.Cleanup(func() { conn.Close() })
	}
	s := &session{
		link: link{conn: ends[0]}, ended: func() string { return "" }, log: t.Logf,
		calls: map[uint64]chan outcome{}, lost: make(chan struct{}),
	}
	go s.listen()
	go func() {
		far := &link{conn: ends[1]}
		for f, err := far.receive(); err == nil; f, err = far.receive() {
			keeper(far, f)
		}
	}()
	return s
}

// TestDownloadFromAStuckKeeper: one that fails but holds on to the pipe is not
// waited for.
func TestDownloadFromAStuckKeeper(t *testing.T) {
	held := make(chan []*os.File, 1)
	s := sessionWith(t, func(l *link, f frame) {
		held <- f.files
		body, err := pack(outcome{Failure: failed(unix.EIO)})
		if err == nil {
			err = l.send(frame{kind: answer, id: f.id, body: body})
		}
		if err != nil {
			t.Error(err)
		}
	})
	r := &Remote{session: s, path: "/root"}
	if err := r.Download(t.Context(), "/file", io.Discard); !errors.Is(err, unix.EIO) {
		t.Errorf("error %v", err)
	}
	closeAll(<-held)
}

// TestVisitorsAreNotTakenForHolders: while a keeper is in another mount namespace,
// none looks for holders, and it is back when it says so.
func TestVisitorsAreNotTakenForHolders(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mount namespaces")
	}
	there := exec.Command("unshare", "--mount", "cat")
	stdin, err := there.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := there.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		_ = there.Wait()
	}()
	dir := fmt.Sprintf("/proc/%d", there.Process.Pid)
	here, _ := os.Readlink("/proc/self/ns/mnt")
	for link := here; link == here; link, _ = os.Readlink(dir + "/ns/mnt") {
		runtime.Gosched() // it is not there yet
	}
	busy := func() bool {
		fd, err := unix.Open("/proc/self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		return errors.Is(unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	}
	err = task{pid: there.Process.Pid, dir: dir}.inNamespace(func(own *os.File) error {
		if link, err := os.Readlink("/proc/thread-self/ns/mnt"); err == nil && link == here {
			t.Error("the visitor is at home")
		}
		if !busy() {
			t.Error("holders can be looked for meanwhile")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	tasks, _ := filepath.Glob("/proc/self/task/*/ns/mnt")
	for _, task := range tasks {
		if link, err := os.Readlink(task); err == nil && link != here {
			t.Errorf("%s is still in %s", task, link)
		}
	}
}
