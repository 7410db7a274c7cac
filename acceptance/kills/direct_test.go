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
		harness.Victims
	}{
		{harness.Before("StartSnapshot"), harness.ThePlugin},
		{harness.After("StartSnapshot"), harness.Everybody},
		{harness.Before("GetSnapshotBlock"), harness.ThePlugin},
		{harness.Before("GetSnapshotBlock"), harness.TheKeeper},
		{harness.Provisioning, harness.ThePlugin},
		{harness.Provisioning, harness.TheKeeper},
		{harness.Provisioning, harness.Everybody},
		{harness.After("PutSnapshotBlock"), harness.ThePlugin},
		{harness.Before("CompleteSnapshot"), harness.Everybody},
		{harness.After("CompleteSnapshot"), harness.TheKeeper},
		{harness.After("RegisterImage"), harness.Everybody},
	} {
		t.Run(fmt.Sprintf("%v, %s", test.Moment, test.Victims), func(t *testing.T) {
			b := b.In(t)
			b.ForgetBlocks() // so that blocks are fetched
			b.KillAt(harness.Direct, test.Moment, test.Victims)
			b.Reaped(harness.Direct, before)
		})
	}
}

// TestDirectLosesAProcess: if the keeper or the block server is killed, or the block server is stopped and
// the build cancelled, the build fails and undoes everything.
func TestDirectLosesAProcess(t *testing.T) {
	b := outside(t)
	before := b.Inventory()
	for whom, says := range map[harness.Victims]string{
		harness.OnlyServer: "the block server of the disk has ended",
		harness.OnlyKeeper: "the keeper, which has the build's mounts, is gone",
	} {
		t.Run(string(whom), func(t *testing.T) {
			b := b.In(t)
			u := b.Begin(harness.Direct, harness.Shell("(setsid sleep 1000 &) ; sleep 1000"))
			u.Until(harness.Deadline, "at work", func() bool { return u.Inside() >= 3 })
			u.KillOnly(harness.Direct, whom)
			if err := u.Cmd.Wait(); err == nil || !strings.Contains(harness.Flat(u.Out.String()), says) {
				t.Errorf("%v, and it does not say %q:\n%s", err, says, u.Out)
			}
			b.Clean()
			b.Unchanged(before)
		})
	}
}
