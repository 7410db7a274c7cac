package holders

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/cgroup"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/procfs"
)

// killTimeout is how long the kernel may take to end a killed process.
const killTimeout = time.Second

// Ender ends the processes that hold a root. It asks them to end only once, even if End is
// called several times.
type Ender struct {
	opt   Options
	asked bool
	// spared are the processes that are not ended.
	spared procfs.Set
}

// Options are the options of an ender. All are required.
type Options struct {
	// Path is the root's path, for errors.
	Path string
	// Footprint returns the present footprint of the root.
	Footprint func() (Footprint, error)
	// Groups returns the cgroups of the commands that have run in the root.
	Groups func() []*cgroup.Group
	// Spared are processes that are not ended, besides this one and its parents.
	Spared procfs.Set
	// Limit bounds an attempt, and Grace returns how long processes may take to end after
	// they were asked, which is added.
	Limit time.Duration
	Grace func() time.Duration
	// Log is called with every process that is ended.
	Log func(format string, args ...any)
}

// New returns an Ender.
func New(o Options) *Ender { return &Ender{opt: o} }

// End ends every process that holds the root or was started by one of the root's
// commands, until there is none. It sends each of them SIGTERM once. After the grace
// period it kills the commands' cgroups, which ends processes that fork all the time too,
// and every remaining holder. The log names each process.
//
// This process and its parents are not ended, though the shell that started Packer may
// have its directory in the root, and a process that sleeps in the kernel cannot be ended:
// the error is an EBUSY that names them.
func (e *Ender) End(ctx context.Context) error {
	e.spared = procfs.Ancestors()
	maps.Copy(e.spared, e.opt.Spared)
	deadline := time.Now().Add(e.opt.Limit + e.opt.Grace())
	for thorough := false; ; {
		spared, found, err := e.find(thorough)
		if err != nil {
			return err
		}
		if len(found) == 0 && thorough && !cgroup.KillAll(e.opt.Groups(), killTimeout) {
			return stillHeld(e.opt.Path, spared)
		}
		thorough = len(found) == 0 // few processes hold only a mapped file
		left := e.endAll(ctx, found)
		closeHolders(found)
		if err := context.Cause(ctx); err != nil {
			return errors.Join(err, stillHeld(e.opt.Path, found))
		}
		if len(left) > 0 || time.Now().After(deadline) {
			return stillHeld(e.opt.Path, found)
		}
	}
}

// find returns the holders and the processes of the commands' cgroups, and those that are
// spared separately. If thorough, it reads mapped files too.
func (e *Ender) find(thorough bool) (spared, found []Holder, err error) {
	r, err := e.opt.Footprint()
	if err != nil {
		return nil, nil, err
	}
	r.Thorough = thorough
	spared, found = e.split(r)
	return spared, append(found, e.members(found)...), nil
}

// spares reports whether a process is not ended.
func (e *Ender) spares(pid int) bool { return e.spared.Has(pid) }

// split returns the holders, and those that are spared separately.
func (e *Ender) split(r Footprint) (spared, found []Holder) {
	for _, h := range r.Holders() {
		if e.spares(h.pid) {
			spared = append(spared, h)
			continue
		}
		fd, err := unix.PidfdOpen(h.pid, 0)
		if err != nil {
			continue // it has ended
		}
		if h.fd = fd; r.heldBy(h.pid) == "" { // it has ended, and another process has its id
			unix.Close(fd)
			continue
		}
		found = append(found, h)
	}
	return spared, found
}

// members returns the processes of the commands' cgroups that are neither spared nor known
// already.
func (e *Ender) members(known []Holder) []Holder {
	var found []Holder
	for _, g := range e.opt.Groups() {
		for _, pid := range g.Processes() {
			same := func(h Holder) bool { return h.pid == pid }
			if e.spares(pid) || slices.ContainsFunc(known, same) {
				continue
			}
			h := Holder{pid: pid, description: procfs.Describe(pid), how: "a command of the build has started"}
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue // it has ended
			}
			if h.fd = fd; !g.Has(pid) { // another process has its id
				unix.Close(fd)
				continue
			}
			found = append(found, h)
		}
	}
	return found
}

// endAll asks processes to end, waits, and kills them. It returns those that do not end.
func (e *Ender) endAll(ctx context.Context, all []Holder) []Holder {
	if !e.asked && len(all) > 0 {
		e.asked = true
		e.signal(all, unix.SIGTERM, "ending")
		if all = ended(ctx, all, e.opt.Grace()); len(all) == 0 || ctx.Err() != nil {
			return nil
		}
	}
	e.signal(all, unix.SIGKILL, "killing")
	cgroup.KillAll(e.opt.Groups(), killTimeout)
	for _, h := range all {
		if unix.PidfdSendSignal(h.fd, 0, nil, 0) == nil {
			cgroup.Thaw(h.pid)
		}
	}
	return ended(ctx, all, killTimeout)
}

// signal logs and sends a signal. A stopped process is continued, so that it gets it.
func (e *Ender) signal(all []Holder, signal unix.Signal, doing string) {
	for _, h := range all {
		e.opt.Log("%s %s", doing, h)
		_ = unix.PidfdSendSignal(h.fd, signal, nil, 0)
		_ = unix.PidfdSendSignal(h.fd, unix.SIGCONT, nil, 0)
	}
}

// ended waits until processes have ended, and returns those that have not in time.
func ended(ctx context.Context, all []Holder, within time.Duration) []Holder {
	const slice = 50 * time.Millisecond // after which ctx is checked
	all = append([]Holder(nil), all...)
	for deadline := time.Now().Add(within); len(all) > 0; {
		polled := make([]unix.PollFd, len(all))
		for i, h := range all {
			polled[i] = unix.PollFd{Fd: int32(h.fd), Events: unix.POLLIN}
		}
		left := min(slice, time.Until(deadline))
		if left <= 0 || ctx.Err() != nil {
			return all
		}
		_, _ = unix.Poll(polled, int(left.Milliseconds())+1)
		var still []Holder
		for i, h := range all {
			if polled[i].Revents == 0 {
				still = append(still, h)
			}
		}
		all = still
	}
	return nil
}

// closeHolders closes the pidfds of holders.
func closeHolders(all []Holder) {
	for _, h := range all {
		unix.Close(h.fd)
	}
}

// stillHeld returns an EBUSY that names the holders, or nil if there are none.
func stillHeld(what string, by []Holder) error {
	if len(by) == 0 {
		return nil
	}
	var names []string
	for _, h := range by {
		names = append(names, h.String())
	}
	return Busy(what, func() []string { return names })
}

// KillInside kills every process whose root is at or below a path, and those that they
// start in the meantime.
func KillInside(root string) {
	const passes = 20
	for range passes {
		if !killOnce(root) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// killOnce kills those that there are, and reports whether there were any.
func killOnce(root string) bool {
	r, err := Take(root, nil, nil)
	if err != nil {
		return false
	}
	found := false
	for _, pid := range procfs.Processes() {
		if r.leadsTo(rootOf(pid)) && r.kill(pid) {
			found = true
		}
	}
	return found
}

// kill kills a process whose root is there, and never another one that has its id since. It
// reports whether there was one.
func (r Footprint) kill(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return r.leadsTo(rootOf(pid)) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}

// rootOf returns the path of a process's root in /proc.
func rootOf(pid int) string { return fmt.Sprintf("/proc/%d/root", pid) }

// Busy returns an EBUSY about a file in use. by returns its holders, and is called only if
// the error is printed.
func Busy(what string, by func() []string) error { return &busyError{what, by} }

// busyError is an error about a file in use.
type busyError struct {
	what    string
	holders func() []string
}

// Error implements error.
func (e *busyError) Error() string {
	by := "no process that can be found"
	if found := e.holders(); len(found) > 0 {
		by = strings.Join(found, ", ")
	}
	return fmt.Sprintf("%s is in use by %s", e.what, by)
}

// Is reports whether target is EBUSY.
func (e *busyError) Is(target error) bool { return target == unix.EBUSY }
