package kills

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// outside starts a cloud on a machine that is no instance of it.
func outside(t *testing.T) *harness.Box {
	harness.NeedRoot(t)
	t.Parallel()
	return harness.New(t, harness.Direct.Host()...)
}

// TestDirectKilled kills direct builds at some of their moments, and cleans up.
func TestDirectKilled(t *testing.T) {
	b := outside(t)
	before := b.Inventory()
	for _, test := range []struct {
		harness.Moment
		harness.Target
	}{
		{harness.Before("StartSnapshot"), harness.KillPlugin},
		{harness.After("StartSnapshot"), harness.KillEverything},
		{harness.Before("GetSnapshotBlock"), harness.KillPlugin},
		{harness.Before("GetSnapshotBlock"), harness.KillPluginAndKeeper},
		{harness.Provisioning, harness.KillPlugin},
		{harness.Provisioning, harness.KillPluginAndKeeper},
		{harness.Provisioning, harness.KillEverything},
		{harness.After("PutSnapshotBlock"), harness.KillPlugin},
		{harness.Before("CompleteSnapshot"), harness.KillEverything},
		{harness.After("CompleteSnapshot"), harness.KillPluginAndKeeper},
		{harness.After("RegisterImage"), harness.KillEverything},
	} {
		t.Run(fmt.Sprintf("%v, %s", test.Moment, test.Target), func(t *testing.T) {
			b := b.In(t)
			b.ForgetBlocks() // so that blocks are fetched
			b.KillAt(harness.Direct, test.Moment, test.Target)
			b.Reaped(harness.Direct, before)
		})
	}
}

// busy is a provisioner that writes to the disk all the time.
var busy = harness.Shell("(setsid sleep 1000 &) ; while true; do dd if=/dev/zero of=/root/file bs=1k count=64 2>/dev/null; sync; done")

// held waits until a call of an action is held.
func held(u *harness.Underway, action string) {
	u.Helper()
	var calls []struct{ Action string }
	u.Control(http.MethodGet, "held?wait=60s", nil, &calls)
	if len(calls) == 0 || calls[0].Action != action {
		_ = u.Cmd.Process.Kill()
		u.Fatalf("the build does not call %s, held are %v: %v\n%s", action, calls, u.Cmd.Wait(), u.Out)
	}
}

// TestDirectLosesAProcess: if the keeper or the block server is killed, or the block server is stopped, the
// build fails, says why, and undoes everything. No process waits for the disk after that.
func TestDirectLosesAProcess(t *testing.T) {
	b := outside(t)
	b.Env = append(b.Env, "PACKER_CHROOT_PATIENCE=6s")
	before := b.Inventory()
	const silent = "which serves all reads and writes of /dev/loop"
	for _, test := range []struct {
		name string
		// at is the call at which it happens; "" is a provisioner that writes.
		at     string
		target harness.Target
		signal syscall.Signal
		says   string
	}{
		{"server killed", "", harness.KillServer, syscall.SIGKILL, "the block server of the disk has ended"},
		{"keeper killed", "", harness.KillKeeper, syscall.SIGKILL, "the keeper, which has the build's mounts, is gone"},
		{"server stopped", "", harness.KillServer, syscall.SIGSTOP, silent},
		{"server killed while it starts", "ListSnapshotBlocks", harness.KillServer, syscall.SIGKILL, "block server"},
		{"server stopped while it starts", "ListSnapshotBlocks", harness.KillServer, syscall.SIGSTOP, "the block server of the root's disk has not responded"},
		{"server killed during the upload", "PutSnapshotBlock", harness.KillServer, syscall.SIGKILL, "block server"},
		{"server stopped during the upload", "PutSnapshotBlock", harness.KillServer, syscall.SIGSTOP, silent},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := b.In(t)
			b.ForgetBlocks()
			provisioner := busy
			if test.at != "" {
				b.Control(http.MethodPost, "faults", harness.O{"action": test.at, "hold": "before", "times": 1}, nil)
				provisioner = harness.Shell("dd if=/bin/busybox of=/root/file")
			}
			u := b.Begin(harness.Direct, provisioner)
			if test.at != "" {
				held(u, test.at)
			} else {
				u.Until(harness.Deadline, "at work", func() bool { return u.Inside() >= 3 })
			}
			u.Signal(harness.Direct, test.target, test.signal)
			b.GoOn()
			if err := u.Cmd.Wait(); err == nil || !strings.Contains(harness.Flat(u.Out.String()), test.says) {
				t.Errorf("%v, and it does not say %q:\n%s", err, test.says, u.Out)
			}
			u.Until(harness.Deadline, "ended", func() bool { return len(harness.ProcessesWith(b.Marker)) == 0 })
			b.Clean()
			b.Unchanged(before)
			if t.Failed() {
				t.Logf("the build said:\n%s", u.Out)
			}
		})
	}
}

// TestDirectServerWithoutKeeper: a block server whose keeper is killed before it has reported it ends by itself,
// also while the plugin does not respond.
func TestDirectServerWithoutKeeper(t *testing.T) {
	b := outside(t)
	before := b.Inventory()
	b.Control(http.MethodPost, "faults", harness.O{"action": "ListSnapshotBlocks", "hold": "before", "times": 1}, nil)
	u := b.Begin(harness.Direct, harness.Shell("true"))
	held(u, "ListSnapshotBlocks")
	plugin := u.Process("packer-plugin-"+harness.Direct.Name, "start")
	b.Must(syscall.Kill(plugin, syscall.SIGSTOP))
	server := u.Process("packer-plugin-"+harness.Direct.Name, harness.ServeDisk)
	if server == 0 {
		t.Error("there is no block server")
	}
	u.KillOnly(harness.Direct, harness.KillKeeper)
	u.Until(harness.Deadline, "without a block server", func() bool {
		_, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", server))
		return err != nil
	})
	b.Must(syscall.Kill(plugin, syscall.SIGCONT))
	b.GoOn()
	if err := u.Cmd.Wait(); err == nil {
		t.Errorf("the build ended well:\n%s", u.Out)
	}
	b.Clean()
	b.Unchanged(before)
}
