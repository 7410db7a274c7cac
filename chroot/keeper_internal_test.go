//go:build linux

package chroot

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// TestMakeGroupBesideOthers: a keeper with the same process id was killed.
func TestMakeGroupBesideOthers(t *testing.T) {
	parent := testdir.New(t)
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

// TestGroupsOfAKilledKeeper: another process has been given its id.
func TestGroupsOfAKilledKeeper(t *testing.T) {
	own, err := ownGroup()
	if err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and cgroups: ", err)
	}
	r := RootRecord{Keeper: os.Getpid(), Since: 1, Group: own}
	left := filepath.Join(own, groupsSince(r.Keeper, r.Since)+"7")
	if err := os.Mkdir(left, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(left)
	mine, err := newGroup()
	if err != nil {
		t.Fatal(err)
	}
	defer mine.remove()
	groups := r.groups()
	if len(groups) != 1 || groups[0].dir.Name() != left {
		t.Fatalf("found %v, not only %s", groups, left)
	}
	if !groups[0].remove() {
		t.Error("it cannot be removed")
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
