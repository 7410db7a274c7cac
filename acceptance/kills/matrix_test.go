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

// sampled is the number of points of each cloud that run unless ALL is set, and sampledDirect that of direct builds.
const (
	sampled       = 6
	sampledDirect = 2
)

// summary prints a line about a matrix, even if it has passed.
func summary(format string, args ...any) { fmt.Fprintf(os.Stderr, "matrix: "+format+"\n", args...) }

// killPoint is the point at which a build is killed: at a call, at a local act, after a step, or in a
// command of the template.
type killPoint struct {
	// action is a call's, in the cloud's words; skip of them have passed before.
	action string
	skip   int
	when   string
	// local says that the action is an act on the host instead; if a build was killed
	// where reaping says, it is the cleaning up after that.
	local   bool
	reaping *killPoint
	// pause counts the steps of packer build -debug.
	pause int
	// hook is one of the hooks.
	hook   string
	target harness.Target
}

func (p killPoint) String() string {
	where := "in " + p.hook
	switch {
	case p.action != "":
		where = fmt.Sprintf("%s %s %d", p.when, p.action, p.skip+1)
	case p.pause > 0:
		where = fmt.Sprintf("after step %d", p.pause)
	}
	if p.reaping != nil {
		where += ", reaping after " + strings.TrimSuffix(p.reaping.String(), ", ")
	}
	return where + ", " + string(p.target)
}

// killing is a box in which full builds are killed, one after the other.
type killing struct {
	*harness.FullBox
	// keepers are the process ids of the last build's keepers, as far as they are known.
	keepers []int
	// disks are the names of the last build's direct disks, as far as they are known.
	disks []string
	// ownLocks means that builds reserve device names in a directory of the box.
	ownLocks bool
}

func newKilling(t testing.TB, f harness.Flavor) *killing {
	t.Helper()
	return &killing{FullBox: harness.NewFullBox(t, f)}
}

// learn runs a full build and returns its points: before and after each of its calls, each of its steps, and
// each hook.
func (k *killing) learn() (points []killPoint) {
	k.Helper()
	k.Calls()
	k.Build(k.Full(k.Flavor, k.Source, ""))
	met := map[string]int{}
	for _, c := range k.Calls() {
		for _, when := range []string{"before", "after"} {
			points = append(points, killPoint{action: c.Action, skip: met[c.Action], when: when})
		}
		met[c.Action]++
	}
	k.Done = k.Now()
	k.Reset()
	k.Calls()
	steps := k.steps()
	again := map[string]int{}
	for _, c := range k.Calls() {
		again[c.Action]++
	}
	k.Reset()
	// the number of polls varies, and blocks are transferred side by side
	points = slices.DeleteFunc(points, func(p killPoint) bool {
		return p.skip >= again[p.action] || harness.IsOfBlock(p.action) && p.skip >= harness.SampledBlocks
	})
	for n := range steps {
		points = append(points, killPoint{pause: n + 1})
	}
	for _, hook := range harness.Hooks {
		points = append(points, killPoint{hook: hook})
	}
	return points
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

// start begins a build of a template, and returns its standard input.
func (k *killing) start(template string, args ...string) (*harness.Underway, io.WriteCloser) {
	k.Helper()
	u := k.prepared(template, args...)
	enter, err := u.Cmd.StdinPipe()
	k.Must(err)
	k.Must(u.Cmd.Start())
	return u, enter
}

// prepared returns a build that is not started yet.
func (k *killing) prepared(template string, args ...string) *harness.Underway {
	u := &harness.Underway{Box: k.Box, Out: &harness.SyncedText{}, Mount: filepath.Join(k.Dir, "mnt")}
	u.Cmd = k.Command(context.Background(), append(append([]string{"build", "-color=false"}, args...), template)...)
	u.Cmd.Stdout, u.Cmd.Stderr, u.Cmd.WaitDelay = u.Out, u.Out, time.Second
	return u
}

// reach starts a full build and returns when it is at the point. If the build has fewer calls this time, it ends
// instead.
func (k *killing) reach(p killPoint) (u *harness.Underway, reached bool) {
	k.Helper()
	started := filepath.Join(k.Dir, "started")
	_ = os.Remove(started)
	var args []string
	if p.pause > 0 {
		args = append(args, "-debug")
	}
	if p.action != "" {
		k.Control(http.MethodPost, "faults", map[string]any{"action": p.action, "skip": p.skip, "hold": p.when, "times": 1}, nil)
	}
	u, enter := k.start(k.Full(k.Flavor, k.Source, p.hook), args...)
	ended := make(chan struct{})
	go func() {
		u.Ended = u.Cmd.Wait()
		close(ended)
	}()
	u.Over = ended
	pressed := 1
	there := func() bool {
		switch {
		case p.action != "":
			var held []struct{ Action string }
			k.Control(http.MethodGet, "held", nil, &held)
			return len(held) > 0
		case p.pause > 0:
			n := strings.Count(u.Out.String(), "Press enter to continue")
			for ; pressed < p.pause && pressed <= n; pressed++ {
				_, _ = enter.Write([]byte("\n"))
			}
			return n >= p.pause
		case p.hook == "provision":
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
	k.Fatalf("the build does not come to %v:\n%s", p, u.Out)
	return nil, false
}

// killAt kills at a point, cleans up and compares. kept reports whether the build was complete, so that its image stays.
func (k *killing) killAt(p killPoint, byBuild bool) (kept, reached bool) {
	k.Helper()
	k.keepers, k.disks = nil, nil
	reach := k.reach
	if p.local {
		reach = k.reachAct
	}
	u, reached := reach(p)
	if reached && !p.local {
		k.kill(u, p.target)
	}
	k.GoOn()
	<-u.Over
	if !reached && u.Ended != nil {
		k.Errorf("the build failed by itself: %v\n%s", u.Ended, u.Out)
	}
	k.settle(p)
	k.EmptyTmp()
	cleaned := k.cleanUp(byBuild)
	now := k.Now()
	if cmp.Equal(now, k.Done) {
		kept = true
	} else if diff := cmp.Diff(k.Before, now); diff != "" {
		k.Errorf("the cloud is not as before (-before +now):\n%s", diff)
	}
	left := append(leftovers(k.Box), harness.LoopsOfDisks(k.disks)...)
	for _, keeper := range k.keepers {
		if !harness.Exists(fmt.Sprintf("/proc/%d", keeper)) { // else it is another's by now
			left = append(left, groupsOf(keeper)...)
		}
	}
	for _, entry := range left {
		k.Errorf("left on the host: %s", entry)
	}
	if k.Failed() {
		k.Logf("the build said:\n%s\nthe clean-up said:\n%s", u.Out, cleaned)
	}
	return kept, reached
}

// kill kills processes of a build, and records its keeper and its disk. Without a block server, the keeper is killed in
// its place.
func (k *killing) kill(u *harness.Underway, target harness.Target) {
	k.Helper()
	k.keepers = append(k.keepers, u.Process("packer-plugin-"+k.Name, "keep-chroot"))
	k.disks = append(k.disks, u.Disks()...)
	if target == harness.KillServer && len(u.Disks()) == 0 {
		target = harness.KillKeeper
	}
	u.KillOnly(k.Flavor, target)
}

// settle waits for the surviving processes to end. It ends the user's own commands on the host, and those in a root
// without a keeper, except after a kill at a local act.
func (k *killing) settle(p killPoint) {
	k.Helper()
	if !p.local && (p.target == harness.KillEverything || p.target == harness.KillPluginAndKeeper || p.hook != "" && p.hook != "provision") {
		for _, pid := range harness.PidsWith(k.Marker) {
			if strings.HasPrefix(harness.Read(fmt.Sprintf("/proc/%d/cmdline", pid)), "sleep\x00") {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	if p.target == harness.KillEverything || p.target == harness.KillPluginAndKeeper {
		return
	}
	for begun := time.Now(); len(harness.ProcessesWith(k.Marker)) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > harness.Deadline {
			k.Errorf("still there: %q", harness.ProcessesWith(k.Marker))
			return
		}
	}
}

// cleanUp cleans up by the command reap, or by another build, and returns the output.
func (k *killing) cleanUp(byBuild bool) string {
	k.Helper()
	if !byBuild {
		all, status := k.Reap(k.Flavor)
		if status != 0 {
			k.Errorf("reap ends with %d: %+v", status, all)
		}
		return fmt.Sprintf("%+v", all)
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
	return out
}

// others returns the targets at the i-th point, besides KillEverything. The process that does a local act is always killed
// alone as well, because no other process knows of the act yet.
func (p killPoint) others(f harness.Flavor, i int) []harness.Target {
	some := []harness.Target{harness.KillPlugin, harness.KillPluginAndKeeper, harness.KillKeeper, harness.KillPacker}
	if f.Direct {
		some = append(some, harness.KillServer)
	}
	one := some[i/4%len(some)]
	actor := harness.KillPlugin
	switch {
	case strings.HasPrefix(p.action, keeperRole):
		actor = harness.KillKeeper
	case strings.HasPrefix(p.action, serverRole):
		actor = harness.KillServer
	}
	switch {
	case p.local && (i%4 != 0 || one == actor):
		return []harness.Target{actor}
	case p.local:
		return []harness.Target{actor, one}
	case i%2 == 0 || p.action == "":
		return []harness.Target{one}
	}
	return nil
}

// chosen returns the points to run with their targets: all points, or an evenly spread sample.
func chosen(f harness.Flavor, points []killPoint, sample int) []killPoint {
	random := rand.New(rand.NewPCG(harness.Seed, uint64(len(f.String()))))
	targets := []harness.Target{harness.KillEverything, harness.KillEverything, harness.KillEverything, harness.KillEverything, harness.KillPlugin, harness.KillPluginAndKeeper, harness.KillKeeper, harness.KillPacker}
	if harness.All {
		var every []killPoint
		for i, p := range points {
			for _, p.target = range append([]harness.Target{harness.KillEverything}, p.others(f, i)...) {
				every = append(every, p)
			}
		}
		return every
	}
	random.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	var some []killPoint
	first, step := random.Float64(), float64(len(points))/float64(sample)
	for i := range sample {
		p := points[int((float64(i)+first)*step)]
		p.target = targets[i%len(targets)]
		some = append(some, p)
	}
	return some
}

// boxes is the number of boxes of each cloud that run in parallel: they mostly wait for calls that may be under
// way.
const boxes = 5

// TestKillMatrix kills full builds at every call, before and after its effect, after every step, and in every hook.
// After clean-up, cloud and host must be as before.
func TestKillMatrix(t *testing.T) {
	harness.Each(t, harness.WithDirect, func(t *testing.T, f harness.Flavor) {
		first := newKilling(t, f)
		every := first.learn()
		sample := sampled
		if f.Direct {
			sample = sampledDirect
		}
		first.matrix(t, "", every, sample)
	})
}

// matrix kills at all points, or at a sample of them.
func (k *killing) matrix(t *testing.T, name string, every []killPoint, sample int) {
	t.Helper()
	f := k.Flavor
	points := chosen(f, every, sample)
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
					if i >= len(points) {
						return
					}
					if own == nil {
						own = newKilling(t, f)
						if k.ownLocks {
							own.useOwnLocks()
						}
						own.Done = k.Done
					}
					ok := t.Run(points[i].String(), func(t *testing.T) {
						outer := own.Box
						own.Box = outer.In(t)
						defer func() { own.Box = outer }()
						stays, reached := own.retryKill(points[i], i%3 == 2)
						mu.Lock()
						defer mu.Unlock()
						if !reached {
							missed = append(missed, points[i].String())
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
		f, name, harness.Seed, len(every), len(points)-len(missed), kept, len(missed), differing, time.Since(begun).Seconds())
	if len(missed) > 0 {
		t.Errorf("of %d points, these were not reached: %s", len(points), strings.Join(missed, ", "))
	}
}

// retryKill kills at a point, up to five times if the build does not reach it: the order of parallel calls varies.
func (k *killing) retryKill(p killPoint, byBuild bool) (kept, reached bool) {
	k.Helper()
	for range 5 {
		kept, reached = k.killAt(p, byBuild)
		if kept && !k.Failed() {
			k.Reset()
		}
		if reached || k.Failed() {
			break
		}
	}
	return kept, reached
}
