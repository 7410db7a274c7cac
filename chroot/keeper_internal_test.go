//go:build linux

package chroot

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/wire"
)

// sessionWith returns a session with a keeper that runs every call by a function.
func sessionWith(t *testing.T, do func(ctx context.Context, f wire.Frame) ([]byte, error)) *session {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*wire.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		conn, err := net.FileConn(file)
		if file.Close(); err != nil {
			t.Fatal(err)
		}
		ends[i] = wire.NewConn(conn.(*net.UnixConn))
		t.Cleanup(func() { conn.Close() })
	}
	go wire.NewServer(ends[1], wire.ServerOptions{Errors: knownErrors, Do: do, Lost: errAbandoned}).Serve()
	return &session{Client: wire.NewClient(ends[0], wire.ClientOptions{
		Errors: knownErrors, Note: func(string, string) {}, Lost: func() error { return ErrKeeperLost },
	})}
}

// TestDownloadFromAStuckKeeper checks that a download does not wait for a keeper that fails
// and keeps the pipe open.
func TestDownloadFromAStuckKeeper(t *testing.T) {
	held := make(chan int, 1)
	s := sessionWith(t, func(_ context.Context, f wire.Frame) ([]byte, error) {
		fd, err := unix.Dup(int(f.Files[0].Fd()))
		if err != nil {
			t.Error(err)
		}
		held <- fd
		return nil, unix.EIO
	})
	r := &Remote{session: s, path: "/root"}
	if err := r.Download(t.Context(), "/file", io.Discard); !errors.Is(err, unix.EIO) {
		t.Errorf("error %v", err)
	}
	unix.Close(<-held)
}

// FuzzArguments decodes any body as the argument of an operation: none crashes the keeper.
func FuzzArguments(f *testing.F) {
	for _, seed := range []any{greeting{Env: []string{"A=b"}}, at[runArgs]{"/root", runArgs{Line: "true"}}, MountSpec{Path: "/x"}} {
		body, err := wire.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(_ *testing.T, body []byte) {
		for _, value := range []any{new(greeting), new(at[runArgs]), new(at[uploadArgs]), new(MountSpec), new(string)} {
			_ = wire.Unmarshal(body, value)
		}
	})
}
