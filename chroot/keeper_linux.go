package chroot

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/cgroup"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/command"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/holders"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/procfs"
)

// busyLimit is how long a root that is in use is tried to be left.
const busyLimit = 10 * time.Second

// graceLimit is how long processes may take to end when they are asked to.
const graceLimit = 2 * time.Second

// hurriedGrace is the same when the plugin is gone.
const hurriedGrace = 200 * time.Millisecond

// Options say how a Keeper works.
type Options struct {
	// Wrapper puts a shell command of the host into the user's command_wrapper. Nil
	// leaves it as it is.
	Wrapper func(command string) (string, error)
	// Busy is how long Leave tries again while something holds the root; 0 means
	// ten seconds.
	Busy time.Duration
	// Grace is how long what Leave asks to end may take, before it is killed; 0 means
	// two seconds.
	Grace time.Duration
	// Patience is how long the keeper of a killed build may take to leave its root before
	// Reclaim gives up; 0 means a little more than a keeper tries to.
	Patience time.Duration
	// Log is told what Leave ends, and how; nil tells nobody.
	Log func(format string, args ...any)
	// UID answers the effective user; nil means this process's.
	UID func() int
}

// Keeper mounts roots and leaves them again. What it knows of them, such as which
// directories it made, lives as long as it does. A build has one in a process of
// its own, which a Client speaks to.
type Keeper struct {
	host     command.Host
	busy     time.Duration
	grace    time.Duration
	patience time.Duration
	log      func(format string, args ...any)
	// environ is what commands get their environment from.
	environ func() []string
	// newGroup creates the cgroup of a command.
	newGroup func() (*cgroup.Group, error)
	// ancestors are the processes that started this one. They are not ended, even if they
	// are not its parents any more.
	ancestors procfs.Set
	// hurried says that nobody waits for this keeper any more.
	hurried atomic.Bool

	mu    sync.Mutex
	roots map[string]*Mounted
}

var errNeedsRoot = fmt.Errorf("%w: run packer as root, or give a command_wrapper such as \"sudo {{.Command}}\"", ErrNotRoot)

// Start makes a keeper in this process. It fails, wrapping ErrNotRoot, without root's rights.
func Start(o Options) (*Keeper, error) {
	o = o.orDefault()
	if o.UID() != 0 {
		return nil, errNeedsRoot
	}
	host, err := command.NewHost(o.Wrapper)
	if err != nil {
		return nil, err
	}
	return &Keeper{
		host: host, busy: o.Busy, grace: o.Grace, patience: o.Patience, log: o.Log,
		environ: os.Environ, newGroup: cgroup.New, ancestors: procfs.Ancestors(), roots: map[string]*Mounted{},
	}, nil
}

func (o Options) orDefault() Options {
	o.Busy, o.Grace = cmp.Or(o.Busy, busyLimit), cmp.Or(o.Grace, graceLimit)
	if o.UID == nil {
		o.UID = os.Geteuid
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	return o
}

// add remembers a root that is about to be mounted.
func (k *Keeper) add(m *Mounted) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.roots[m.path] = m
}

func (k *Keeper) forget(m *Mounted) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.roots, m.path)
	m.namespaces.Close()
}

// at is the root that this keeper mounted at a path, or nil.
func (k *Keeper) at(path string) *Mounted {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.roots[filepath.Clean(path)]
}

// done keeps a command's group while there is something in it, such as a daemon
// that the command has left behind.
func (k *Keeper) done(m *Mounted, g *cgroup.Group) {
	if g.Remove() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	m.groups = append(m.groups, g)
}

// dissolve removes the groups of a root that have nothing in them any more.
func (k *Keeper) dissolve(m *Mounted) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m.groups = slices.DeleteFunc(m.groups, (*cgroup.Group).Remove)
}

// graceNow is how long processes may take to end now.
func (k *Keeper) graceNow() time.Duration {
	if k.hurried.Load() {
		return min(k.grace, hurriedGrace)
	}
	return k.grace
}

// kill kills every process that commands have left in a root, and every other process
// inside it.
func (k *Keeper) kill(m *Mounted) {
	cgroup.KillAll(k.groupsOf(m), command.KillTimeout)
	if m.real != "" && !m.replaced() {
		holders.KillInside(m.real)
	}
	k.dissolve(m)
}

// groupsOf returns the cgroups that the root's commands have left processes in.
func (k *Keeper) groupsOf(m *Mounted) []*cgroup.Group {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(m.groups)
}

// all are the roots that are mounted.
func (k *Keeper) all() []*Mounted {
	k.mu.Lock()
	defer k.mu.Unlock()
	roots := make([]*Mounted, 0, len(k.roots))
	for _, m := range k.roots {
		roots = append(roots, m)
	}
	return roots
}
