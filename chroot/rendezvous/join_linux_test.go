package rendezvous_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rendezvous"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// TestMain lets the tests start this program as a keeper.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == rendezvous.Arg {
		_, _, err := rendezvous.Join(os.Args[2])
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// alice builds with sudo, and mallory is another user of the host.
const (
	alice   = 45002
	mallory = 45001
)

// socketDir is a directory with a socket to which a keeper may be invited.
type socketDir struct {
	*testing.T
	dir      string
	listener *net.UnixListener
}

// newSocketDir creates a socket directory of a user in a world-writable directory.
func newSocketDir(t *testing.T, owner int, mode uint32) socketDir {
	t.Helper()
	testroot.Need(t, "other users")
	t.Setenv("SUDO_UID", "")
	shared := filepath.Join(testdir.New(t), "tmp")
	p := socketDir{T: t, dir: filepath.Join(shared, "socket")}
	p.must(errors.Join(
		os.MkdirAll(p.dir, 0o755), unix.Chmod(shared, 0o1777),
		os.Chown(p.dir, owner, owner), unix.Chmod(p.dir, mode)))
	return p
}

func (p socketDir) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// listens has a user listen at the socket, on a thread of that user's.
func (p *socketDir) listens(uid int) {
	p.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.must(effective(uid))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	p.must(errors.Join(err, effective(0)))
	path := filepath.Join(p.dir, "keeper")
	p.must(errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), os.Chown(path, uid, uid)))
	p.must(effective(uid))
	err = unix.Listen(fd, 1)
	p.must(errors.Join(err, effective(0)))
	f := os.NewFile(uintptr(fd), "listener")
	listener, err := net.FileListener(f)
	p.must(errors.Join(err, f.Close()))
	p.listener = listener.(*net.UnixListener)
	p.Cleanup(func() { listener.Close() })
}

// effective sets the effective user of this thread.
func effective(uid int) error {
	const same = ^uintptr(0)
	if _, _, err := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); err != 0 {
		return err
	}
	return nil
}

// invited starts a keeper with an invitation of a user, and returns how it ended.
func (p socketDir) invited(uid int, env ...string) (said string, err error) {
	arg := base64.RawURLEncoding.EncodeToString([]byte(p.dir)) + fmt.Sprintf(".%d.word", uid)
	return p.started(arg, env...)
}

func (p socketDir) started(arg string, env ...string) (string, error) {
	self, err := os.Executable()
	p.must(err)
	cmd := exec.CommandContext(p.Context(), self, rendezvous.Arg, arg)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// heard returns the bytes that the first client sends before it disconnects, or disconnects
// itself once the secret was received.
func (p socketDir) heard() <-chan string {
	said := make(chan string, 1)
	go func() {
		defer close(said)
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var all []byte
		for buffer := make([]byte, 100); !bytes.Contains(all, []byte("word")); {
			n, err := conn.Read(buffer)
			if all = append(all, buffer[:n]...); err != nil {
				break
			}
		}
		said <- string(all)
	}()
	return said
}

// TestKeeperRefusesStrangers checks that a keeper sends nothing to, and does nothing for, a
// user other than the one that invited it.
func TestKeeperRefusesStrangers(t *testing.T) {
	for name, c := range map[string]struct {
		owner  int
		mode   uint32
		listen int
		as     int
		env    []string
		says   string
	}{
		"another user has the directory": {owner: mallory, mode: 0o755, listen: mallory, as: alice, says: "belongs to user 45001"},
		"another user listens":           {owner: alice, mode: 0o700, listen: mallory, as: alice, says: "user 45001 is at the socket, and user 45002 started this keeper"},
		"root listens for a user":        {owner: alice, mode: 0o700, listen: 0, as: alice, says: "user 0 is at the socket"},
		"a user listens for root":        {owner: 0, mode: 0o700, listen: mallory, as: 0, says: "user 45001 is at the socket"},
		"everybody can write":            {owner: alice, mode: 0o777, listen: alice, as: alice, says: "can be written to by others"},
		"sudo knows better":              {owner: mallory, mode: 0o700, listen: mallory, as: mallory, env: []string{"SUDO_UID=45002"}, says: "SUDO_UID is 45002"},
		"pkexec knows better":            {owner: mallory, mode: 0o700, listen: mallory, as: mallory, env: []string{"PKEXEC_UID=45002"}, says: "PKEXEC_UID is 45002"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newSocketDir(t, c.owner, c.mode)
			p.listens(c.listen)
			heard := p.heard()
			said, err := p.invited(c.as, c.env...)
			p.listener.Close()
			if err == nil || !strings.Contains(said, c.says) {
				t.Errorf("the keeper ended with %v and said %q, not %q", err, said, c.says)
			}
			if word := <-heard; word != "" {
				t.Errorf("it told another process %q", word)
			}
		})
	}
}

// TestKeeperFollowsNoLink checks that a keeper does not follow a link that another user has
// put in the place of a directory.
func TestKeeperFollowsNoLink(t *testing.T) {
	p := newSocketDir(t, alice, 0o700)
	p.listens(alice)
	heard := p.heard()
	link := filepath.Join(filepath.Dir(p.dir), "link")
	p.must(errors.Join(os.Symlink(p.dir, link), os.Lchown(link, mallory, mallory)))
	p.dir = link
	said, err := p.invited(alice)
	p.listener.Close()
	if err == nil || !strings.Contains(said, "link belongs to user 45001") {
		t.Errorf("the keeper ended with %v and said %q", err, said)
	}
	if word := <-heard; word != "" {
		t.Errorf("it told %q", word)
	}
}

// TestKeeperJoins checks that the keeper sends the secret to the user in its invitation, and
// ends when the plugin of that user ends.
func TestKeeperJoins(t *testing.T) {
	for name, c := range map[string]struct {
		uid int
		env []string
	}{
		"for a user":            {alice, nil},
		"for a user of sudo":    {alice, []string{"SUDO_UID=45002"}},
		"for root":              {0, nil},
		"for root through sudo": {0, []string{"SUDO_UID=45002"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newSocketDir(t, c.uid, 0o700)
			p.listens(c.uid)
			heard := p.heard()
			said, err := p.invited(c.uid, c.env...)
			p.listener.Close()
			if err == nil || !strings.Contains(said, "the plugin does not want this keeper") {
				t.Errorf("the keeper ended with %v and said %q", err, said)
			}
			if word := <-heard; !strings.Contains(word, "word") {
				t.Errorf("it told %q", word)
			}
		})
	}
}

// TestKeeperWithoutPlugin checks the errors of a keeper if a killed plugin has left its
// directory and socket.
func TestKeeperWithoutPlugin(t *testing.T) {
	p := newSocketDir(t, alice, 0o700)
	p.listens(alice)
	p.must(p.listener.Close())
	if said, err := p.invited(alice); err == nil || !strings.Contains(said, "cannot connect to the plugin") {
		t.Errorf("the keeper ended with %v and said %q", err, said)
	}
	p.must(errors.Join(os.Remove(filepath.Join(p.dir, "keeper")), os.Remove(p.dir)))
	if said, err := p.invited(alice); err == nil || !strings.Contains(said, "no such file") {
		t.Errorf("the keeper ended with %v and said %q", err, said)
	}
}

// TestKeeperRefusesInvitations that no plugin wrote.
func TestKeeperRefusesInvitations(t *testing.T) {
	p := newSocketDir(t, alice, 0o700)
	p.listens(alice)
	dir := base64.RawURLEncoding.EncodeToString([]byte(p.dir))
	for _, arg := range []string{
		"", "word", dir + ".word", dir + "..word", dir + ".alice.word", dir + ".-1.word", dir + ".4294967296.word",
		dir + ".45002.", dir + ".45002", "?." + "45002.word", base64.RawURLEncoding.EncodeToString([]byte("socket")) + ".45002.word",
	} {
		if said, err := p.started(arg); err == nil || !strings.Contains(said, "keep-chroot") {
			t.Errorf("%q: the keeper ended with %v and said %q", arg, err, said)
		}
	}
}

// TestSweepLeavesDirectoriesOfOthers checks that root does not remove a directory of another
// user.
func TestSweepLeavesDirectoriesOfOthers(t *testing.T) {
	testroot.Need(t, "other users")
	t.Setenv("TMPDIR", testdir.New(t))
	theirs := filepath.Join(os.TempDir(), "packer-chroot-keeper-1")
	if err := errors.Join(os.Mkdir(theirs, 0o700), os.Chown(theirs, mallory, mallory)); err != nil {
		t.Fatal(err)
	}
	rendezvous.Sweep()
	if _, err := os.Stat(theirs); err != nil {
		t.Error("it is gone")
	}
}
