package kills

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	difference "github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// soakTime is how long TestSoak goes on: as SOAK says, and else a little.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	wanted := cmp.Or(os.Getenv("SOAK"), "15s")
	d, err := time.ParseDuration(wanted)
	if err != nil || d <= 0 {
		t.Fatalf("SOAK is %q, which is no time to go on, such as 10m", wanted)
	}
	return d
}

// troubles are the faults that a soak has builds meet.
var troubles = []map[string]any{
	{"error": "throttled"},
	{"error": "throttled-call", "lasts": "10s"},
	{"error": "internal"},
	{"error": "unavailable"},
	{"drop": "before"},
	{"drop": "after"},
	{"body": "garbage"},
	{"body": "cut"},
	{"delay": "700ms"},
	{"outcome": "error", "action": "CreateSnapshot"},
	{"outcome": "error", "action": "CreateVolume"},
	{"outcome": "error", "action": "RegisterImage"},
	{"stale": map[string]any{"reads": 2}, "action": "CreateVolume"},
	{"stale": map[string]any{"reads": 2}, "action": "CreateSnapshot"},
	{"stale": map[string]any{"changes": 3}, "action": "CreateVolume"},
	{"stale": map[string]any{"changes": 3}, "action": "AttachVolume"},
	{"stale": map[string]any{"changes": 3}, "action": "DetachVolume"},
	{"stale": map[string]any{"changes": 3}, "action": "CreateSnapshot"},
	{"stale": map[string]any{"changes": 3}, "action": "RegisterImage"},
	{"stale": map[string]any{"changes": 3}, "action": "DeregisterImage"},
	{"body": "corrupt", "dialect": "ebs"},
	{"outcome": "error", "action": "CompleteSnapshot"},
	{"outcome": "disk-full", "action": "PutSnapshotBlock"},
	{"stale": map[string]any{"reads": 2, "changes": 3}, "action": "StartSnapshot"},
}

// nameOfTrouble names the row in which a fault of a resource is counted.
func nameOfTrouble(r rule) string {
	if v, ok := r["outcome"]; ok {
		return fmt.Sprint("outcome ", v)
	}
	return "stale"
}

// counts holds the events of a soak.
type counts struct {
	mu sync.Mutex
	of map[string]int
}

func (c *counts) add(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[what] += n
}

// TestSoak makes full builds of both clouds at once, for as long as SOAK says, and
// kills, fails and cancels them at random; after each round it cleans up and compares.
// Two boxes of each builder, and one of direct builds, share the machine.
func TestSoak(t *testing.T) {
	harness.NeedRoot(t)
	during := soakTime(t)
	if os.Getenv("SOAK") == "" {
		t.Parallel() // beside the others of make test
	}
	c := &counts{of: map[string]int{}}
	until := time.Now().Add(during)
	var work sync.WaitGroup
	for n := range 5 {
		f := harness.WithDirect[n%len(harness.WithDirect)]
		random := rand.New(rand.NewPCG(harness.Seed, uint64(n)))
		work.Go(func() {
			t.Run(fmt.Sprintf("%s %d", f, n), func(t *testing.T) {
				k := newKilling(t, f)
				k.Build(k.Full(f, k.Source, ""))
				k.Done = k.Now()
				k.Reset()
				for time.Now().Before(until) && !t.Failed() {
					k.soak(random, c)
				}
			})
		})
	}
	work.Wait()
	fmt.Fprintf(os.Stderr, "soak: seed %d, %v\n", harness.Seed, during)
	for _, what := range slices.Sorted(maps.Keys(c.of)) {
		fmt.Fprintf(os.Stderr, "soak: %6d %s\n", c.of[what], what)
	}
}

// soak is one round: a build that meets trouble, perhaps, and is killed or cancelled,
// perhaps; then the cleaning up, and the comparison.
func (k *killing) soak(random *rand.Rand, c *counts) {
	k.Helper()
	var story []string
	k.disks = nil
	for range random.IntN(3) {
		rule := map[string]any{"skip": random.IntN(30), "times": 1 + random.IntN(2)}
		for key, v := range troubles[random.IntN(len(troubles))] {
			rule[key] = v
		}
		if rule["lasts"] != nil {
			delete(rule, "times")
		}
		k.Control(http.MethodPost, "faults", rule, nil)
		story = append(story, fmt.Sprint(rule))
	}
	before := k.rules()
	u, enter := k.start(k.Full(k.Flavor, k.Source, ""))
	defer enter.Close()
	ended := make(chan error, 1)
	go func() { ended <- u.Cmd.Wait() }()
	did := k.disturb(random, u, ended, &story)
	for name, n := range k.met(before) {
		c.add("fault: "+name, n)
	}
	k.Control(http.MethodDelete, "faults", nil, nil)
	c.add("builds", 1)
	c.add("builds "+did, 1)
	k.settle(killPoint{target: harness.KillEverything})
	k.EmptyTmp()
	k.cleanUp(random.IntN(4) == 0)
	now := k.Now()
	left := append(leftovers(k.Box), harness.LoopsOfDisks(k.disks)...)
	if !difference.Equal(now, k.Done) && !difference.Equal(now, k.Before) {
		left = append(left, difference.Diff(k.Before, now))
	}
	c.add("leftovers", len(left))
	if len(left) > 0 || k.Failed() {
		k.Errorf("a build %s, with %q, leaves:\n%s\nit said:\n%s", did, story, strings.Join(left, "\n"), u.Out)
	}
	if difference.Equal(now, k.Done) {
		k.Reset()
	}
}

// disturb kills or cancels a build after some time, or lets it run, and returns how it ended.
func (k *killing) disturb(random *rand.Rand, u *harness.Underway, ended <-chan error, story *[]string) string {
	k.Helper()
	when, what := time.Duration(random.IntN(1500))*time.Millisecond, random.IntN(3)
	limit := time.After(4 * time.Minute)
	disturbed := time.After(when)
	if what == 0 {
		disturbed = nil
	}
	cancelled := false
	for {
		select {
		case err := <-ended:
			switch {
			case cancelled:
				return "cancelled"
			case err != nil:
				return "failed"
			}
			return "succeeded"
		case <-disturbed:
			*story = append(*story, fmt.Sprint("after ", when))
			if what == 1 {
				cancelled = true
				_ = u.Cmd.Process.Signal(os.Interrupt)
				continue
			}
			k.disks = append(k.disks, u.Disks()...)
			for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
				for _, pid := range harness.PidsWith(k.Marker) {
					_ = syscall.Kill(pid, signal)
				}
			}
			<-ended //nolint:errcheck // it was killed
			return "killed"
		case <-limit:
			_ = u.Cmd.Process.Kill()
			k.Errorf("the build does not end, with %q:\n%s", *story, u.Out)
			return "that hung"
		}
	}
}

// rule is an active fault, with its remaining count.
type rule map[string]any

func (k *killing) rules() (all []rule) {
	k.Helper()
	k.Control(http.MethodGet, "faults", nil, &all)
	return all
}

// met counts the faults that have happened: those of calls are in the record, and of
// those of things there is less left than there was.
func (k *killing) met(before []rule) map[string]int {
	k.Helper()
	met := map[string]int{}
	var calls []struct{ Fault string }
	k.Control(http.MethodGet, "calls", nil, &calls)
	k.Control(http.MethodDelete, "calls", nil, nil)
	for _, c := range calls {
		if c.Fault != "" {
			met[c.Fault]++
		}
	}
	left := k.rules()
	for _, r := range before {
		if r["outcome"] == nil && r["stale"] == nil {
			continue
		}
		had, _ := r["times"].(float64)
		for _, rest := range left {
			if rest["action"] == r["action"] && (rest["stale"] == nil) == (r["stale"] == nil) {
				has, _ := rest["times"].(float64)
				had -= has
			}
		}
		if had > 0 {
			met[nameOfTrouble(r)+" of "+fmt.Sprint(r["action"])] += int(had)
		}
	}
	return met
}
