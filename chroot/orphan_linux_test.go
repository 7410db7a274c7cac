package chroot_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// TestReclaimFromAStoppedKeeper checks that the process that takes over the root does not wait
// until the keeper is continued. Its KeeperTimeout is shorter than the time for which it would
// wait for a keeper that leaves.
func TestReclaimFromAStoppedKeeper(t *testing.T) {
	for name, stop := range map[string]func(t *testing.T, keeper int){
		"by a signal": func(t *testing.T, keeper int) {
			if err := unix.Kill(keeper, unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		},
		"in a frozen cgroup v1": func(t *testing.T, keeper int) { freeze(t, "cgroup v1", keeper) },
		"in a frozen cgroup v2": func(t *testing.T, keeper int) { freeze(t, "cgroup v2", keeper) },
		"again and again": func(t *testing.T, keeper int) {
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			go func() {
				for ctx.Err() == nil && unix.Kill(keeper, unix.SIGSTOP) == nil {
					time.Sleep(time.Millisecond)
				}
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := orphaned(t, false)
			keeper := o.client.PID()
			j := &journal{}
			reclaimer, err := chroot.Launch(t.Context(), chroot.Options{Busy: 300 * time.Millisecond, Log: j.log})
			if err != nil {
				t.Fatal(err)
			}
			defer reclaimer.Close()
			stop(t, keeper)
			go o.client.Close() // as the kernel does for a killed plugin
			ctx, cancel := context.WithTimeout(t.Context(), atMost)
			defer cancel()
			if err := o.reclaim(ctx, reclaimer); err != nil {
				t.Errorf("%v; the log says\n%s", err, j)
				_ = unix.Kill(keeper, unix.SIGKILL)
				_ = unix.Kill(keeper, unix.SIGCONT)
			}
			o.gone(t)
			if !strings.Contains(j.String(), "the keeper of a killed build, process ") || !strings.Contains(j.String(), "which is ") {
				t.Errorf("the log says\n%s", j)
			}
		})
	}
}

// TestReclaimNeverKillsAnother checks that no process is killed that a journal names and that
// is not a keeper.
func TestReclaimNeverKillsAnother(t *testing.T) {
	o := orphaned(t, true)
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if err := unix.Kill(cmd.Process.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	truth := o.RootRecord
	o.Keeper, o.Since = cmd.Process.Pid, startTime(t, cmd.Process.Pid)
	reclaimer, err := chroot.Launch(t.Context(), chroot.Options{KeeperTimeout: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer reclaimer.Close()
	err = o.reclaim(t.Context(), reclaimer)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	says(t, err, "does not end because it is stopped", "is not a keeper, and is left alone")
	if state := stateOf(t, cmd.Process.Pid); state != "T" {
		t.Errorf("the process is in the state %s", state)
	}
	o.untouched(t)
	o.RootRecord = truth
	if err := o.reclaim(t.Context(), reclaimer); err != nil {
		t.Error(err)
	}
}
