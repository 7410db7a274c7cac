package chroot

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// busyLimit is how long a root that is in use is tried to be left.
const busyLimit = 10 * time.Second

// graceLimit is how long processes may take to end when they are asked to.
const graceLimit = 2 * time.Second

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
	// Log is told what Leave ends, and how; nil tells nobody.
	Log func(format string, args ...any)
	// UID answers the effective user; nil means this process's.
	UID func() int
}

// Keeper mounts roots and leaves them again. What it knows of them, such as which
// directories it made, lives as long as it does.
type Keeper struct {
	// wrapper is nil where commands are run as they are.
	wrapper func(string) (string, error)
	busy    time.Duration
	grace   time.Duration
	log     func(format string, args ...any)

	mu    sync.Mutex
	roots map[string]*Mounted
}

// Start makes a keeper. It fails, wrapping ErrNotRoot, without root's rights.
func Start(o Options) (*Keeper, error) {
	o = o.orDefault()
	if o.UID() != 0 {
		return nil, fmt.Errorf("%w: run packer as root (command_wrapper is for commands, and cannot mount)", ErrNotRoot)
	}
	wrapper, err := effective(o.Wrapper)
	if err != nil {
		return nil, err
	}
	return &Keeper{wrapper: wrapper, busy: o.Busy, grace: o.Grace, log: o.Log, roots: map[string]*Mounted{}}, nil
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

// effective is nil for a wrapper that changes nothing, as the default one.
func effective(wrapper func(string) (string, error)) (func(string) (string, error), error) {
	if wrapper == nil {
		return nil, nil
	}
	const probe = "true"
	wrapped, err := wrapper(probe)
	if err != nil {
		return nil, fmt.Errorf("command_wrapper: %w", err)
	}
	if wrapped == probe {
		return nil, nil
	}
	return wrapper, nil
}

// wrap puts a command into the wrapper.
func (k *Keeper) wrap(command string) (string, error) {
	if k.wrapper == nil {
		return command, nil
	}
	wrapped, err := k.wrapper(command)
	if err != nil {
		return "", fmt.Errorf("command_wrapper: %w", err)
	}
	return wrapped, nil
}

// keep remembers a root that is about to be mounted.
func (k *Keeper) keep(m *Mounted) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.roots[m.path] = m
}

func (k *Keeper) forget(m *Mounted) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.roots, m.path)
}

// at is the root that this keeper mounted at a path, or nil.
func (k *Keeper) at(path string) *Mounted {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.roots[filepath.Clean(path)]
}
