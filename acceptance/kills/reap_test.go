package kills

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// TestReapKilledBuilds kills builds at some of their moments, and cleans up.
func TestReapKilledBuilds(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		for _, test := range []struct {
			harness.Moment
			harness.Target
		}{
			{harness.Before("CreateVolume"), harness.KillPlugin},
			{harness.After("CreateVolume"), harness.KillEverything},
			{harness.Before("AttachVolume"), harness.KillEverything},
			{harness.After("AttachVolume"), harness.KillPluginAndKeeper},
			{harness.Provisioning, harness.KillPlugin},
			{harness.Provisioning, harness.KillPluginAndKeeper},
			{harness.Provisioning, harness.KillEverything},
			{harness.After("CreateSnapshot"), harness.KillPlugin},
			{harness.Before("DetachVolume"), harness.KillEverything},
			{harness.Before("RegisterImage"), harness.KillEverything},
			{harness.After("RegisterImage"), harness.KillPluginAndKeeper},
		} {
			t.Run(fmt.Sprintf("%v, %s", test.Moment, test.Target), func(t *testing.T) {
				b := b.In(t)
				b.KillAt(f, test.Moment, test.Target)
				b.Reaped(f, before)
			})
		}
	})
}

// TestReapDryRun checks that a dry run lists the pending acts and changes nothing.
func TestReapDryRun(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		b.KillAt(f, harness.Provisioning, harness.KillEverything)
		left := b.Inventory()
		all, status := b.Reap(f, "--dry-run")
		if status != 1 || len(all) != 1 || all[0].Fate != "due" || len(all[0].Undone) > 0 {
			t.Fatalf("status %d, %+v", status, all)
		}
		for i, part := range []string{"mount of /dev/", "attachment of vol-", "reservation of /dev/", "volume vol-"} {
			if !strings.Contains(all[0].Pending[i], part) {
				t.Errorf("what is %d to go is %q, not %q", i+1, all[0].Pending[i], part)
			}
		}
		b.Unchanged(left)
		if !strings.Contains(harness.Read("/proc/self/mountinfo"), filepath.Join(b.Dir, "mnt")) {
			t.Error("the root is not mounted any more")
		}
		b.Reaped(f, before)
	})
}

// TestNextBuildReaps checks that the next build removes the resources of a killed one, even if both use the same mount
// path.
func TestNextBuildReaps(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		b.KillAt(f, harness.Provisioning, harness.KillEverything)
		out := b.Build(b.Template(f.Basic(map[string]any{"mount_path": filepath.Join(b.Dir, "mnt")}), harness.Shell("true")))
		if !strings.Contains(out, "killed build") {
			t.Errorf("the build does not tell:\n%s", out)
		}
		b.Remove(b.Made().ID)
		b.Unchanged(before)
	})
}

// TestReapOnAnotherPort checks that a cloud that is restarted on another port is recognized.
func TestReapOnAnotherPort(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		b.KillAt(f, harness.Before("AttachVolume"), harness.KillEverything)
		endpoint := b.Endpoint
		b.Stop()
		hold, err := net.Listen("tcp", strings.TrimPrefix(endpoint, "http://")) // so that it gets another port
		b.Must(err)
		defer hold.Close()
		b.Serve()
		b.Env = b.Environment(b.Described(harness.Everything))
		all, status := b.Reap(f)
		if status != 0 || len(all) != 1 || all[0].Fate != "removed" {
			t.Errorf("status %d, %+v", status, all)
		}
		b.Unchanged(before)
	})
}

// TestReapForgets checks that the journal of a cloud that no longer exists can be removed.
func TestReapForgets(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		b.KillAt(f, harness.Before("CreateVolume"), harness.KillEverything)
		all, status := b.Reap(f, "--dry-run")
		if status != 1 || len(all) != 1 || all[0].Fate != "due" {
			t.Fatalf("status %d, %+v", status, all)
		}
		all, status = b.Reap(f, "--forget", all[0].Build)
		if status != 0 || len(all) != 1 || all[0].Fate != "forgotten" || len(all[0].Pending) != 1 {
			t.Errorf("status %d, %+v", status, all)
		}
		if all, status = b.Reap(f); status != 0 || len(all) > 0 {
			t.Errorf("then: status %d, %+v", status, all)
		}
		b.Unchanged(before)
	})
}

// TestReapLeavesRunningBuilds checks that another running build continues.
func TestReapLeavesRunningBuilds(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		started, done := filepath.Join(b.Dir, "started"), filepath.Join(b.Dir, "done")
		u := b.Begin(f,
			map[string]any{"type": "shell-local", "inline": []string{"touch " + started + "; while [ ! -e " + done + " ]; do sleep 0.1; done"}},
			harness.Shell("echo alive > /root/alive"))
		u.Until(harness.Deadline, "at work", func() bool { _, err := os.Stat(started); return err == nil })
		for _, args := range [][]string{nil, {"--dry-run"}} {
			if all, status := b.Reap(f, args...); status != 0 || len(all) != 1 || all[0].Fate != "living" {
				t.Errorf("%v: status %d, %+v", args, status, all)
			}
		}
		b.Must(os.WriteFile(done, nil, 0o600))
		if err := u.Cmd.Wait(); err != nil {
			t.Fatalf("packer build: %v\n%s", err, u.Out)
		}
		b.Clean()
		made := b.Made().ID
		if got := b.Content(b.Disk(made), "/root/alive"); got != "alive\n" {
			t.Errorf("the image holds %q", got)
		}
		b.Remove(made)
		b.Unchanged(before)
	})
}
