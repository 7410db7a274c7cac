package kills

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// sampledActs is how many local acts of each cloud are killed at otherwise.
const sampledActs = 4

// sampledReaps is the same of the command reap.
const sampledReaps = 2

// useOwnLocks keeps the builds' acts free of those on reservations of other killed builds, which a build removes from a
// shared lock directory.
func (k *killing) useOwnLocks() {
	k.ownLocks = true
	k.Env = append(k.Env, "PACKER_CHROOT_LOCK_DIR="+filepath.Join(k.Dir, "lock"))
}

// traced starts a prepared build under a tracer.
func (k *killing) traced(u *harness.Underway, o order) {
	k.Helper()
	o.Box, o.Report = k.Dir, filepath.Join(k.Dir, "report")
	raw, err := json.Marshal(o)
	k.Must(err)
	self, err := os.Executable()
	k.Must(err)
	u.Cmd.Path, u.Cmd.Args = self, append([]string{self, traceArg, string(raw)}, u.Cmd.Args...)
	k.Must(u.Cmd.Start())
	u.Over = make(chan struct{})
	go func() {
		u.Ended = u.Cmd.Wait()
		close(u.Over)
	}()
}

// toKill returns the full build that is to be killed at a point or, after one that was, the reaping.
func (k *killing) toKill(p killPoint) *harness.Underway {
	k.Helper()
	u := k.prepared(k.Full(k.Flavor, k.Source, ""))
	if p.reaping == nil {
		return u
	}
	k.leave(*p.reaping)
	u.Cmd.Path = harness.Programs.Plugin(k.Flavor)
	u.Cmd.Args = []string{u.Cmd.Path, "reap"}
	return u
}

// leave kills all processes of a full build at a point.
func (k *killing) leave(p killPoint) {
	k.Helper()
	u, reached := k.reach(p)
	if !reached {
		k.Fatalf("the build does not come to %v:\n%s", p, u.Out)
	}
	k.kill(u, harness.KillEverything)
	k.GoOn()
	<-u.Over
	k.EmptyTmp()
}

// sightings returns the report of the last tracer, and records the keepers and the disks in it.
func (k *killing) sightings() (all []sighting) {
	k.Helper()
	file, err := os.Open(filepath.Join(k.Dir, "report"))
	k.Must(err)
	defer file.Close()
	for lines := json.NewDecoder(file); lines.More(); {
		var s sighting
		k.Must(lines.Decode(&s))
		all = append(all, s)
		if s.Keeper != 0 {
			k.keepers = append(k.keepers, s.Keeper)
		}
		if s.Disk != "" {
			k.disks = append(k.disks, s.Disk)
		}
	}
	return all
}

// acts are the local acts that have an effect, of a full build or of a reaping.
func (k *killing) acts(reaping *killPoint) (all []sighting) {
	k.Helper()
	u := k.toKill(killPoint{reaping: reaping})
	k.traced(u, order{})
	if <-u.Over; u.Ended != nil {
		k.Fatalf("%v: %v\n%s", u.Cmd.Args, u.Ended, u.Out)
	}
	if reaping == nil {
		k.Done = k.Now()
		k.Reset()
	}
	return slices.DeleteFunc(k.sightings(), func(s sighting) bool { return s.Act == "" || s.Failed })
}

// learnActs finds the local acts, from both sides, that are there when all is done again.
func (k *killing) learnActs(reaping *killPoint) (points []killPoint) {
	k.Helper()
	again := k.acts(reaping)
	for _, s := range k.acts(reaping) {
		if slices.Contains(again, s) {
			for _, when := range []string{"before", "after"} {
				points = append(points, killPoint{action: s.Act, skip: s.Skip, when: when, local: true, reaping: reaping})
			}
		}
	}
	if k.Direct && reaping == nil {
		points = k.onlyDirect(points)
	}
	if len(points) == 0 {
		k.Fatal("the tracer sees nothing")
	}
	return points
}

// onlyDirect returns the points at acts that attached builds do not have, and a few of those for single blocks.
func (k *killing) onlyDirect(points []killPoint) []killPoint {
	k.Helper()
	attached := newKilling(k.TB, harness.Flavors[0])
	attached.useOwnLocks()
	common := map[string]bool{}
	for _, s := range attached.acts(nil) {
		common[s.Act] = true
	}
	return slices.DeleteFunc(points, func(p killPoint) bool {
		return common[p.action] || strings.HasSuffix(p.action, "/BLOCK") && p.skip >= harness.SampledBlocks
	})
}

// reachAct runs a tracer that kills at a local act. It returns when all processes that must end have ended, and reports
// whether the act was reached.
func (k *killing) reachAct(p killPoint) (u *harness.Underway, reached bool) {
	k.Helper()
	u = k.toKill(p)
	k.traced(u, order{Act: p.action, Skip: p.skip, When: p.when, Target: p.target})
	select {
	case <-u.Over:
	case <-time.After(harness.Deadline):
		for _, pid := range harness.PidsWith(k.Marker) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		<-u.Over
		k.Fatalf("the build that is killed %v does not end:\n%s", p, u.Out)
	}
	return u, slices.ContainsFunc(k.sightings(), func(s sighting) bool { return s.Killed })
}

// TestKillMatrixLocalActs kills full builds before and after every act of the plugin and of its keeper on the host,
// such as mounts, files, locks and the journal, and of the block server of direct builds. After clean-up, cloud and host
// must be as before.
func TestKillMatrixLocalActs(t *testing.T) {
	harness.Each(t, harness.Covered(), func(t *testing.T, f harness.Flavor) {
		k := newKilling(t, f)
		k.useOwnLocks()
		k.matrix(t, ", local acts", k.learnActs(nil), sampledActs)
	})
}

// TestKillMatrixReap does the same to the command reap, after builds that were killed in
// the chroot and when they had an image.
func TestKillMatrixReap(t *testing.T) {
	harness.Each(t, harness.Covered(), func(t *testing.T, f harness.Flavor) {
		k := newKilling(t, f)
		k.useOwnLocks()
		every := k.learnActs(&killPoint{hook: "provision"})
		every = append(every, k.learnActs(&killPoint{action: f.Action("RegisterImage"), when: "after"})...)
		k.matrix(t, ", local acts of reap", every, sampledReaps)
	})
}
