package lazydisk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/procfs"
)

// Process is the process of a block server. It can be stored.
type Process struct {
	PID int
	// Since is its start time in clock ticks since the boot.
	Since uint64
	// Boot is the kernel's boot_id.
	Boot string
}

// ProcessOf returns a running process.
func ProcessOf(pid int) (p Process, err error) {
	p.PID = pid
	if p.Since, err = procfs.StartTime(pid); err != nil {
		return p, err
	}
	p.Boot, err = procfs.BootID()
	return p, err
}

// killTimeout is how long a killed process may take to end.
const killTimeout = 10 * time.Second

// Kill kills the block server of an owner that has ended, and waits until it has ended. It returns nil
// if it has ended before. A process that is not a block server of this user is not killed.
func (p Process) Kill() error {
	boot, err := procfs.BootID()
	if err != nil || p.PID == 0 || p.Boot != boot {
		return err
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err == nil {
		defer unix.Close(fd)
	}
	if !p.Runs() {
		return nil
	}
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("cannot kill the block server, process %d: %w", p.PID, err)
	}
	for deadline := time.Now().Add(killTimeout); p.Runs(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("the block server, process %d, does not end", p.PID)
		}
	}
	return nil
}

// Runs reports whether the process has not ended.
func (p Process) Runs() bool {
	since, err := procfs.StartTime(p.PID)
	return err == nil && since == p.Since
}

// check returns an error if the process is not a block server: a record can name any process.
func (p Process) check() error {
	dir := fmt.Sprintf("/proc/%d", p.PID)
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return err
	}
	program, _ := os.Readlink(dir + "/exe")
	own, _ := os.Readlink("/proc/self/exe")
	args := procfs.Arguments(p.PID)
	ours := program == own || strings.HasPrefix(filepath.Base(program), "packer-plugin-")
	if int(st.Uid) != os.Geteuid() || len(args) < 2 || args[1] != Arg || !ours {
		return fmt.Errorf("process %d is not a block server, and is not killed", p.PID)
	}
	return nil
}
