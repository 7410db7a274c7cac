package chroot

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// keepArg is the first argument of this program when it is to be a keeper. The
// second one is an invitation.
const keepArg = "keep-chroot"

// launchLimit is how long a keeper may take to come: sudo may ask for a password
// on the terminal.
const launchLimit = 2 * time.Minute

// socketName is the name of the socket in its directory.
const socketName = "keeper"

// greeting is what a keeper is told first.
type greeting struct {
	// Env is the plugin's environment: wrappers such as sudo do not pass it on.
	Env []string
	// Busy, Grace and Patience are as in Options.
	Busy, Grace, Patience time.Duration
}

// launcher starts keepers.
type launcher struct {
	hostCommands
	// options are for the keepers, and Log is for what they note.
	options Options
}

// launch starts a keeper and waits until it has come.
func (l launcher) launch(ctx context.Context) (*session, error) {
	SweepSockets()
	porch, err := newPorch()
	if err != nil {
		return nil, fmt.Errorf("cannot make a directory for the keeper's socket: %w", err)
	}
	defer porch.remove()
	inv, err := invite(porch.path(), rand.Text())
	if err != nil {
		return nil, err
	}
	door, err := porch.open()
	if err != nil {
		return nil, err
	}
	defer door.Close()
	program, err := l.start(inv)
	if err != nil {
		return nil, err
	}
	s, err := l.admit(ctx, door, inv, program)
	if err != nil {
		program.end()
		return nil, fmt.Errorf("cannot start the keeper, %s: %w", program.line, err)
	}
	return s, nil
}

// open makes the socket. Its path is too long for a socket's name where the
// directory for temporary files is deep; the kernel knows a shorter one.
func (p porch) open() (*net.UnixListener, error) {
	door, err := net.ListenUnix("unix", socketIn(int(p.dir.Fd())))
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket for the keeper in %s: %w", p.path(), err)
	}
	door.SetUnlinkOnClose(false)
	return door, nil
}

func socketIn(dir int) *net.UnixAddr {
	return &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, socketName)}
}

// program is what was started so that a keeper comes: the keeper itself, or the
// host's shell with the user's wrapper.
type program struct {
	cmd  *exec.Cmd
	line string
	said *tail
	// gone is closed when it has ended, with the reason in err.
	gone chan struct{}
	err  error
}

// start runs this program again, in the wrapper if there is one. It stays in this
// session and process group, so that sudo finds the terminal that it knows.
func (l launcher) start(inv invitation) (*program, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &program{line: "without command_wrapper", said: &tail{}, gone: make(chan struct{})}
	p.cmd = &exec.Cmd{Path: self, Args: []string{self, keepArg, inv.arg()}}
	if l.wrapper != nil {
		line, err := l.wrap(quote(self) + " " + keepArg + " " + inv.arg())
		if err != nil {
			return nil, err
		}
		p.cmd = hostShell(line)
		p.cmd.Env = withoutInvoker(os.Environ())
		p.line = fmt.Sprintf("with command_wrapper as %q", strings.ReplaceAll(line, inv.arg(), "…"))
	}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.WaitDelay = p.said, p.said, time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the keeper: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.gone)
	}()
	return p, nil
}

// end ends what no keeper came of.
func (p *program) end() {
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(time.Second):
		_ = p.cmd.Process.Kill()
	}
}

// how says how the program ended, once it has; it is given a moment for that.
func (p *program) how() string {
	select {
	case <-p.gone:
	case <-time.After(time.Second):
		return ""
	}
	how := ""
	if p.err != nil {
		how = ": " + p.err.Error()
	}
	if said := p.said.String(); said != "" {
		how += ": " + said
	}
	return how
}

// admit waits for the keeper and greets it. Whoever else comes is sent away.
func (l launcher) admit(ctx context.Context, door *net.UnixListener, inv invitation, p *program) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, launchLimit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { door.Close() })()
	go func() {
		select {
		case <-p.gone:
			door.Close()
		case <-ctx.Done():
		}
	}()
	for {
		conn, err := door.AcceptUnix()
		if err != nil {
			return nil, l.nobody(ctx, p, err)
		}
		s, err := l.greet(conn, inv)
		if err == nil {
			s.ended = p.how
			go s.listen()
			return s, nil
		}
		conn.Close()
		if !errors.Is(err, errStranger) {
			return nil, err
		}
		log.Printf("%v", err)
	}
}

// nobody is why no keeper came.
func (l launcher) nobody(ctx context.Context, p *program, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-p.gone:
		return fmt.Errorf("it ended before it reported%s", p.how())
	default:
		return err
	}
}

// errStranger is wrapped when somebody came who was not invited.
var errStranger = errors.New("somebody else came to the keeper's socket")

// greet makes sure that it is the keeper that has come, and that it is root.
func (l launcher) greet(conn *net.UnixConn, inv invitation) (*session, error) {
	s := &session{link: link{conn: conn}, log: l.options.Log, calls: map[uint64]chan outcome{}, lost: make(chan struct{})}
	if err := conn.SetReadDeadline(time.Now().Add(lastBreath)); err != nil {
		return nil, err
	}
	hello, err := s.link.receive()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStranger, err)
	}
	closeAll(hello.files)
	if subtle.ConstantTimeCompare(hello.body, []byte(inv.secret)) != 1 {
		return nil, fmt.Errorf("%w: it does not know the word", errStranger)
	}
	peer, err := peerOf(conn)
	if err != nil {
		return nil, err
	}
	if peer.Uid != 0 {
		return nil, fmt.Errorf("%w, and this command_wrapper gives the rights of user %d", ErrNotRoot, peer.Uid)
	}
	s.pid = int(peer.Pid)
	body, err := pack(greeting{Env: os.Environ(), Busy: l.options.Busy, Grace: l.options.Grace, Patience: l.options.Patience})
	if err != nil {
		return nil, err
	}
	return s, errors.Join(s.link.send(frame{kind: answer, body: body}), conn.SetReadDeadline(time.Time{}))
}

// peerOf asks the kernel who is at the other end.
func peerOf(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return peer, peerErr
}

// tail logs what a program says, and keeps the end of it.
type tail struct {
	mu   sync.Mutex
	last []byte
	// cut says that there was more before.
	cut bool
}

// tailSize is enough for the message that a program ends with.
const tailSize = 2 << 10

func (t *tail) Write(p []byte) (int, error) {
	log.Printf("the keeper says: %s", bytes.TrimSpace(p))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p...)
	if over := len(t.last) - tailSize; over > 0 {
		t.last, t.cut = t.last[over:], true
	}
	return len(p), nil
}

// String returns the end of what was said. Of a line that was cut it has nothing, or of
// a long one no part of a word: the end of a secret would not be known for one.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.cut {
		return string(bytes.TrimSpace(t.last))
	}
	_, whole, found := bytes.Cut(t.last, []byte("\n"))
	if whole = bytes.TrimSpace(whole); !found || len(whole) == 0 {
		_, whole, _ = bytes.Cut(t.last, []byte(" "))
	}
	return "… " + string(bytes.TrimSpace(whole))
}
