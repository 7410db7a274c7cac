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

// defaultBusy is how long Leave retries while a root is in use.
const defaultBusy = 10 * time.Second

// defaultGrace is how long processes may take to end after they were asked to.
const defaultGrace = 2 * time.Second

// hurriedGrace is the grace period when the plugin is gone.
const hurriedGrace = 200 * time.Millisecond

// Options are the options of a Keeper.
type Options struct {
	// Wrapper returns a shell command of the host in the user's command_wrapper. Nil
	// returns it as it is.
	Wrapper func(command string) (string, error)
	// Busy is how long Leave retries while the root is in use; 0 means ten seconds.
	Busy time.Duration
	// Grace is how long processes may take to end after Leave has asked them to, before
	// they are killed; 0 means two seconds.
	Grace time.Duration
	// KeeperTimeout is how long the keeper of a killed build may take to leave its root before
	// Reclaim gives up; 0 means DefaultKeeperTimeout.
	KeeperTimeout time.Duration
	// Log is called with every process and resource that Leave ends; nil ignores them.
	Log func(format string, args ...any)
	// Ended is called instead of Log with every process, loop device and swap file that holds a root and is
	// ended; nil means Log.
	Ended func(format string, args ...any)
	// UID returns the effective user; nil means this process's.
	UID func() int
}

// Keeper mounts roots and leaves them again. It knows their state, such as the directories
// that it has created, as long as it exists. A build has one in a process of its own, which
// a Client calls.
type Keeper struct {
	host          command.Host
	busy          time.Duration
	grace         time.Duration
	keeperTimeout time.Duration
	log, ended    func(format string, args ...any)
	// environ returns the environment from which that of commands is selected.
	environ func() []string
	// newGroup creates the cgroup of a command.
	newGroup func() (*cgroup.Group, error)
	// ancestors are the processes that started this one. They are not ended, even if they
	// are not its parents any more.
	ancestors procfs.Set
	// hurried reports whether the plugin is gone.
	hurried atomic.Bool

	mu    sync.Mutex
	roots map[string]*MountedRoot
}

var errNeedsRoot = fmt.Errorf("%w: run packer as root, or give a command_wrapper such as \"sudo {{.Command}}\"", ErrNotRoot)

// Start returns a keeper in this process. It fails, wrapping ErrNotRoot, without root's rights.
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
		host: host, busy: o.Busy, grace: o.Grace, keeperTimeout: o.KeeperTimeout, log: o.Log, ended: o.Ended,
		environ: os.Environ, newGroup: cgroup.New, ancestors: procfs.Ancestors(), roots: map[string]*MountedRoot{},
	}, nil
}

func (o Options) orDefault() Options {
	o.Busy, o.Grace = cmp.Or(o.Busy, defaultBusy), cmp.Or(o.Grace, defaultGrace)
	if o.UID == nil {
		o.UID = os.Geteuid
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Ended == nil {
		o.Ended = o.Log
	}
	return o
}

// add adds a root that is about to be mounted.
func (k *Keeper) add(m *MountedRoot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.roots[m.path] = m
}

func (k *Keeper) forget(m *MountedRoot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.roots, m.path)
	m.namespaces.Close()
}

// at returns the root that this keeper has mounted on a path, or nil.
func (k *Keeper) at(path string) *MountedRoot {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.roots[filepath.Clean(path)]
}

// release removes a command's cgroup, or records it if it has processes, such as a daemon
// that the command has left behind.
func (k *Keeper) release(m *MountedRoot, g *cgroup.Group) {
	if g.Remove() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	m.groups = append(m.groups, g)
}

// removeGroups removes the cgroups of a root that are empty.
func (k *Keeper) removeGroups(m *MountedRoot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m.groups = slices.DeleteFunc(m.groups, (*cgroup.Group).Remove)
}

// graceNow returns how long processes may take to end now.
func (k *Keeper) graceNow() time.Duration {
	if k.hurried.Load() {
		return min(k.grace, hurriedGrace)
	}
	return k.grace
}

// kill kills every process that commands have left in a root, and every other process
// inside it.
func (k *Keeper) kill(m *MountedRoot) {
	cgroup.KillAll(k.groupsOf(m), command.KillTimeout)
	if m.real != "" && !m.replaced() {
		holders.KillInside(m.real)
	}
	k.removeGroups(m)
}

// groupsOf returns the cgroups that the root's commands have left processes in.
func (k *Keeper) groupsOf(m *MountedRoot) []*cgroup.Group {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(m.groups)
}

// all returns the mounted roots.
func (k *Keeper) all() []*MountedRoot {
	k.mu.Lock()
	defer k.mu.Unlock()
	roots := make([]*MountedRoot, 0, len(k.roots))
	for _, m := range k.roots {
		roots = append(roots, m)
	}
	return roots
}
