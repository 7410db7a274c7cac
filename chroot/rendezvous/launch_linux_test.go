package rendezvous

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/command"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/wire"
)

func TestInvitationArgument(t *testing.T) {
	for _, inv := range []invitation{{"/tmp/a b", 0, "ABC"}, {"/tmp/x.y$z\xff\n", 1<<32 - 1, "234"}} {
		arg := inv.arg()
		if got, err := readInvitation(arg); err != nil || got != inv {
			t.Errorf("%+v came back as %+v, %v", inv, got, err)
		}
		if command.Quote(arg) != arg {
			t.Errorf("%q means something to a shell", arg)
		}
	}
	if inv, err := readInvitation("!.x"); err == nil {
		t.Errorf("it was read as %+v", inv)
	}
}

// FuzzReadInvitation: an argument that is accepted is an invitation, and is written as it
// was read.
func FuzzReadInvitation(f *testing.F) {
	f.Add(invitation{"/tmp/a b", 1000, "ABC"}.arg())
	f.Add("L3RtcA.00.x")
	f.Add("..")
	f.Fuzz(func(t *testing.T, arg string) {
		inv, err := readInvitation(arg)
		if err != nil {
			return
		}
		again, err := readInvitation(inv.arg())
		if err != nil || again != inv || inv.secret == "" || !filepath.IsAbs(inv.dir) {
			t.Errorf("%q is read as %+v, and that as %+v, %v", arg, inv, again, err)
		}
	})
}

// linked returns both ends of a connection in this process.
func linked(t *testing.T) (a, b *wire.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends []*wire.Conn
	for _, fd := range fds {
		file := os.NewFile(uintptr(fd), "end")
		conn, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		file.Close()
		ends = append(ends, wire.NewConn(conn.(*net.UnixConn)))
	}
	return ends[0], ends[1]
}

// TestWrongSecretIsRefused checks that a process that does not know the secret gets no
// greeting.
func TestWrongSecretIsRefused(t *testing.T) {
	inv := invitation{"/tmp", 0, "the secret"}
	for secret, welcome := range map[string]bool{"the secret": true, "another secret": false, "": false} {
		here, there := linked(t)
		if err := there.Send(wire.Frame{Kind: wire.Call, Body: []byte(secret)}); err != nil {
			t.Fatal(err)
		}
		pid, err := Launcher{}.greet(here, inv)
		switch {
		case os.Geteuid() != 0: // only root can be a keeper
			if err == nil {
				t.Errorf("%q made a keeper without root", secret)
			}
		case welcome && (err != nil || pid != os.Getpid()):
			t.Errorf("the keeper is sent away: %v", err)
		case !welcome && !errors.Is(err, errStranger):
			t.Errorf("%q was answered by %v", secret, err)
		}
	}
}
