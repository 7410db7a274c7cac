package rendezvous

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/command"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/wire"
)

const (
	// launchTimeout is how long a keeper may take to connect: sudo may ask for a password
	// on the terminal.
	launchTimeout = 2 * time.Minute
	// handshakeTimeout is how long a connected process may take to send the secret.
	handshakeTimeout = 10 * time.Second
)

// Launcher starts keepers.
type Launcher struct {
	// Host has the user's command_wrapper.
	Host command.Host
	// Greeting is the first message to a keeper, which Join returns.
	Greeting []byte
}

// Keeper is a keeper that has connected.
type Keeper struct {
	Conn *wire.Conn
	// PID is its process id.
	PID int
	// Exit returns how the program that started it ended, as the end of a sentence; it is
	// empty if that still runs.
	Exit func() string
}

// Launch starts a keeper and waits until it has connected. It removes the sockets of
// killed builds before; see Sweep.
func (l Launcher) Launch(ctx context.Context) (*Keeper, error) {
	Sweep()
	dir, err := newSocketDir()
	if err != nil {
		return nil, fmt.Errorf("cannot make a directory for the keeper's socket: %w", err)
	}
	defer dir.remove()
	inv, err := newInvitation(dir.path(), rand.Text())
	if err != nil {
		return nil, err
	}
	listener, err := dir.listen()
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	program, err := l.start(inv)
	if err != nil {
		return nil, err
	}
	k, err := l.accept(ctx, listener, inv, program)
	if err != nil {
		program.stop()
		return nil, fmt.Errorf("cannot start the keeper, %s: %w", program.line, err)
	}
	return k, nil
}

// accept waits until the keeper connects. Other processes are sent away.
func (l Launcher) accept(ctx context.Context, listener *net.UnixListener, inv invitation, p *program) (*Keeper, error) {
	ctx, cancel := context.WithTimeout(ctx, launchTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	go func() {
		select {
		case <-p.ended:
			listener.Close()
		case <-ctx.Done():
		}
	}()
	for {
		socket, err := listener.AcceptUnix()
		if err != nil {
			return nil, reason(ctx, p, err)
		}
		conn := wire.NewConn(socket)
		pid, err := l.greet(conn, inv)
		if err == nil {
			return &Keeper{Conn: conn, PID: pid, Exit: p.exit}, nil
		}
		conn.Close()
		if !errors.Is(err, errStranger) {
			return nil, err
		}
		log.Printf("%v", err)
	}
}

// reason returns the reason why no keeper connected.
func reason(ctx context.Context, p *program, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-p.ended:
		return fmt.Errorf("it ended before it reported%s", p.exit())
	default:
		return err
	}
}

// errStranger is wrapped by errors about a process that is not the keeper.
var errStranger = errors.New("another process came to the keeper's socket")

// greet verifies that the process at the other end is the keeper and that it is root,
// sends the greeting, and returns its process id.
func (l Launcher) greet(conn *wire.Conn, inv invitation) (pid int, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return 0, err
	}
	hello, err := conn.Receive()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errStranger, err)
	}
	wire.CloseFiles(hello.Files)
	if subtle.ConstantTimeCompare(hello.Body, []byte(inv.secret)) != 1 {
		return 0, fmt.Errorf("%w: it does not know the secret", errStranger)
	}
	peer, err := conn.Peer()
	if err != nil {
		return 0, err
	}
	if peer.Uid != 0 {
		return 0, fmt.Errorf("%w, and this command_wrapper gives the rights of user %d", ErrNotRoot, peer.Uid)
	}
	err = conn.Send(wire.Frame{Kind: wire.Reply, Body: l.Greeting})
	return int(peer.Pid), errors.Join(err, conn.SetReadDeadline(time.Time{}))
}
