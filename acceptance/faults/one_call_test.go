package faults

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// waitLimit is the limit of the waits in matrices, so that a build that waits in vain ends soon.
const waitLimit = 10 * time.Second

// fault is a rule of loopcloud that a matrix applies at each of its points.
type fault struct {
	name string
	rule map[string]any
}

var callFaults = []fault{
	{"throttled", map[string]any{"error": "throttled"}},
	{"denied", map[string]any{"error": "denied"}},
	{"internal error", map[string]any{"error": "internal"}},
	{"unavailable", map[string]any{"error": "unavailable"}},
	{"reset before the effect", map[string]any{"drop": "before"}},
	{"reset after the effect", map[string]any{"drop": "after"}},
	{"no answer, no effect", map[string]any{"hang": "before"}},
	{"no answer, but the effect", map[string]any{"hang": "after"}},
	{"late", map[string]any{"delay": "500ms"}},
	{"slow", map[string]any{"trickle": "5ms"}},
	{"garbage", map[string]any{"body": "garbage"}},
	{"empty", map[string]any{"body": "empty"}},
	{"truncated", map[string]any{"body": "truncated"}},
	{"cut off", map[string]any{"body": "cut"}},
}

// blockFaults are further faults of the EBS direct APIs.
var blockFaults = []fault{
	{"wrong checksum", map[string]any{"body": "corrupt"}},
	{"not known yet", map[string]any{"status": http.StatusNotFound, "code": "ResourceNotFoundException/SNAPSHOT_NOT_FOUND"}},
	{"throttled for a snapshot", map[string]any{"error": "throttled-call"}},
}

// faultsOf returns the faults of a flavor's calls.
func faultsOf(f harness.Flavor) []fault {
	if f.Direct {
		return slices.Concat(callFaults, blockFaults)
	}
	return callFaults
}

// with returns the fault's rule with further fields.
func (f fault) with(more map[string]any) map[string]any {
	rule := map[string]any{}
	for _, m := range []map[string]any{f.rule, more} {
		for key, value := range m {
			rule[key] = value
		}
	}
	return rule
}

// namesOf returns the names of faults.
func namesOf(faults []fault) (names []string) {
	for _, f := range faults {
		names = append(names, f.name)
	}
	return names
}

// point is the nth call, from 0, of an action in a build.
type point struct {
	dialect, action string
	nth             int
}

func (p point) String() string { return fmt.Sprintf("%s %s %d", p.dialect, p.action, p.nth+1) }

// readsBlocks reports whether a call reads a snapshot for the block server. That repeats it within its own limits, and
// prints no line meanwhile.
func (p point) readsBlocks() bool {
	return p.action == "ListSnapshotBlocks" || p.action == "GetSnapshotBlock"
}

// here returns the fields of a rule that select this point only.
func (p point) here() map[string]any {
	return map[string]any{"dialect": p.dialect, "action": p.action, "skip": p.nth, "times": 1}
}

// points returns the calls of basic builds.
func points(b *harness.Box, f harness.Flavor) []point {
	b.Helper()
	return pointsOf(b, func() { b.Build(b.Template(f.Basic(nil), harness.Shell("true"))) }, func() { b.Remove(b.Made().ID) })
}

// faulted is a point with its fault.
type faulted struct {
	point
	fault
}

func (f faulted) String() string { return f.point.String() + ", " + f.name }

// allPairs returns every fault at every point, in an order in which a part of them has all faults and all
// points.
func allPairs(points []point, faults []fault) (all []faulted) {
	for i, p := range points {
		for j := range faults {
			if s := (faulted{p, faults[(i+j)%len(faults)]}); s.isPossible() {
				all = append(all, s)
			}
		}
	}
	return all
}

// isPossible reports whether the API of a call has the fault.
func (f faulted) isPossible() bool {
	return f.dialect == "ebs" || !slices.ContainsFunc(blockFaults, func(b fault) bool { return b.name == f.name })
}

// pointsOf returns the calls that several clean builds have in common, because the number of polling calls varies.
// remove removes the image of a build.
func pointsOf(b *harness.Box, build, remove func()) (all []point) {
	b.Helper()
	for n := range 3 {
		b.ForgetBlocks()
		b.Calls()
		build()
		points := pointsAt(b.Calls())
		remove()
		if n == 0 {
			all = points
		}
		all = slices.DeleteFunc(all, func(p point) bool {
			return !slices.Contains(points, p) || harness.IsOfBlock(p.action) && p.nth >= harness.SampledBlocks
		})
	}
	if len(all) < 15 {
		b.Fatalf("a build calls more than %v", all)
	}
	return all
}

func pointsAt(calls []harness.Call) (all []point) {
	seen := map[string]int{}
	for _, c := range calls {
		all = append(all, point{c.Dialect, c.Action, seen[c.Action]})
		seen[c.Action]++
	}
	return all
}

// tries is the number of builds that may miss a point: the order of calls varies when many builds share the
// machine.
const tries = 3

// names are regular expressions that the error of a call must match.
var names = map[string]string{
	"api/token": "metadata", "dynamic/instance-identity/document": "metadata", "meta-data/instance-id": "metadata",
	"DescribeInstances": "instance i-", "ReadVms": "read VM i-",
	"ReadAccounts": "ReadAccounts|Outscale API", "ReadRegions": "ReadRegions|region",
	"DescribeImages": "images?|named", "ReadImages": "image",
	"DescribeVolumes": "vol-", "ReadVolumes": "vol-",
	"DescribeSnapshots": "snap-", "ReadSnapshots": "snap-",
	"CreateVolume": "create a volume", "CreateTags": "tag (vol|snap|ami)-",
	"AttachVolume": "attach vol-", "LinkVolume": "attach volume vol-",
	"CreateSnapshot": "snapshot of", "RegisterImage": "register", "CreateImage": "image",
	"DescribeRegions": "ami_regions", "DescribeImageAttribute": "read who may launch image ami-",
	"DeregisterImage": "deregister image ami-", "DeleteImage": "deregister image ami-", "CopyImage": "copy image ami-",
	"ModifyImageAttribute": "share image ami-", "ModifySnapshotAttribute": "share snapshot snap-",
	"UpdateImage": "image ami-", "UpdateSnapshot": "snapshot snap-",
	"EnableImageDeprecation": "image ami-.* be deprecated", "EnableImageDeregistrationProtection": "protect image ami-",
	"StartSnapshot": "start a snapshot", "ListSnapshotBlocks": "list the blocks of (snap-|the source)",
	"GetSnapshotBlock": "block [0-9]+ of (snap-|the disk)",
	"PutSnapshotBlock": "write block [0-9]+ of snap-", "CompleteSnapshot": "complete snap-", "DeleteTags": "remove the tag",
	"GetCallerIdentity": "account", "DescribeKey": "key of alias/images", "GetEbsEncryptionByDefault": "encrypts all snapshots by default",
	"DetachVolume": "detach vol-", "UnlinkVolume": "detach volume vol-", "DeleteVolume": "delete volume vol-",
}

// faultCount counts the outcomes of builds by fault.
type faultCount struct {
	title string
	mu    sync.Mutex
	order []string
	count map[string]*[3]int
}

// The columns of a faultCount.
const (
	succeeded = iota
	failedClearly
	missed // the build never came to the fault
)

func newCount(title string, faults ...string) *faultCount {
	return &faultCount{title: title, order: faults, count: map[string]*[3]int{}}
}

func (y *faultCount) add(fault string, outcome int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.count[fault] == nil {
		y.count[fault] = new([3]int)
	}
	y.count[fault][outcome]++
	if !slices.Contains(y.order, fault) {
		y.order = append(y.order, fault)
	}
}

// print prints the table, and fails the test if no fault occurred.
func (y *faultCount) print(t *testing.T) {
	t.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "\n%s\n\n| Fault | Points | Succeeded | Failed clearly |\n|---|---|---|---|\n", y.title)
	var sum [3]int
	for _, name := range y.order {
		n := y.count[name]
		if n == nil {
			continue
		}
		fmt.Fprintf(&out, "| %s | %d | %d | %d |\n", name, n[succeeded]+n[failedClearly], n[succeeded], n[failedClearly])
		for i := range sum {
			sum[i] += n[i]
		}
	}
	fmt.Fprintf(&out, "| all | %d | %d | %d |\n", sum[succeeded]+sum[failedClearly], sum[succeeded], sum[failedClearly])
	if harness.All {
		fmt.Print(out.String())
	}
	if sum[succeeded]+sum[failedClearly] == 0 || sum[missed] > 0 {
		t.Errorf("%d faults were never met:\n%s", sum[missed], &out)
	}
}

// atOnce is the number of builds of a matrix that run in parallel, each in its own box: they mostly wait.
const atOnce = 3

// sideBySide runs a test for each item in one of a few boxes with short time limits.
func sideBySide[T any](t *testing.T, f harness.Flavor, all []T, name func(T) string, test func(b *harness.Box, before []string, it T)) {
	t.Helper()
	type ready struct {
		*harness.Box
		before []string
	}
	open := func() ready {
		b := harness.New(t, f.Host()...)
		shortenWaits(b)
		return ready{b, b.Inventory()}
	}
	spread(t, open, all, name, func(t *testing.T, r ready, it T) {
		own := r.In(t)
		defer own.Control(http.MethodDelete, "faults", nil, nil)
		test(own, r.before, it)
	})
}

// shortenWaits shortens the time limits of the builds. Responses may be corrupted by faults, so
// only requests are checked against the API models.
func shortenWaits(b *harness.Box) {
	b.Env = append(b.Env, "PACKER_CHROOT_PATIENCE="+waitLimit.String())
	b.Through(b.Described(harness.OnlyRequests))
}

// spread runs a test for each item, in one of a few boxes.
func spread[P, T any](t *testing.T, open func() P, all []T, name func(T) string, test func(t *testing.T, place P, it T)) {
	t.Helper()
	work := make(chan T)
	var workers sync.WaitGroup
	for range atOnce {
		place := open()
		workers.Go(func() {
			for it := range work {
				t.Run(name(it), func(t *testing.T) { test(t, place, it) })
			}
		})
	}
	for _, it := range all {
		work <- it
	}
	close(work)
	workers.Wait()
}

// share returns the part of a matrix that runs every time: every fault and every point, but not all pairs.
func share[T any](all []T, one int) []T {
	if harness.All {
		return all
	}
	var some []T
	for i, it := range all {
		if i%one == 0 {
			some = append(some, it)
		}
	}
	return some
}

// half returns the rows of a table that a cloud runs every time. The other cloud runs the rest.
func half[T any](f harness.Flavor, all []T) []T {
	if harness.All {
		return all
	}
	return share(all[slices.Index(harness.Flavors, f):], 2)
}

// buildWithFaults builds under the fault rules. It returns the output, whether the build succeeded, and whether the faults
// occurred.
func buildWithFaults(b *harness.Box, template string, rules ...map[string]any) (out string, ok, met bool) {
	b.Helper()
	b.ForgetBlocks()
	b.Control(http.MethodPost, "faults", rules, nil)
	ctx, cancel := context.WithTimeout(context.Background(), harness.Deadline)
	defer cancel()
	cmd := b.Command(ctx, "build", "-color=false", template)
	raw, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		b.Errorf("the build has not ended within %v", harness.Deadline)
		b.EndKilled(cmd)
	}
	var left []any
	b.Control(http.MethodGet, "faults", nil, &left)
	b.Control(http.MethodDelete, "faults", nil, nil)
	return harness.Flat(string(raw)), err == nil, len(left) == 0
}

// checkOutcome fails the test unless the resources are those before the build, except for the image of a
// successful build, and unless the error of a failed build matches want.
func checkOutcome(b *harness.Box, before []string, out string, ok bool, want string) {
	b.Helper()
	b.Clean()
	if ok {
		b.Remove(b.Made().ID)
	} else if !regexp.MustCompile(want).MatchString(out) {
		b.Errorf("the error is not about %q", want)
	}
	if strings.Contains(out, "panic: ") || strings.Contains(out, "goroutine 1") {
		b.Error("the plugin has panicked")
	}
	b.Unchanged(before)
	if b.Failed() {
		b.Logf("packer said:\n%s", out)
	}
}

// TestFaultOfOneCall makes each call of a build fail once, in each way.
func TestFaultOfOneCall(t *testing.T) {
	harness.Each(t, harness.WithDirect, func(t *testing.T, f harness.Flavor) {
		faults := faultsOf(f)
		spots := allPairs(points(harness.New(t, f.Host()...), f), faults)
		counts := newCount("One call of a build goes wrong: "+f.String(), namesOf(faults)...)
		one := 19
		if f.Direct {
			one = 61
		}
		sideBySide(t, f, share(spots, one), faulted.String, func(b *harness.Box, before []string, s faulted) {
			outcome := missed
			for n := 0; n < tries && outcome == missed; n++ {
				out, ok, met := buildWithFaults(b, b.Template(f.Basic(nil), harness.Shell("true")), s.with(s.here()))
				switch {
				case met && ok:
					outcome = succeeded
				case met:
					outcome = failedClearly
				}
				checkOutcome(b, before, out, ok, cmp.Or(names[s.action], "no error is expected of this call"))
			}
			counts.add(s.name, outcome)
		})
		counts.print(t)
	})
}
