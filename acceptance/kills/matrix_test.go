package kills

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// sampled is how many points of each cloud run otherwise.
const sampled = 6

// summary prints a line about a matrix, even if it has passed.
func summary(format string, args ...any) { fmt.Fprintf(os.Stderr, "matrix: "+format+"\n", args...) }

// spot is the point at which a build is killed: at a call, at a local act, after a step, or in a
// command of the template.
type spot struct {
	// action is a call's, in the cloud's words; skip of them have passed before.
	action string
	skip   int
	when   string
	// local says that the action is an act on the host instead; if a build was killed
	// where reaping says, it is the cleaning up after that.
	local   bool
	reaping *spot
	// pause counts the steps of packer build -debug.
	pause int
	// hook is one of the hooks.
	hook string
	whom harness.Victims
}

func (s spot) String() string {
	where := "in " + s.hook
	switch {
	case s.action != "":
		where = fmt.Sprintf("%s %s %d", s.when, s.action, s.skip+1)
	case s.pause > 0:
		where = fmt.Sprintf("after step %d", s.pause)
	}
	if s.reaping != nil {
		where += ", reaping after " + strings.TrimSuffix(s.reaping.String(), ", ")
	}
	return where + ", " + string(s.whom)
}

// killing is a box in which full builds are killed, one after the other.
type killing struct {
	*harness.FullBox
	// keepers are the process ids of the last build's keepers, as far as they are known.
	keepers []int
	// ownLocks says that builds reserve device names in a directory of the box.
	ownLocks bool
}

func newKilling(t testing.TB, f harness.Flavor) *killing {
	t.Helper()
	return &killing{FullBox: harness.NewFullBox(t, f)}
}

// learn makes a full build, and finds the spots that it has: each of its calls, from
// both sides, each of its steps, and each hook.
func (k *killing) learn() (spots []spot) {
	k.Helper()
	k.Calls()
	k.Build(k.Full(k.Flavor, k.Source, ""))
	met := map[string]int{}
	for _, c := range k.Calls() {
		for _, when := range []string{"before", "after"} {
			spots = append(spots, spot{action: c.Action, skip: met[c.Action], when: when})
		}
		met[c.Action]++
	}
	k.Done = k.Holdings(k.Known)
	k.Reset()
	k.Calls()
	steps := k.steps()
	again := map[string]int{}
	for _, c := range k.Calls() {
		again[c.Action]++
	}
	k.Reset()
	// how often a wait looks is another number every time
	spots = slices.DeleteFunc(spots, func(s spot) bool { return s.skip >= again[s.action] })
	for n := range steps {
		spots = append(spots, spot{pause: n + 1})
	}
	for _, hook := range harness.Hooks {
		spots = append(spots, spot{hook: hook})
	}
	return spots
}

// steps counts the pauses of a build with -debug.
func (k *killing) steps() (n int) {
	k.Helper()
	u, enter := k.start(k.Full(k.Flavor, k.Source, ""), "-debug")
	defer enter.Close()
	go func() { _, _ = io.Copy(enter, endless{}) }()
	if err := u.Cmd.Wait(); err != nil {
		k.Fatalf("packer build -debug: %v\n%s", err, u.Out)
	}
	return strings.Count(u.Out.String(), "Press enter to continue")
}

// endless is a reader of Enter keys.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	p[0] = '\n'
	return 1, nil
}

// start begins a build of a template, that may be told to go on.
func (k *killing) start(template string, args ...string) (*harness.Underway, io.WriteCloser) {
	k.Helper()
	u := k.prepared(template, args...)
	enter, err := u.Cmd.StdinPipe()
	k.Must(err)
	k.Must(u.Cmd.Start())
	return u, enter
}

// prepared is a build that only has to be started.
func (k *killing) prepared(template string, args ...string) *harness.Underway {
	u := &harness.Underway{Box: k.Box, Out: &harness.SyncedText{}, Mount: filepath.Join(k.Dir, "mnt")}
	u.Cmd = k.Command(context.Background(), append(append([]string{"build", "-color=false"}, args...), template)...)
	u.Cmd.Stdout, u.Cmd.Stderr, u.Cmd.WaitDelay = u.Out, u.Out, time.Second
	return u
}

// reach starts a full build and returns when it is at the spot. If the build has fewer calls this time, it ends
// instead.
func (k *killing) reach(s spot) (u *harness.Underway, reached bool) {
	k.Helper()
	started := filepath.Join(k.Dir, "started")
	_ = os.Remove(started)
	var args []string
	if s.pause > 0 {
		args = append(args, "-debug")
	}
	if s.action != "" {
		k.Control(http.MethodPost, "faults", map[string]any{"action": s.action, "skip": s.skip, "hold": s.when, "times": 1}, nil)
	}
	u, enter := k.start(k.Full(k.Flavor, k.Source, s.hook), args...)
	ended := make(chan struct{})
	go func() {
		u.Ended = u.Cmd.Wait()
		close(ended)
	}()
	u.Over = ended
	pressed := 1
	there := func() bool {
		switch {
		case s.action != "":
			var held []struct{ Action string }
			k.Control(http.MethodGet, "held", nil, &held)
			return len(held) > 0
		case s.pause > 0:
			n := strings.Count(u.Out.String(), "Press enter to continue")
			for ; pressed < s.pause && pressed <= n; pressed++ {
				_, _ = enter.Write([]byte("\n"))
			}
			return n >= s.pause
		case s.hook == "provision":
			return u.Inside() >= 3
		}
		return harness.Exists(started)
	}
	for begun := time.Now(); time.Since(begun) < harness.Deadline; time.Sleep(20 * time.Millisecond) {
		if there() {
			return u, true
		}
		select {
		case <-ended:
			return u, false
		default:
		}
	}
	_ = u.Cmd.Process.Kill()
	k.Fatalf("the build does not come to %v:\n%s", s, u.Out)
	return nil, false
}

// strike kills at a spot, cleans up and compares. kept reports whether the build was complete, so that its image stays.
func (k *killing) strike(s spot, byBuild bool) (kept, reached bool) {
	k.Helper()
	k.keepers = nil
	reach := k.reach
	if s.local {
		reach = k.reachAct
	}
	u, reached := reach(s)
	if reached && !s.local {
		k.keepers = append(k.keepers, u.Process("packer-plugin-"+k.Name, "keep-chroot"))
		u.KillOnly(k.Flavor, s.whom)
	}
	k.GoOn()
	<-u.Over
	if !reached && u.Ended != nil {
		k.Errorf("the build failed by itself: %v\n%s", u.Ended, u.Out)
	}
	k.settle(s)
	k.EmptyTmp()
	k.cleanUp(byBuild)
	now := k.Holdings(k.Known)
	if cmp.Equal(now, k.Done) {
		kept = true
	} else if diff := cmp.Diff(k.Before, now); diff != "" {
		k.Errorf("the cloud is not as before (-before +now):\n%s", diff)
	}
	left := leftovers(k.Box)
	for _, keeper := range k.keepers {
		if !harness.Exists(fmt.Sprintf("/proc/%d", keeper)) { // else it is another's by now
			left = append(left, groupsOf(keeper)...)
		}
	}
	for _, entry := range left {
		k.Errorf("left on the host: %s", entry)
	}
	if k.Failed() {
		k.Logf("the build said:\n%s", u.Out)
	}
	return kept, reached
}

// settle waits for the surviving processes to end. It ends the user's own commands on the host, and those in a root
// without a keeper, except after a kill at a local act.
func (k *killing) settle(s spot) {
	k.Helper()
	if !s.local && (s.whom == harness.Everybody || s.whom == harness.TheKeeper || s.hook != "" && s.hook != "provision") {
		for _, pid := range harness.PidsWith(k.Marker) {
			if strings.HasPrefix(harness.Read(fmt.Sprintf("/proc/%d/cmdline", pid)), "sleep\x00") {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	if s.whom == harness.Everybody || s.whom == harness.TheKeeper {
		return
	}
	for begun := time.Now(); len(harness.ProcessesWith(k.Marker)) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > harness.Deadline {
			k.Errorf("still there: %q", harness.ProcessesWith(k.Marker))
			return
		}
	}
}

// cleanUp reaps by the command, or by another build.
func (k *killing) cleanUp(byBuild bool) {
	k.Helper()
	if !byBuild {
		if all, status := k.Reap(k.Flavor); status != 0 {
			k.Errorf("reap ends with %d: %+v", status, all)
		}
		return
	}
	const name = "the next one"
	out, err := k.Packer("build", "-color=false", k.Template(k.Basic(harness.O{"PREFIX_name": name, "mount_path": filepath.Join(k.Dir, "next")}), harness.Shell("true")))
	if err != nil {
		k.Errorf("the next build fails: %v\n%s", err, out)
	}
	for _, image := range k.OwnImages(harness.Region) {
		if aws.ToString(image.Name) == name {
			k.RemoveIn(harness.Region, image)
		}
	}
}

// others returns the victims at the i-th spot, besides everybody. The process that does a local act is always killed
// alone as well, because no other process knows of the act yet.
func (s spot) others(i int) []harness.Victims {
	one := []harness.Victims{harness.ThePlugin, harness.TheKeeper, harness.OnlyKeeper, harness.OnlyPacker}[i/4%4]
	actor := harness.ThePlugin
	if strings.HasPrefix(s.action, keeperRole) {
		actor = harness.OnlyKeeper
	}
	switch {
	case s.local && (i%4 != 0 || one == actor):
		return []harness.Victims{actor}
	case s.local:
		return []harness.Victims{actor, one}
	case i%2 == 0 || s.action == "":
		return []harness.Victims{one}
	}
	return nil
}

// chosen returns the spots to run with their victims: all spots, or an evenly spread sample.
func chosen(f harness.Flavor, spots []spot, sample int) []spot {
	random := rand.New(rand.NewPCG(harness.Seed, uint64(len(f.Name))))
	victims := []harness.Victims{harness.Everybody, harness.Everybody, harness.Everybody, harness.Everybody, harness.ThePlugin, harness.TheKeeper, harness.OnlyKeeper, harness.OnlyPacker}
	if harness.All {
		var every []spot
		for i, s := range spots {
			for _, s.whom = range append([]harness.Victims{harness.Everybody}, s.others(i)...) {
				every = append(every, s)
			}
		}
		return every
	}
	random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	var some []spot
	first, step := random.Float64(), float64(len(spots))/float64(sample)
	for i := range sample {
		s := spots[int((float64(i)+first)*step)]
		s.whom = victims[i%len(victims)]
		some = append(some, s)
	}
	return some
}

// boxes is how many boxes of each cloud work side by side: much of the time passes
// in waiting for calls that may be under way.
const boxes = 5

// TestKillMatrix kills full builds at every call, before and after its effect, after every step, and in every hook.
// After clean-up, cloud and host must be as before.
func TestKillMatrix(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		first := newKilling(t, f)
		every := first.learn()
		first.matrix(t, "", every, sampled)
	})
}

// matrix kills at all points, or at a sample of them.
func (k *killing) matrix(t *testing.T, name string, every []spot, sample int) {
	t.Helper()
	f := k.Flavor
	spots := chosen(f, every, sample)
	var mu sync.Mutex
	var next, differing, kept int
	var missed []string // points that no build came to
	begun := time.Now()
	t.Run("at", func(t *testing.T) {
		var work sync.WaitGroup
		defer work.Wait()
		for range boxes {
			work.Go(func() {
				var own *killing
				for {
					mu.Lock()
					i := next
					next++
					mu.Unlock()
					if i >= len(spots) {
						return
					}
					if own == nil {
						own = newKilling(t, f)
						if k.ownLocks {
							own.useOwnLocks()
						}
						own.Done = k.Done
					}
					ok := t.Run(spots[i].String(), func(t *testing.T) {
						outer := own.Box
						own.Box = outer.In(t)
						defer func() { own.Box = outer }()
						stays, reached := own.insist(spots[i], i%3 == 2)
						mu.Lock()
						defer mu.Unlock()
						if !reached {
							missed = append(missed, spots[i].String())
						}
						if stays {
							kept++
						}
					})
					if !ok {
						mu.Lock()
						differing++
						mu.Unlock()
						own = nil // what is left there is not the next one's
					}
				}
			})
		}
	})
	summary("%s%s, seed %d: %d points, %d kills (%d of them after the image was final), %d not reached, %d differences, in %.0f s",
		f.Name, name, harness.Seed, len(every), len(spots)-len(missed), kept, len(missed), differing, time.Since(begun).Seconds())
	if len(missed) > 0 {
		t.Errorf("of %d points, these were not reached: %s", len(spots), strings.Join(missed, ", "))
	}
}

// insist strikes at a spot, up to five times if the build does not reach it: the order of parallel calls varies.
func (k *killing) insist(s spot, byBuild bool) (kept, reached bool) {
	k.Helper()
	for range 5 {
		kept, reached = k.strike(s, byBuild)
		if kept && !k.Failed() {
			k.Reset()
		}
		if reached || k.Failed() {
			break
		}
	}
	return kept, reached
}
