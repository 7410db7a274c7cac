package chroot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// abandonedLimit is how long a keeper without a plugin tries to leave its roots.
	abandonedLimit = time.Minute
	// abandonedTry bounds each try. What its processes are given to end, and the
	// kernel to unmount, fits in.
	abandonedTry = time.Second
)

// errAbandoned is why acts end when the plugin has gone away.
var errAbandoned = errors.New("the plugin is gone")

// MaybeKeep makes this process a keeper, if that is what it was started for, and
// then does not return. Every program that calls Launch calls it before anything
// else.
func MaybeKeep() {
	if len(os.Args) != 3 || os.Args[1] != keepArg {
		return
	}
	if err := keep(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// keep is the life of a keeper: it comes, serves until its plugin goes away, and
// leaves nothing.
func keep(arg string) error {
	endWithPluginOnly()
	if err := keepFiles(); err != nil {
		return err
	}
	inv, err := readInvitation(arg)
	if err != nil {
		return fmt.Errorf("%s: %w", keepArg, err)
	}
	conn, err := inv.accept()
	if err != nil {
		return fmt.Errorf("cannot come to the plugin: %w", err)
	}
	s := &server{link: link{conn: conn}, running: map[uint64]context.CancelCauseFunc{}}
	if s.keeper, err = s.link.introduce(inv); err != nil {
		return err
	}
	peer, err := peerOf(conn)
	if err != nil {
		return err
	}
	s.owner = ownerOf(peer)
	if err := os.Chdir("/"); err != nil {
		return err
	}
	s.serve()
	return s.finish()
}

// endWithPluginOnly has no signal end this process: Ctrl-C on a terminal comes to
// everybody there, and only the plugin knows what has to be undone first. They are
// caught rather than ignored, for commands would inherit that.
func endWithPluginOnly() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE, unix.SIGTSTP)
	go func() {
		for range signals { // what they mean, the plugin says
		}
	}()
}

// introduce says the word, and becomes a keeper as the plugin wants it.
func (l *link) introduce(inv invitation) (*Keeper, error) {
	if err := l.send(frame{kind: call, body: []byte(inv.secret)}); err != nil {
		return nil, err
	}
	f, err := l.receive()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the plugin does not want this keeper")
	}
	if err != nil {
		return nil, err
	}
	var g greeting
	if err := unpack(f.body, &g); err != nil {
		return nil, err
	}
	k, err := Start(Options{Busy: g.Busy, Grace: g.Grace, Patience: g.Patience, Log: l.note})
	if err != nil {
		return nil, err
	}
	env := overlay(g.Env, os.Environ())
	k.environ = func() []string { return env }
	return k, nil
}

// note has the plugin log something. A plugin that is gone needs no log.
func (l *link) note(format string, args ...any) {
	_ = l.send(frame{kind: note, body: fmt.Appendf(nil, format, args...)})
}

// overlay is the plugin's environment with what the wrapper has made of it. What
// sudo tells of itself stays out.
func overlay(plugins, own []string) []string {
	own = slices.DeleteFunc(slices.Clone(own), func(entry string) bool { return strings.HasPrefix(entry, "SUDO_") })
	set := map[string]bool{}
	for _, entry := range own {
		name, _, _ := strings.Cut(entry, "=")
		set[name] = true
	}
	env := slices.DeleteFunc(slices.Clone(plugins), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return set[name]
	})
	return append(env, own...)
}

// server is a keeper at work.
type server struct {
	link   link
	keeper *Keeper
	owner  owner

	mu      sync.Mutex
	running map[uint64]context.CancelCauseFunc
	acts    sync.WaitGroup
	// stay says that what is mounted is to stay.
	stay bool
}

// serve does what it is asked for, each act beside the others, until the plugin
// goes away.
func (s *server) serve() {
	for {
		f, err := s.link.receive()
		if err != nil {
			break
		}
		switch f.kind {
		case call:
			s.begin(f)
		case cancel:
			closeAll(f.files)
			s.cancel(f.id, errors.New(string(f.body)))
		default:
			closeAll(f.files)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cancel := range s.running {
		cancel(errAbandoned)
	}
}

// begin begins an act.
func (s *server) begin(f frame) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s.mu.Lock()
	s.running[f.id] = cancel
	s.mu.Unlock()
	s.acts.Go(func() {
		o := outcome{}
		result, err := s.do(ctx, f)
		o.Result, o.Failure = result, failed(err)
		s.mu.Lock()
		delete(s.running, f.id)
		s.mu.Unlock()
		cancel(nil)
		s.answer(f.id, o)
	})
}

func (s *server) do(ctx context.Context, f frame) ([]byte, error) {
	defer closeAll(f.files)
	if f.name == stayName {
		s.mu.Lock()
		s.stay = true
		s.mu.Unlock()
		return nil, nil
	}
	do, ok := operations[f.name]
	if !ok {
		return nil, fmt.Errorf("the keeper has no operation %q", f.name)
	}
	return do(ctx, served{s.keeper, s.owner, f.files}, f.body)
}

// answer tells the outcome. When that fails the plugin is gone, which serve finds.
func (s *server) answer(id uint64, o outcome) {
	body, err := pack(o)
	if err == nil {
		err = s.link.send(frame{kind: answer, id: id, body: body})
	}
	if err != nil {
		s.link.conn.Close()
	}
}

func (s *server) cancel(id uint64, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel, ok := s.running[id]; ok {
		cancel(cause)
	}
}

// stays says whether it was told that what is mounted is to stay.
func (s *server) stays() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stay
}

// finish leaves nothing behind, unless it was told that it should.
func (s *server) finish() error {
	if s.stays() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), abandonedLimit)
	defer cancel()
	for {
		err := s.keeper.abandon(ctx)
		if err == nil {
			// An act that was under way, such as a mount, may have ended only now.
			s.acts.Wait()
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

// abandon leaves all roots. Who uses them is given little time to end, and what
// would not go is ended at once with the group that its command was.
func (k *Keeper) abandon(ctx context.Context) error {
	k.hurried.Store(true)
	ctx, cancel := context.WithTimeout(ctx, abandonedTry)
	defer cancel()
	var failed error
	for _, m := range k.all() {
		if err := k.Leave(ctx, m.path); err != nil {
			failed = errors.Join(failed, err)
		}
		k.end(m)
	}
	return failed
}
