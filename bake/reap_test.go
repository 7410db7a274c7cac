package bake_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/polling"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// errKilled is the error of every call of a killed process.
var errKilled = errors.New("killed")

// hooked applies an effect between two calls of the hook.
func (w *fake) hooked(key string, effect func() error) func() error {
	if w.hook == nil {
		return effect
	}
	return func() error {
		if err := w.hook(key, false); err != nil {
			return err
		}
		err := effect()
		if killed := w.hook(key, true); killed != nil {
			return killed
		}
		return err
	}
}

func (m machine) Record(ctx context.Context, spec chroot.MountSpec) (chroot.RootRecord, error) {
	r := chroot.RootRecord{Path: spec.Path, Made: []string{spec.Path}, Device: spec.Device, Boot: "first"}
	return r, m.act(ctx, "record", func() error { return nil })
}

func (m machine) Reclaim(ctx context.Context, r chroot.RootRecord, claim chroot.Claim) ([]string, error) {
	return nil, m.act(ctx, "reclaim", func() error {
		device := m.theirs[r.Path] + m.from[r.Path]
		if device == "" {
			return nil
		}
		if claim.Disk == "" || !strings.HasPrefix(device, claim.Disk) {
			return fmt.Errorf("%s is mounted on %s: %w", device, r.Path, chroot.ErrNotClaimed)
		}
		if m.theirs[r.Path] != "" {
			m.violation("others' %s is unmounted", r.Path)
		}
		m.happened("~mount")
		delete(m.mounted, r.Path)
		delete(m.from, r.Path)
		return nil
	})
}

func (m machine) Sweep(dir string) error {
	return m.act(context.Background(), "sweep", func() error {
		if dir != bake.DefaultLockDir {
			m.violation("%s is swept", dir)
		}
		for name := range m.stale {
			delete(m.reserved, name)
		}
		return nil
	})
}

// stateDir returns a directory for journals.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(testdir.New(t), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// journaledPlan returns the plan with a journal.
func (w *fake) journaledPlan(dir string) bake.Plan {
	plan := w.plan()
	plan.StateDir, plan.Program, plan.Endpoint = dir, "test-chroot", "http://here"
	return plan
}

func reaping(dir string) bake.Reaping {
	return bake.Reaping{StateDir: dir, Program: "test-chroot", Endpoint: "http://here"}
}

// copyDir returns a copy of a directory.
func copyDir(t *testing.T, dir string) (snapshot string) {
	t.Helper()
	snapshot = stateDir(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(snapshot, entry.Name()), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return snapshot
}

// A killPoint is the point at which a process is killed.
type killPoint struct {
	// act is one call, such as volume#1. If after is set, it has taken effect.
	act   string
	after bool
	// keeper means that the keeper is killed as well, so that it undoes nothing.
	keeper bool
}

func (d killPoint) String() string {
	return fmt.Sprintf("%s, after=%v, keeper=%v", d.act, d.after, d.keeper)
}

// kill ends every call at a kill point, and returns a copy of the journals at that point. A killed process
// gets errors only.
func (w *fake) kill(d killPoint, dir string) (journals func() string) {
	var dead bool
	var snapshot string
	w.hook = func(key string, after bool) error {
		if !dead && key == d.act && after == d.after {
			dead, snapshot = true, copyDir(w.t, dir)
			w.stale = maps.Clone(w.reserved)
			if !d.keeper {
				clear(w.mounted)
				clear(w.from)
			}
		}
		if dead {
			return errKilled
		}
		return nil
	}
	return func() string {
		w.hook = nil
		return snapshot
	}
}

// notKilled fails the test unless the point may be missed, because the number of polls is
// random.
func (w *fake) notKilled(d killPoint) {
	w.t.Helper()
	if !strings.HasPrefix(d.act, "look at") {
		w.t.Error("it was not killed")
	}
}

// killPoints returns every kill point of a process that makes these calls.
func killPoints(all []string) []killPoint {
	var points []killPoint
	for _, act := range all {
		for _, after := range []bool{false, true} {
			for _, keeper := range []bool{false, true} {
				points = append(points, killPoint{act, after, keeper})
			}
		}
	}
	return points
}

// reaped reaps and checks that nothing remains.
func (w *fake) reaped(dir string) {
	w.t.Helper()
	all, err := bake.Reap(w.t.Context(), w, machine{w}, w, reaping(dir))
	if err != nil {
		w.t.Errorf("cannot reap: %v", err)
	}
	for _, r := range all {
		if r.Fate != bake.Removed {
			w.t.Errorf("%+v", r)
		}
	}
	if left := w.left(); len(left) > 0 {
		w.t.Errorf("after %q, left: %q", w.events, left)
	}
	if left, err := filesIn(dir); err != nil || len(left) > 0 {
		w.t.Errorf("journals are left: %v, %v", left, err)
	}
}

// filesIn returns the files of a state directory except the durations of waits.
func filesIn(dir string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	return slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.Name() == polling.FileName }), err
}

// journalsSay reports whether any journal of a directory contains the text.
func journalsSay(t *testing.T, dir, text string) bool {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(paths, func(path string) bool {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(content), text)
	})
}

// calls returns every call of a build with a journal and without failures.
func calls(t *testing.T, v variant) []string {
	var all []string
	in(t, func(t *testing.T, w *fake) {
		dir := stateDir(t)
		plan := w.journaledPlan(dir)
		v(w, &plan)
		if _, err := w.build(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		all = w.acts
		if left, err := filesIn(dir); err != nil || len(left) > 0 {
			t.Errorf("a build that succeeded leaves %v, %v", left, err)
		}
	})
	return all
}

// TestKilledEverywhere kills a build before and after every call, and cleans up. The image
// remains if no call is left.
func TestKilledEverywhere(t *testing.T) {
	for _, name := range []string{"plain", "direct"} {
		for _, d := range killPoints(calls(t, variants[name])) {
			t.Run(fmt.Sprintf("%s, %v", name, d), func(t *testing.T) {
				in(t, func(_ *testing.T, w *fake) { w.killedAt(variants[name], d) })
			})
		}
	}
}

// killedAt kills a build and cleans up.
func (w *fake) killedAt(v variant, d killPoint) {
	dir := stateDir(w.t)
	journals := w.kill(d, dir)
	plan := w.journaledPlan(dir)
	v(w, &plan)
	_, err := w.build(w.t.Context(), plan)
	snapshot := journals()
	if snapshot == "" {
		w.notKilled(d)
		return
	}
	if strings.HasPrefix(d.act, "unmark") { // the build had succeeded
		w.cleaned(snapshot)
		if s := w.snapshots["snap-1"]; s == nil || s.build != "" {
			w.t.Errorf("the snapshot of the image is %+v, and must not carry the tag of the build", s)
		}
		return
	}
	if err == nil && !strings.HasPrefix(d.act, "~") {
		w.t.Error("a killed build succeeded")
	}
	w.reaped(snapshot)
}

// TestReaperKilledEverywhere kills the process that cleans up, and another one continues.
func TestReaperKilledEverywhere(t *testing.T) {
	first := []struct {
		killPoint
		variant string
	}{
		{killPoint{act: "provision#1", keeper: true}, "plain"},
		{killPoint{act: "image#1", after: true}, "plain"},
		{killPoint{act: "volume#1", after: true}, "plain"},
		{killPoint{act: "provision#1", keeper: true}, "direct"},
		{killPoint{act: "start#1", after: true}, "direct"},
		{killPoint{act: "image#1", after: true}, "direct"},
	}
	for _, d := range first {
		killed := func(_ *testing.T, w *fake) string {
			journals := w.killed(variants[d.variant], d.killPoint)
			w.acts, w.counts = nil, map[string]int{}
			return journals
		}
		var all []string
		in(t, func(t *testing.T, w *fake) {
			w.reaped(killed(t, w))
			all = w.acts
		})
		for _, again := range killPoints(all) {
			t.Run(fmt.Sprintf("%s, %v, then %v", d.variant, d.killPoint, again), func(t *testing.T) {
				in(t, func(t *testing.T, w *fake) {
					dir := killed(t, w)
					journals := w.kill(again, dir)
					_, _ = bake.Reap(t.Context(), w, machine{w}, w, reaping(dir))
					snapshot := journals()
					if snapshot == "" {
						w.notKilled(again)
						return
					}
					w.reaped(snapshot)
				})
			})
		}
	}
}

// killedBuild returns a directory with the journal of a build that was killed during provisioning.
func (w *fake) killedBuild() (dir string) {
	dir = stateDir(w.t)
	journals := w.kill(killPoint{act: "provision#1", keeper: true}, dir)
	_, _ = w.build(w.t.Context(), w.journaledPlan(dir))
	return journals()
}

// TestReapedByTheNextBuild checks that the next build removes the resources of a killed build,
// while it creates its own or, if they are in the way, before that.
func TestReapedByTheNextBuild(t *testing.T) {
	tests := []struct {
		name string
		// killPoint is that of the first build.
		killPoint killPoint
		// inTheWay means that the next build fails if this resource exists.
		inTheWay string
	}{
		{name: "beside", killPoint: killPoint{act: "reserve#1", after: true}},
		{name: "in the way", killPoint: killPoint{act: "provision#1", keeper: true}, inTheWay: "/mnt/root"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				dir := stateDir(t)
				journals := w.kill(test.killPoint, dir)
				_, _ = w.build(t.Context(), w.journaledPlan(dir))
				plan := w.journaledPlan(journals())
				plan.Build = "build-2"
				plan.MountPath = func(string) (string, error) { return "/mnt/other", nil }
				if test.inTheWay != "" {
					plan.Labels = func(bake.Facts) (bake.Labels, error) {
						if w.mounted[test.inTheWay] {
							return bake.Labels{}, errors.New("in the way")
						}
						return bake.Labels{}, nil
					}
				}
				w.lag = 0
				result, err := w.build(t.Context(), plan)
				if err != nil {
					t.Fatalf("%v\n%q", err, w.reports)
				}
				if diff := cmp.Diff([]string{"ami-1", "snap-1"}, w.left()); diff != "" {
					t.Errorf("left (-want +got):\n%s\n%+v", diff, result)
				}
				if left, err := filesIn(plan.StateDir); err != nil || len(left) > 0 {
					t.Errorf("journals are left: %v, %v", left, err)
				}
			})
		})
	}
}

// slowDeletion is a cloud in which deleting one volume takes longer than a build.
type slowDeletion struct {
	*fake
	volume bake.VolumeID
}

func (c slowDeletion) DeleteVolume(ctx context.Context, id bake.VolumeID) error {
	if id == c.volume {
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return c.fake.DeleteVolume(ctx, id)
}

// TestBuildWaitsForReaping: a build that ends before the clean-up after a killed build waits for it.
func TestBuildWaitsForReaping(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		dir := stateDir(t)
		journals := w.kill(killPoint{act: "reserve#1", after: true}, dir)
		_, _ = w.build(t.Context(), w.journaledPlan(dir))
		plan := w.journaledPlan(journals())
		plan.Build = "build-2"
		if _, err := bake.Build(t.Context(), slowDeletion{w, "vol-1"}, machine{w}, plan, w); err != nil {
			t.Fatalf("%v\n%q", err, w.reports)
		}
		if diff := cmp.Diff([]string{"ami-1", "snap-1"}, w.left()); diff != "" {
			t.Errorf("left (-want +got):\n%s\n%q", diff, w.reports)
		}
	})
}

// TestReapLeavesAlone checks that only the resources of a dead build are touched, and that the
// journal of remaining resources stays.
func TestReapLeavesAlone(t *testing.T) {
	tests := []struct {
		name   string
		change func(w *fake, r *bake.Reaping)
		fate   bake.Fate
		says   string
	}{
		{"another account's", func(w *fake, _ *bake.Reaping) { w.host.Account = "other" }, bake.Elsewhere, "account"},
		{"another region's", func(w *fake, _ *bake.Reaping) { w.host.Region = "there" }, bake.Elsewhere, "region"},
		{"another host's", func(w *fake, _ *bake.Reaping) { w.host.ID = "i-2" }, bake.Elsewhere, "host"},
		{"another program's", func(_ *fake, r *bake.Reaping) { r.Program = "other-chroot" }, bake.Elsewhere, "program"},
		{"another cloud's", func(_ *fake, r *bake.Reaping) { r.Endpoint = "http://there" }, bake.Elsewhere, "endpoint"},
		{"on a dry run", func(_ *fake, r *bake.Reaping) { r.DryRun = true }, bake.Due, ""},
		{"without the tag", func(w *fake, _ *bake.Reaping) { w.volumes["vol-1"].build = "build-9" }, bake.Stuck, "does not carry the tag of build build-1"},
		{"the journal of a newer version", func(w *fake, r *bake.Reaping) {
			w.rewrite(r.StateDir, undo.ErrNewer)
		}, bake.Unreadable, "newer version"},
		{"another program's of a newer version", func(w *fake, r *bake.Reaping) {
			w.rewrite(r.StateDir, undo.ErrNewer)
			r.Program = "other-chroot"
		}, bake.Elsewhere, "program"},
		{"a torn journal", func(w *fake, r *bake.Reaping) { w.rewrite(r.StateDir, undo.ErrTorn) }, bake.Unreadable, "damaged"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				dir := w.killedBuild()
				r := reaping(dir)
				test.change(w, &r)
				before, events := w.left(), len(w.events)
				all, err := bake.Reap(t.Context(), w, machine{w}, w, r)
				if err != nil || len(all) != 1 || all[0].Fate != test.fate || all[0].Build != "build-1" || !strings.Contains(all[0].Problem, test.says) {
					t.Errorf("%+v, %v", all, err)
				}
				if diff := cmp.Diff(before, w.left()); diff != "" || len(w.events) != events {
					t.Errorf("touched: %q (-before +after):\n%s", w.events[events:], diff)
				}
				if left, err := filesIn(dir); err != nil || len(left) != 1 {
					t.Errorf("journals: %v, %v", left, err)
				}
			})
		})
	}
}

// rewrite damages the only journal of a directory, or makes its version newer.
func (w *fake) rewrite(dir string, how error) {
	w.t.Helper()
	paths, err := undo.Journals(dir)
	if err != nil || len(paths) != 1 {
		w.t.Fatal(paths, err)
	}
	text, err := os.ReadFile(paths[0])
	if err != nil {
		w.t.Fatal(err)
	}
	text = text[:len(text)-3]
	if errors.Is(how, undo.ErrNewer) {
		const header = `{"verb":"build","header":{"version":3,"build":"build-1","program":"test-chroot","account":"123456789012","endpoint":"http://here","region":"here","host":"i-1"}}`
		text = fmt.Appendf(nil, "%08x %s\n", crc32.Checksum([]byte(header), crc32.MakeTable(crc32.Castagnoli)), header)
	}
	if err := os.WriteFile(paths[0], text, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// TestReapDryRunReports names the acts in the order in which they would be undone.
func TestReapDryRunReports(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		r := reaping(w.killedBuild())
		r.DryRun = true
		all, err := bake.Reap(t.Context(), w, machine{w}, w, r)
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		want := []string{
			"mount of /dev/xvdf1 on /mnt/root", "attachment of vol-1 to i-1", "reservation of /dev/sdf", "volume vol-1",
		}
		if diff := cmp.Diff(want, all[0].Pending); diff != "" {
			t.Errorf("pending (-want +got):\n%s", diff)
		}
	})
}

// TestReapDeleting checks that a volume that is already being deleted, and has lost its tags,
// is ignored.
func TestReapDeleting(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		dir := w.killedBuild()
		w.volumes["vol-1"].build, w.volumeState = "", bake.VolumeDeleting
		clear(w.mounted)
		all, err := bake.Reap(t.Context(), w, machine{w}, w, reaping(dir))
		if err != nil || len(all) != 1 || all[0].Fate != bake.Removed {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

// TestReapLeavesVolumeOnAnotherHost checks that a volume that was attached to another host by
// hand is left alone.
func TestReapLeavesVolumeOnAnotherHost(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		dir := w.killedBuild()
		w.attachedTo = "i-7"
		all, err := bake.Reap(t.Context(), w, machine{w}, w, reaping(dir))
		if err != nil || len(all) != 1 || all[0].Fate != bake.Stuck || !strings.Contains(all[0].Problem, "attached to i-7 by now") {
			t.Fatalf("%+v, %v", all, err)
		}
		if left := w.left(); !slices.Contains(left, "vol-1") || !slices.Contains(left, "/mnt/root") {
			t.Errorf("left %q", left)
		}
		w.attachedTo = ""
		w.reaped(dir) // the next time
	})
}

// TestReapWhileBuildsRun checks that running builds are not touched.
func TestReapWhileBuildsRun(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		dir := stateDir(t)
		plan := w.journaledPlan(dir)
		provision := plan.Provision
		plan.Provision = func(ctx context.Context, at bake.Workplace) error {
			before := w.left()
			all, err := bake.Reap(ctx, w, machine{w}, w, reaping(dir))
			if err != nil || len(all) != 1 || all[0].Fate != bake.Living || all[0].Problem != "" {
				t.Errorf("%+v, %v", all, err)
			}
			if diff := cmp.Diff(before, w.left()); diff != "" {
				t.Errorf("touched (-before +after):\n%s", diff)
			}
			return provision(ctx, at)
		}
		result, err := w.build(t.Context(), plan)
		w.checkResult(result, err)
		if err != nil {
			t.Error(err)
		}
	})
}

// TestReapStops checks that a cancel takes effect at once and loses nothing.
func TestReapStops(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		dir := w.killedBuild()
		w.detachTakes = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		begun := time.Now()
		all, err := bake.Reap(ctx, w, machine{w}, w, reaping(dir))
		if err != nil || len(all) != 1 || all[0].Fate != bake.Stuck || time.Since(begun) > time.Minute {
			t.Errorf("after %s: %+v, %v", time.Since(begun), all, err)
		}
		w.detachTakes = 0
		w.reaped(dir)
	})
}

// written is an act in a journal.
type written map[string]any

func (written) String() string { return "act" }

// TestReapDistrustsJournals checks that journal records that no build writes are not carried
// out as root.
func TestReapDistrustsJournals(t *testing.T) {
	root := chroot.RootRecord{Path: "/mnt/root", Device: "/dev/xvdf1", Boot: "first"}
	with := func(change func(*chroot.RootRecord)) map[string]any {
		r := root
		change(&r)
		return map[string]any{"kind": "mount", "volume": "vol-1", "root": r}
	}
	for name, act := range map[string]map[string]any{
		"an unknown kind":         {"kind": "format"},
		"an unknown field":        {"kind": "volume", "force": true},
		"a mount of nothing":      {"kind": "mount"},
		"a relative path":         with(func(r *chroot.RootRecord) { r.Path = "mnt" }),
		"the host's root":         with(func(r *chroot.RootRecord) { r.Path = "/" }),
		"a path that climbs":      with(func(r *chroot.RootRecord) { r.Path = "/mnt/../etc" }),
		"a device that climbs":    with(func(r *chroot.RootRecord) { r.Device = "/dev/../etc/passwd" }),
		"no device":               with(func(r *chroot.RootRecord) { r.Device = "/etc/passwd" }),
		"directories elsewhere":   with(func(r *chroot.RootRecord) { r.Made = []string{"/home"} }),
		"directories that climb":  with(func(r *chroot.RootRecord) { r.Made = []string{"/mnt/root/../.."} }),
		"a group that climbs":     with(func(r *chroot.RootRecord) { r.Group = "/sys/../tmp" }),
		"reservations of nowhere": {"kind": "reservation"},
		"volumes of nobody":       {"kind": "volume"},
		"another build's volumes": {"kind": "volume", "build": "build-2"},
		"an attachment of none":   {"kind": "attachment", "host": "i-1"},
		"an attachment nowhere":   {"kind": "attachment", "volume": "vol-1"},
		"snapshots of no volume":  {"kind": "snapshot"},
		"images of no snapshot":   {"kind": "image", "image": "ami-1"},
		"copies of no image":      {"kind": "copy", "name": "golden"},
		"copies without a name":   {"kind": "copy", "source": "ami-1"},
		"no image come back":      {"kind": "replaced", "record": map[string]any{"image": ""}},
		"no old snapshot":         {"kind": "old snapshot", "image": "ami-1"},
		"no further snapshot":     {"kind": "further snapshot", "image": "ami-1"},
		"a snapshot of no copy":   {"kind": "further snapshot", "snapshot": "snap-1"},
		"reservations that climb": {"kind": "reservation", "lock_dir": "/run/../etc"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				dir := stateDir(t)
				l := undo.New[written](nil)
				err := l.Begin(dir, undo.Header{Build: "build-1", Program: "test-chroot", Account: me, Endpoint: "http://here", Region: "here", Host: "i-1"})
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range []written{{"kind": "snapshot", "volume": "vol-1", "snapshot": "snap-1"}, act} {
					if _, err := l.Arm("scaffold", a); err != nil {
						t.Fatal(err)
					}
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				all, err := bake.Reap(t.Context(), w, machine{w}, w, reaping(dir))
				if err != nil || len(all) != 1 || all[0].Fate != bake.Stuck || !strings.Contains(all[0].Problem, "act 2 of the journal") {
					t.Errorf("%+v, %v", all, err)
				}
				if diff := cmp.Diff([]string{"host#1"}, w.acts); diff != "" {
					t.Errorf("called (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestActNeedsItsJournalRecord checks that an act whose record cannot be written is not begun.
func TestActNeedsItsJournalRecord(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		dir := stateDir(t)
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		_, err := w.build(t.Context(), w.journaledPlan(dir))
		if err == nil || !strings.Contains(err.Error(), "journal of build build-1") {
			t.Errorf("error %v", err)
		}
		if len(w.events) > 0 {
			t.Errorf("happened: %q", w.events)
		}
	})
}

// TestNextBuildUndoesStuckActs checks that the next build undoes the acts that a build could
// not undo itself.
func TestNextBuildUndoesStuckActs(t *testing.T) {
	in(t, func(t *testing.T, w *fake) {
		dir := stateDir(t)
		w.faults["provision#1"] = fault{act: "provision#1", err: errInjected}
		w.detachTakes = 24 * time.Hour
		if _, err := w.build(t.Context(), w.journaledPlan(dir)); !errors.Is(err, errInjected) {
			t.Fatal(err)
		}
		if len(w.left()) == 0 {
			t.Fatal("nothing is left to reap")
		}
		w.detachTakes, w.stale = 0, maps.Clone(w.reserved) // its process has ended
		w.reaped(dir)
	})
}

// TestKilledAfterManyAttempts checks that the resource created by the last attempt of a call
// is found, although the act was begun long before and the resource is shown only some time
// after the kill.
func TestKilledAfterManyAttempts(t *testing.T) {
	const attempts = 12
	for _, test := range []struct{ refused, killed string }{
		{"volume", fmt.Sprintf("volume#%d", attempts+1)},
		{"volume", "look at volume#1"}, // after the response
		{"snapshot", fmt.Sprintf("snapshot#%d", attempts+1)},
		{"image", fmt.Sprintf("image#%d", attempts+1)},
	} {
		t.Run(test.killed, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				w.lag, w.refusals = 10*time.Second, map[string][]error{test.refused: unsettled(attempts)}
				dir := stateDir(t)
				journals := w.kill(killPoint{act: test.killed, after: true}, dir)
				begun := time.Now()
				if _, err := w.build(t.Context(), w.journaledPlan(dir)); err == nil {
					t.Error("a killed build succeeded")
				}
				snapshot := journals()
				if snapshot == "" || time.Since(begun) < bake.DefaultWaits().InFlight {
					t.Fatalf("it was not killed, or soon: %s", time.Since(begun))
				}
				w.reaped(snapshot)
			})
		})
	}
}
