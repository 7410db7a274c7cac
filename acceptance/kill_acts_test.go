package acceptance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// sampledActs is how many local acts of each cloud are killed at otherwise.
const sampledActs = 5

// sampledReaps is the same of the command reap.
const sampledReaps = 3

// traced starts what is prepared under a tracer.
func (k *killing) traced(u *underway, o order) {
	k.t.Helper()
	o.Box, o.Report = k.dir, filepath.Join(k.dir, "report")
	raw, err := json.Marshal(o)
	k.must(err)
	self, err := os.Executable()
	k.must(err)
	u.cmd.Path, u.cmd.Args = self, append([]string{self, traceArg, string(raw)}, u.cmd.Args...)
	k.must(u.cmd.Start())
	u.over = make(chan struct{})
	go func() {
		u.ended = u.cmd.Wait()
		close(u.over)
	}()
}

// victim is the full build that is killed at a spot or, after one that was, the reaping.
func (k *killing) victim(s spot) *underway {
	k.t.Helper()
	u := k.prepared(k.full(k.flavor, k.source, ""))
	if s.reaping == nil {
		return u
	}
	k.leave(*s.reaping)
	u.cmd.Path = filepath.Join(filepath.Dir(programs.loopcloud), "packer-plugin-"+k.name)
	u.cmd.Args = []string{u.cmd.Path, "reap"}
	return u
}

// leave kills all of a full build at a spot.
func (k *killing) leave(s spot) {
	k.t.Helper()
	u, reached := k.reach(s)
	if !reached {
		k.t.Fatalf("the build does not come to %v:\n%s", s, u.out)
	}
	k.keepers = append(k.keepers, u.process("packer-plugin-"+k.name, "keep-chroot"))
	u.killOnly(k.flavor, everybody)
	k.goOn()
	<-u.over
	k.emptyTmp()
}

// sightings are what the last tracer told of. The keepers that it saw are known from
// then on.
func (k *killing) sightings() (all []sighting) {
	k.t.Helper()
	file, err := os.Open(filepath.Join(k.dir, "report"))
	k.must(err)
	defer file.Close()
	for lines := json.NewDecoder(file); lines.More(); {
		var s sighting
		k.must(lines.Decode(&s))
		all = append(all, s)
		if s.Keeper != 0 {
			k.keepers = append(k.keepers, s.Keeper)
		}
	}
	return all
}

// acts are the local acts that have an effect, of a full build or of a reaping.
func (k *killing) acts(reaping *spot) (all []sighting) {
	k.t.Helper()
	u := k.victim(spot{reaping: reaping})
	k.traced(u, order{})
	if <-u.over; u.ended != nil {
		k.t.Fatalf("%v: %v\n%s", u.cmd.Args, u.ended, u.out)
	}
	if reaping == nil {
		k.done = k.things(k.known)
		k.reset()
	}
	return slices.DeleteFunc(k.sightings(), func(s sighting) bool { return s.Act == "" || s.Failed })
}

// learnActs finds the local acts, from both sides, that are there when all is done again.
func (k *killing) learnActs(reaping *spot) (spots []spot) {
	k.t.Helper()
	again := k.acts(reaping)
	for _, s := range k.acts(reaping) {
		if slices.Contains(again, s) {
			for _, when := range []string{"before", "after"} {
				spots = append(spots, spot{action: s.Act, skip: s.Skip, when: when, local: true, reaping: reaping})
			}
		}
	}
	if len(spots) == 0 {
		k.t.Fatal("the tracer sees nothing")
	}
	return spots
}

// reachAct has a tracer kill at a local act, and answers when nobody is left who is not
// to be, and whether it came there.
func (k *killing) reachAct(s spot) (u *underway, reached bool) {
	k.t.Helper()
	u = k.victim(s)
	k.traced(u, order{Act: s.action, Skip: s.skip, When: s.when, Whom: s.whom})
	select {
	case <-u.over:
	case <-time.After(deadline):
		for _, pid := range pidsWith(k.marker) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		<-u.over
		k.t.Fatalf("the build that is killed %v does not end:\n%s", s, u.out)
	}
	return u, slices.ContainsFunc(k.sightings(), func(s sighting) bool { return s.Killed })
}

// TestKillMatrixActs kills full builds before and after every act of the plugin and of
// its keeper on the host: mounts, directories, files, locks, the journal; then cleans
// up, and compares the cloud and the host with what they were before.
func TestKillMatrixActs(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		k := newKilling(t, f)
		k.matrix(", local acts", k.learnActs(nil), sampledActs)
	})
}

// TestKillMatrixReap does the same to the command reap, after builds that were killed in
// the chroot and when they had an image.
func TestKillMatrixReap(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		k := newKilling(t, f)
		every := k.learnActs(&spot{hook: "provision"})
		every = append(every, k.learnActs(&spot{action: f.nameOf("RegisterImage"), when: "after"})...)
		k.matrix(", local acts of reap", every, sampledReaps)
	})
}
