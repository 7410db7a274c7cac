package kills

import (
	"fmt"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// outside starts a cloud on a machine that is no instance of it.
func outside(t *testing.T) *harness.Box {
	harness.NeedRoot(t)
	t.Parallel()
	return harness.New(t, "--hosts", "0")
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

// TestDirectLosesAProcess: if the keeper or the block server is killed, or the block server is stopped and
// the build cancelled, the build fails and undoes everything.
func TestDirectLosesAProcess(t *testing.T) {
	b := outside(t)
	before := b.Inventory()
	for target, says := range map[harness.Target]string{
		harness.KillServer: "the block server of the disk has ended",
		harness.KillKeeper: "the keeper, which has the build's mounts, is gone",
	} {
		t.Run(string(target), func(t *testing.T) {
			b := b.In(t)
			u := b.Begin(harness.Direct, harness.Shell("(setsid sleep 1000 &) ; sleep 1000"))
			u.Until(harness.Deadline, "at work", func() bool { return u.Inside() >= 3 })
			u.KillOnly(harness.Direct, target)
			if err := u.Cmd.Wait(); err == nil || !strings.Contains(harness.Flat(u.Out.String()), says) {
				t.Errorf("%v, and it does not say %q:\n%s", err, says, u.Out)
			}
			b.Clean()
			b.Unchanged(before)
		})
	}
}
