package chroot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/command"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rendezvous"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/transfer"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/wire"
)

const (
	// abandonedLimit is how long a keeper without a plugin tries to leave its roots.
	abandonedLimit = time.Minute
	// abandonedTry is the time limit of each try, enough for processes to end and for the
	// kernel to unmount.
	abandonedTry = time.Second
)

// DefaultKeeperTimeout is the default of Options.KeeperTimeout: a little more than a keeper without
// a plugin tries to leave its roots.
const DefaultKeeperTimeout = abandonedLimit + command.KillTimeout

// errAbandoned is the cause with which operations end if the plugin is gone.
var errAbandoned = errors.New("the plugin is gone")

// greeting is the first message to a keeper.
type greeting struct {
	// Env is the plugin's environment: wrappers such as sudo do not pass it on.
	Env []string
	// Busy, Grace and KeeperTimeout are as in Options.
	Busy, Grace, KeeperTimeout time.Duration
}

// MaybeRunKeeper turns this process into a keeper if it was started as one, and then does not
// return. Every program that calls Launch must call it before anything else.
func MaybeRunKeeper() {
	if len(os.Args) != 3 || os.Args[1] != rendezvous.Arg {
		return
	}
	if err := runKeeper(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runKeeper connects to the plugin, runs its calls until it is gone, and leaves all roots.
func runKeeper(arg string) error {
	catchSignals()
	if err := command.CloseInherited(); err != nil {
		return err
	}
	conn, body, err := rendezvous.Join(arg)
	if err != nil {
		return err
	}
	s := &server{}
	if s.keeper, err = newKeeper(conn, body); err != nil {
		return err
	}
	peer, err := conn.Peer()
	if err != nil {
		return err
	}
	s.owner = transfer.Owner{UID: int(peer.Uid), GID: int(peer.Gid)}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	s.Server = wire.NewServer(conn, wire.ServerOptions{Errors: knownErrors, Do: s.do, Lost: errAbandoned})
	s.Serve()
	return s.finish()
}

// catchSignals keeps signals from ending this process: Ctrl-C on a terminal reaches every
// process there, and only the plugin knows the order of the undoing. They are caught and
// not ignored, for commands would inherit that.
func catchSignals() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE, unix.SIGTSTP)
	go func() {
		for range signals { // the plugin decides
		}
	}()
}

// newKeeper returns a keeper with the plugin's options and environment.
func newKeeper(conn *wire.Conn, body []byte) (*Keeper, error) {
	var g greeting
	if err := wire.Unmarshal(body, &g); err != nil {
		return nil, err
	}
	ended := func(format string, args ...any) { conn.NoteAs(noteEnded, format, args...) }
	k, err := Start(Options{Busy: g.Busy, Grace: g.Grace, KeeperTimeout: g.KeeperTimeout, Log: conn.Note, Ended: ended})
	if err != nil {
		return nil, err
	}
	env := mergeEnvironment(g.Env, os.Environ())
	k.environ = func() []string { return env }
	return k, nil
}

// server is a keeper that serves its plugin.
type server struct {
	*wire.Server
	keeper *Keeper
	owner  transfer.Owner
	// stay reports whether mounts stay when the plugin is gone.
	stay atomic.Bool
}

// do runs one call.
func (s *server) do(ctx context.Context, f wire.Frame) ([]byte, error) {
	if f.Name == stayName {
		s.stay.Store(true)
		return nil, nil
	}
	do, ok := operations[f.Name]
	if !ok {
		return nil, fmt.Errorf("the keeper has no operation %q", f.Name)
	}
	return do(ctx, request{s.keeper, s.owner, f.Files}, f.Body)
}

// finish leaves all roots, unless the plugin wants them to stay.
func (s *server) finish() error {
	if s.stay.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), abandonedLimit)
	defer cancel()
	for {
		err := s.keeper.abandon(ctx)
		if err == nil {
			// An operation that was running, such as a mount, may have ended only now.
			s.Wait()
			if len(s.keeper.all()) == 0 {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryAfter):
		}
	}
}

// abandon leaves all roots. Processes that use them get little time to end, and the
// cgroups of their commands are killed afterwards.
func (k *Keeper) abandon(ctx context.Context) error {
	k.hurried.Store(true)
	ctx, cancel := context.WithTimeout(ctx, abandonedTry)
	defer cancel()
	var failed error
	for _, m := range k.all() {
		if err := k.Leave(ctx, m.path); err != nil {
			failed = errors.Join(failed, err)
		}
		k.kill(m)
	}
	return failed
}
