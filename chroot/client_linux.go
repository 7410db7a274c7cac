package chroot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/blockdev"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/cgroup"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/command"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/hostdir"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rendezvous"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/wire"
)

// stayName is the operation after which mounts stay when the plugin is gone. The server
// runs it itself.
const stayName = "stay"

// A Client is the plugin's side of a build's keeper: a process with root's rights that
// mounts, enters and leaves roots, and that leaves all of them when the plugin is gone, even
// if it was killed. If the keeper is gone instead, calls fail with ErrKeeperLost, and Leave
// leaves its roots through a new one.
type Client struct {
	host    command.Host
	options Options

	mu      sync.Mutex
	current *session
	roots   map[string]*Remote
	// stuck reports whether Leave failed because of holders that cannot be ended.
	stuck bool
}

// Launch starts the keeper: this program again, in the user's command_wrapper if that
// changes commands. It fails, wrapping ErrNotRoot, if neither this process nor the wrapper
// has root's rights. The program must call MaybeRunKeeper when it starts.
func Launch(ctx context.Context, o Options) (*Client, error) {
	o = o.orDefault()
	host, err := command.NewHost(o.Wrapper)
	if err != nil {
		return nil, err
	}
	if o.UID() != 0 && !host.HasWrapper() {
		return nil, errNeedsRoot
	}
	if err := command.CloseInherited(); err != nil {
		return nil, err
	}
	c := &Client{host: host, options: o, roots: map[string]*Remote{}}
	if c.current, err = c.launch(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// session is a connected keeper: one process, one connection.
type session struct {
	*wire.Client
	// pid is the keeper's process id.
	pid int
}

// launch starts a keeper.
func (c *Client) launch(ctx context.Context) (*session, error) {
	o := c.options
	body, err := wire.Marshal(greeting{Env: os.Environ(), Busy: o.Busy, Grace: o.Grace, KeeperTimeout: o.KeeperTimeout})
	if err != nil {
		return nil, err
	}
	k, err := rendezvous.Launcher{Host: c.host, Greeting: body}.Launch(ctx)
	if err != nil {
		return nil, err
	}
	client := wire.NewClient(k.Conn, wire.ClientOptions{
		Errors: knownErrors,
		Note:   o.note,
		Lost:   func() error { return fmt.Errorf("%w: process %d has ended%s", ErrKeeperLost, k.PID, k.Exit()) },
	})
	return &session{client, k.PID}, nil
}

// noteEnded is the name of notes about holders that are ended.
const noteEnded = "ended"

// note passes on a note of the keeper.
func (o Options) note(name, text string) {
	if name == noteEnded && o.Ended != nil {
		o.Ended("%s", text)
		return
	}
	o.Log("%s", text)
}

// SweepSockets removes the sockets, with their directories, to which keepers of killed
// builds were to connect. Those of running builds and of other users stay.
func SweepSockets() { rendezvous.Sweep() }

// Shell has the host's shell run a command, as Keeper.Shell does.
func (c *Client) Shell(ctx context.Context, command string, out func(line string)) error {
	return c.host.Run(ctx, command, out)
}

func (c *Client) session() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// PID returns the process id of the keeper.
func (c *Client) PID() int { return c.session().pid }

// Guard returns a context that ends with the keeper, with ErrKeeperLost as its cause. stop
// releases it.
func (c *Client) Guard(ctx context.Context) (guarded context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := c.session()
	go func() {
		select {
		case <-s.Done():
			cancel(s.Err())
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// Stay makes all mounts stay when this client is closed.
func (c *Client) Stay(ctx context.Context) error {
	_, err := c.session().Call(ctx, stayName, nil)
	if errors.Is(err, ErrKeeperLost) {
		return nil // then nobody unmounts
	}
	return err
}

// Close ends the keeper and waits for that. Remaining roots are left, except one that Leave
// has found in use: it is not tried for as long again.
func (c *Client) Close() error {
	c.mu.Lock()
	s, stuck := c.current, c.stuck
	c.mu.Unlock()
	if stuck {
		_ = c.Stay(context.Background()) // else the keeper tries once more
	}
	_ = s.CloseWrite() // it can be gone already
	select {
	case <-s.Done():
		return nil
	case <-time.After(DefaultKeeperTimeout):
		return fmt.Errorf("the keeper, process %d, does not end", s.pid)
	}
}

// Revive starts a new keeper if the old one is gone, and hands over the old one's roots. The
// commands that ran in them are killed.
func (c *Client) Revive(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current.Err() == nil {
		return nil
	}
	s, err := c.launch(ctx)
	if err != nil {
		return err
	}
	for _, root := range c.roots {
		old := orphanRoot{Keeper: c.current.pid, Path: root.path, Device: root.device, Block: root.block, Made: root.made}
		if _, err := callAdopt.on(ctx, s, old); err != nil {
			return errors.Join(err, s.Close())
		}
	}
	c.current = s
	return nil
}

// orphanRoot is a root of a keeper that is gone.
type orphanRoot struct {
	// Keeper is the keeper's process id.
	Keeper       int
	Path, Device string
	Block        blockdev.Identity
	Made         []string
}

var callAdopt = operation("adopt", func(_ context.Context, r request, i orphanRoot) (wire.Empty, error) {
	m := &MountedRoot{keeper: r.keeper, path: i.Path, device: i.Device, block: i.Block, made: i.Made, groups: cgroup.LeftBy(i.Keeper)}
	path, err := filepath.EvalSymlinks(i.Path)
	if err == nil {
		m.real = path
	}
	r.keeper.add(m)
	r.keeper.kill(m)
	return wire.Empty{}, rootfs.IgnoreMissing(err)
})

var callMount = operation("mount", func(ctx context.Context, r request, spec MountSpec) (blockdev.Identity, error) {
	m, err := r.keeper.Mount(ctx, spec)
	if err != nil {
		return blockdev.Identity{}, err
	}
	return m.block, nil
})

// Mount mounts a root, as Keeper.Mount does.
func (c *Client) Mount(ctx context.Context, spec MountSpec) (*Remote, error) {
	s := c.session()
	r := &Remote{session: s, path: filepath.Clean(spec.Path), device: spec.Device, made: hostdir.Missing(spec.Path)}
	c.mu.Lock()
	c.roots[r.path] = r
	c.mu.Unlock()
	spec.PassEnvironment = slices.Concat(spec.PassEnvironment, c.setByWrapper())
	block, err := callMount.on(ctx, s, spec)
	if err != nil {
		if s.Err() == nil { // otherwise the mount may still exist
			c.forget(r.path)
		}
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.block = block
	return r, nil
}

// setByWrapper returns the names of the variables that the user's wrapper sets.
func (c *Client) setByWrapper() []string {
	line, err := c.host.Wrap("")
	if err != nil {
		return nil // it was good enough to start the keeper
	}
	return assigned(line)
}

func (c *Client) forget(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.roots, path)
}

var callLeave = operation("leave", func(ctx context.Context, r request, path string) (wire.Empty, error) {
	return wire.Empty{}, r.keeper.Leave(ctx, path)
})

// Leave leaves a root, as Keeper.Leave does, through a new keeper if the old one is gone.
func (c *Client) Leave(ctx context.Context, path string) error {
	if err := c.Revive(ctx); err != nil {
		return fmt.Errorf("cannot leave %s: %w", path, err)
	}
	path = filepath.Clean(path)
	_, err := callLeave.Call(ctx, c, path)
	c.mu.Lock()
	c.stuck = errors.Is(err, unix.EBUSY) && ctx.Err() == nil
	c.mu.Unlock()
	if err != nil {
		return err
	}
	c.forget(path)
	return nil
}
