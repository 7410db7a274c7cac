package chroot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/cgroup"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/procfs"
)

// lastGasp is how long the kernel may take to end what was killed.
const lastGasp = time.Second

// endAll ends every process that holds the root or was started by one of the root's
// commands, until there is none. It sends each of them SIGTERM once. After a grace
// period it kills the commands' cgroups, which ends processes that fork all the time
// too, and every remaining holder. The log names each process.
//
// This process and its parents are not ended, though the shell that started
// Packer may have its directory in the root, and what sleeps in the kernel
// cannot be: the error is an EBUSY that names them.
func (m *Mounted) endAll(ctx context.Context) error {
	relatives := procfs.Ancestors()
	maps.Copy(relatives, m.keeper.ancestors)
	deadline := time.Now().Add(m.keeper.busy + m.keeper.graceNow())
	for thorough := false; ; {
		kin, others, err := m.look(thorough, relatives)
		if err != nil {
			return err
		}
		if len(others) == 0 && thorough && !m.keeper.killGroups(m, lastGasp) {
			return stillHeld(m.real, kin)
		}
		thorough = len(others) == 0 // those that have no more than a mapped file are few
		left := m.end(ctx, others)
		closeHolders(others)
		if err := context.Cause(ctx); err != nil {
			return errors.Join(err, stillHeld(m.real, others))
		}
		if len(left) > 0 || time.Now().After(deadline) {
			return stillHeld(m.real, others)
		}
	}
}

// look finds the holders and the processes of the commands' cgroups. It returns this
// process and its parents separately. If thorough, it looks at mapped files too.
func (m *Mounted) look(thorough bool, relatives procfs.Set) (kin, others []holder, err error) {
	r, err := m.reach()
	if err != nil {
		return nil, nil, err
	}
	r.maps = thorough
	kin, others = findOthers(r, relatives)
	return kin, append(others, m.keeper.members(m, relatives, others)...), nil
}

// findOthers finds the holders, and sets this process and its parents apart.
func findOthers(r reach, relatives procfs.Set) (kin, others []holder) {
	for _, h := range r.processes() {
		if relatives.Has(h.pid) {
			kin = append(kin, h)
			continue
		}
		fd, err := unix.PidfdOpen(h.pid, 0)
		if err != nil {
			continue // it has ended
		}
		if h.fd = fd; r.of(h.pid) == "" { // it has, and another one has its id
			unix.Close(fd)
			continue
		}
		others = append(others, h)
	}
	return kin, others
}

// end asks, waits, and kills. It answers those that would not even die.
func (m *Mounted) end(ctx context.Context, all []holder) []holder {
	if !m.asked && len(all) > 0 {
		m.asked = true
		m.signal(all, unix.SIGTERM, "ending")
		if all = ended(ctx, all, m.keeper.graceNow()); len(all) == 0 || ctx.Err() != nil {
			return nil
		}
	}
	m.signal(all, unix.SIGKILL, "killing")
	m.keeper.killGroups(m, lastGasp)
	for _, h := range all {
		if unix.PidfdSendSignal(h.fd, 0, nil, 0) == nil {
			cgroup.Thaw(h.pid)
		}
	}
	return ended(ctx, all, lastGasp)
}

// signal tells the log and sends. What is stopped is woken, to hear it.
func (m *Mounted) signal(all []holder, signal unix.Signal, doing string) {
	for _, h := range all {
		m.keeper.log("%s %s", doing, h)
		_ = unix.PidfdSendSignal(h.fd, signal, nil, 0)
		_ = unix.PidfdSendSignal(h.fd, unix.SIGCONT, nil, 0)
	}
}

// ended waits until processes have ended, and answers those that have not in time.
func ended(ctx context.Context, all []holder, within time.Duration) []holder {
	const slice = 50 * time.Millisecond // after which ctx is looked at
	all = append([]holder(nil), all...)
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
		var still []holder
		for i, h := range all {
			if polled[i].Revents == 0 {
				still = append(still, h)
			}
		}
		all = still
	}
	return nil
}

func closeHolders(all []holder) {
	for _, h := range all {
		unix.Close(h.fd)
	}
}

// stillHeld is an EBUSY that names the holders, or nil if there are none.
func stillHeld(what string, by []holder) error {
	if len(by) == 0 {
		return nil
	}
	var names []string
	for _, h := range by {
		names = append(names, h.String())
	}
	return &busyError{what, func() []string { return names }}
}

// killInside kills every process whose root is at or below a path, and those that
// they start meanwhile.
func killInside(root string) {
	const passes = 20
	for range passes {
		if !killOnce(root) {
			return
		}
		time.Sleep(retryAfter / 5)
	}
}

// killOnce says whether there were any.
func killOnce(root string) bool {
	r, err := reachOf(root)
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

// kill kills a process whose root is there, and never another one that has its id
// since. It says whether there was one.
func (r reach) kill(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return r.leadsTo(rootOf(pid)) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}

func rootOf(pid int) string { return fmt.Sprintf("/proc/%d/root", pid) }
