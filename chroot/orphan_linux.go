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
	"github.com/packer-chroot/packer-plugin-chroot/chroot/procfs"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rendezvous"
)

// stoppedFor is how long the keeper of a killed build must be stopped before it is continued: a
// tracer stops it for moments.
const stoppedFor = 500 * time.Millisecond

// ContinueTimeout is how long a stopped keeper may take to run again after it was continued, before
// it is killed.
const ContinueTimeout = time.Second

// awaitKeeper waits until the keeper of a killed build has ended: it leaves its roots by
// itself. A stopped keeper is continued, or killed if it does not continue.
func (k *Keeper) awaitKeeper(ctx context.Context, r RootRecord) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(k.keeperTimeout, DefaultKeeperTimeout))
	defer cancel()
	p := orphanedKeeper{RootRecord: r, log: k.log}
	for {
		if since, err := procfs.StartTime(r.Keeper); err != nil || since != r.Since {
			return nil
		}
		p.resume()
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
	// halt is the reason why it does not run, as the end of a sentence, and since the time
	// at which that was seen first.
	halt  string
	since time.Time
	// continued reports whether it was continued, and refused is the error of a signal.
	continued bool
	refused   error
}

// because returns the known reason why the keeper has not ended, as the end of a sentence.
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

// resume lets a stopped keeper go on. One that a signal has stopped is continued once. If it
// stays stopped, or is frozen, it is killed, and this process leaves its root.
func (p *orphanedKeeper) resume() {
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
	case (p.continued || halt != isStopped) && stopped > ContinueTimeout:
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

// checkKeeper returns an error if a process is not a keeper of this user: a journal can
// name any process.
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
		return errors.New("the process is not a keeper, and is left alone")
	}
	return nil
}

// isStopped is the result of haltOf for a process that a signal or a tracer has stopped.
const isStopped = "is stopped"

// haltOf returns the reason why a process does not run, as the end of a sentence. It is
// empty if the process can run.
func haltOf(pid int) string {
	if procfs.IsStopped(pid) {
		return isStopped
	}
	if dir := cgroup.FrozenIn(pid); dir != "" {
		return "is in the frozen cgroup " + dir
	}
	return ""
}
