package chroot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/cgroup"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/command"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/procfs"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rendezvous"
)

const (
	// stoppedFor is how long the keeper of a killed build must be stopped before
	// something is done about it: a tracer stops it for moments.
	stoppedFor = 500 * time.Millisecond
	// continuedFor is how long it may then take to continue, before it is killed.
	continuedFor = time.Second
)

// keeperEnded waits until the keeper of a killed build has ended: it leaves its roots by
// itself. If the keeper is stopped, it is continued, or killed if it does not continue.
func (k *Keeper) keeperEnded(ctx context.Context, r RootRecord) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(k.patience, abandonedLimit+command.KillTimeout))
	defer cancel()
	p := orphanedKeeper{RootRecord: r, log: k.log}
	for {
		if since, err := procfs.StartTime(r.Keeper); err != nil || since != r.Since {
			return nil
		}
		p.rouse()
		select {
		case <-ctx.Done():
			return fmt.Errorf("its keeper, process %d, does not end%s: %w", r.Keeper, p.because(), context.Cause(ctx))
		case <-time.After(retryAfter):
		}
	}
}

// orphanedKeeper is the keeper of a killed build.
type orphanedKeeper struct {
	RootRecord
	log func(format string, args ...any)
	// halt is how it is stopped, and since when.
	halt  string
	since time.Time
	// continued and refused are what came of rousing it.
	continued bool
	refused   error
}

// because explains why the keeper has not ended, as far as is known.
func (p *orphanedKeeper) because() string {
	why := ""
	if p.halt != "" {
		why = " because it " + p.halt
	}
	if p.refused != nil {
		why += fmt.Sprintf(" (%v)", p.refused)
	}
	return why
}

// rouse has a stopped keeper go on. What a signal has stopped is continued once; if it
// stays stopped, or is frozen, it is killed, and this process does its work.
func (p *orphanedKeeper) rouse() {
	halt := haltOf(p.Keeper)
	if halt == "" || p.halt == "" {
		p.halt, p.since = halt, time.Now()
		return
	}
	p.halt = halt
	switch stopped := time.Since(p.since); {
	case !p.continued && halt == isStopped && stopped > stoppedFor:
		p.continued, p.since = true, time.Now()
		p.signal(unix.SIGCONT, "continuing")
	case (p.continued || halt != isStopped) && stopped > continuedFor:
		p.since = time.Now()
		p.signal(unix.SIGKILL, "killing")
		cgroup.Thaw(p.Keeper)
	}
}

// signal sends a signal to the keeper, if the process is the keeper.
func (p *orphanedKeeper) signal(signal unix.Signal, doing string) {
	fd, err := unix.PidfdOpen(p.Keeper, 0)
	if err != nil {
		return // it has ended
	}
	defer unix.Close(fd)
	if since, err := procfs.StartTime(p.Keeper); err != nil || since != p.Since {
		return
	}
	if p.refused = checkKeeper(p.Keeper); p.refused != nil {
		return
	}
	p.log("%s the keeper of a killed build, process %d, which %s", doing, p.Keeper, p.halt)
	p.refused = unix.PidfdSendSignal(fd, signal, nil, 0)
}

// checkKeeper fails if a process is no keeper of this user's: a journal can name any.
func checkKeeper(pid int) error {
	dir := fmt.Sprintf("/proc/%d", pid)
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return err
	}
	program, _ := os.Readlink(dir + "/exe")
	own, _ := os.Readlink("/proc/self/exe")
	args := procfs.Arguments(pid)
	ours := program == own || strings.HasPrefix(filepath.Base(program), "packer-plugin-")
	if int(st.Uid) != os.Geteuid() || len(args) < 2 || args[1] != rendezvous.Arg || !ours {
		return errors.New("the process is no keeper, and is left alone")
	}
	return nil
}

// isStopped is what haltOf returns of a process that a signal or a tracer has stopped.
const isStopped = "is stopped"

// haltOf returns why a process does not run, as the end of a sentence; it is empty if
// nothing keeps it from running.
func haltOf(pid int) string {
	if procfs.IsStopped(pid) {
		return isStopped
	}
	if dir := cgroup.FrozenIn(pid); dir != "" {
		return "is in the frozen cgroup " + dir
	}
	return ""
}
