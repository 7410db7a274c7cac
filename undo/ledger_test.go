package undo_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

var errStuck = errors.New("stuck")

// change is an act with its undo function.
type change struct {
	name string
	undo func(context.Context) error
}

func (c change) String() string { return c.name }

// newLedger returns a ledger without a journal.
func newLedger() *undo.Ledger[change] {
	return undo.New(func(ctx context.Context, e *undo.Entry[change]) error { return e.Act().undo(ctx) })
}

// arm arms an act in the scaffold.
func arm(l *undo.Ledger[change], name string, undo func(context.Context) error) *undo.Entry[change] {
	return armIn(l, "scaffold", name, undo)
}

func armIn(l *undo.Ledger[change], group undo.Group, name string, undo func(context.Context) error) *undo.Entry[change] {
	e, err := l.Arm(group, change{name, undo})
	if err != nil {
		panic(err) // there is no journal
	}
	return e
}

// undoLog records the undo functions that ran, in order.
type undoLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *undoLog) note(line string) func(context.Context) error {
	return func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, line)
		return nil
	}
}

func (l *undoLog) want(t *testing.T, lines ...string) {
	t.Helper()
	if !slices.Equal(l.lines, lines) {
		t.Errorf("undone %q, want %q", l.lines, lines)
	}
}

func TestReleaseIsLastInFirstOut(t *testing.T) {
	var l undoLog
	var told []string
	s := newLedger()
	for _, what := range []string{"volume", "attachment", "mount"} {
		arm(s, what, l.note("~"+what))
	}
	err := s.Release(t.Context(), "scaffold", time.Minute, func(what string) { told = append(told, what) })
	if err != nil {
		t.Fatal(err)
	}
	l.want(t, "~mount", "~attachment", "~volume")
	if want := []string{"mount", "attachment", "volume"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestReleaseStopsAtTheFirstFailure(t *testing.T) {
	var l undoLog
	broken := true
	s := newLedger()
	arm(s, "volume vol-1", l.note("~volume"))
	arm(s, "mount", func(ctx context.Context) error {
		if broken {
			return errStuck
		}
		return l.note("~mount")(ctx)
	})
	arm(s, "files", l.note("~files"))

	err := s.Release(t.Context(), "scaffold", time.Minute, nil)
	if !errors.Is(err, errStuck) {
		t.Fatalf("error %v, want it to wrap the cause", err)
	}
	for _, part := range []string{"scaffold", "mount", "left as it is: mount, volume vol-1"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	l.want(t, "~files")

	broken = false
	if err := s.Release(t.Context(), "scaffold", time.Minute, nil); err != nil {
		t.Fatal(err)
	}
	l.want(t, "~files", "~mount", "~volume")
}

// TestNothingToUndo checks that an act that never took place counts as undone, and is not
// reported as such.
func TestNothingToUndo(t *testing.T) {
	var l undoLog
	var told []string
	s := newLedger()
	arm(s, "volume", l.note("~volume"))
	arm(s, "attachment", func(context.Context) error { return undo.ErrNothing })
	early := arm(s, "mount", func(context.Context) error { return undo.ErrNothing })
	if err := early.Undo(t.Context()); err != nil {
		t.Errorf("undone early: %v", err)
	}
	if err := s.Release(t.Context(), "scaffold", time.Minute, func(what string) { told = append(told, what) }); err != nil {
		t.Error(err)
	}
	if !slices.Equal(told, []string{"volume"}) || len(s.Names("scaffold")) > 0 {
		t.Errorf("told %q, pending %q", told, s.Names("scaffold"))
	}
}

func TestUndoEarlyIsDoneOnce(t *testing.T) {
	var l undoLog
	s := newLedger()
	arm(s, "volume", l.note("~volume"))
	attachment := arm(s, "attachment", l.note("~attachment"))
	for range 2 {
		if err := attachment.Undo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Names("scaffold"); !slices.Equal(got, []string{"volume"}) {
		t.Errorf("pending %q after an early undo", got)
	}
	if err := s.Release(t.Context(), "scaffold", time.Minute, nil); err != nil {
		t.Fatal(err)
	}
	l.want(t, "~attachment", "~volume")
}

func TestUndoThatFailsStaysArmed(t *testing.T) {
	s := newLedger()
	e := arm(s, "attachment", func(context.Context) error { return errStuck })
	if err := e.Undo(t.Context()); !errors.Is(err, errStuck) {
		t.Errorf("undo answered %v", err)
	}
	if got := s.Names("scaffold"); !slices.Equal(got, []string{"attachment"}) {
		t.Errorf("pending %q after an undo that failed", got)
	}
}

func TestKeepAndDropForget(t *testing.T) {
	var l undoLog
	s := newLedger()
	armIn(s, "products", "image", l.note("~image"))
	armIn(s, "copies", "copy", l.note("~copy"))
	armIn(s, "snapshots", "snapshot", l.note("~snapshot"))
	arm(s, "volume", l.note("~volume"))
	if err := errors.Join(s.Keep("products", "copies"), s.Drop("snapshots")); err != nil {
		t.Fatal(err)
	}
	if got := s.Names(); !slices.Equal(got, []string{"volume"}) {
		t.Errorf("outstanding %q after keep and drop", got)
	}
	for _, group := range []undo.Group{"products", "copies", "snapshots"} {
		if err := s.Release(t.Context(), group, time.Minute, nil); err != nil {
			t.Fatal(err)
		}
	}
	l.want(t)
	var all []string
	for _, act := range s.Acts() {
		all = append(all, act.name)
	}
	if want := []string{"volume", "image", "copy", "snapshot"}; !slices.Equal(all, want) {
		t.Errorf("acts %q, want %q: those that are outstanding first", all, want)
	}
}

// TestGroupsAreIndependent checks that a group is released by itself, and that the caller
// chooses the order of the groups.
func TestGroupsAreIndependent(t *testing.T) {
	var l undoLog
	s := newLedger()
	armIn(s, "products", "snapshot", l.note("~snapshot"))
	arm(s, "volume", l.note("~volume"))
	armIn(s, "products", "image", l.note("~image"))
	if got, want := s.Names("scaffold", "products"), []string{"volume", "image", "snapshot"}; !slices.Equal(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
	if err := s.Release(t.Context(), "products", time.Minute, nil); err != nil {
		t.Fatal(err)
	}
	l.want(t, "~image", "~snapshot")
}

func TestNamesAreThoseOfSettledActs(t *testing.T) {
	var l undoLog
	s := newLedger()
	arm(s, "volume", l.note("")).Settle(func(c change) change { return change{"volume vol-1", c.undo} })
	arm(s, "mount", l.note(""))
	if got, want := s.Names("scaffold"), []string{"mount", "volume vol-1"}; !slices.Equal(got, want) {
		t.Errorf("pending %q, want %q", got, want)
	}
}

func TestReleaseEndsWithItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLedger()
		arm(s, "attachment", func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		begun := time.Now()
		err := s.Release(t.Context(), "scaffold", 3*time.Minute, nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the deadline", err)
		}
		if took := time.Since(begun); took != 3*time.Minute {
			t.Errorf("released for %s, want the limit", took)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errStuck)
		if err := s.Release(ctx, "scaffold", 3*time.Minute, nil); !errors.Is(err, errStuck) {
			t.Errorf("released after a cancel: %v", err)
		}
	})
}

func TestConcurrentUndoRunsOnce(t *testing.T) {
	var l undoLog
	s := newLedger()
	var entries []*undo.Entry[change]
	for i := range 20 {
		entries = append(entries, arm(s, strconv.Itoa(i), l.note("~")))
	}
	var wg sync.WaitGroup
	for _, e := range entries {
		wg.Go(func() { _ = e.Undo(t.Context()) })
		wg.Go(func() { _ = s.Release(t.Context(), "scaffold", time.Minute, nil) })
	}
	wg.Wait()
	if len(l.lines) != len(entries) {
		t.Errorf("%d undoings ran for %d acts", len(l.lines), len(entries))
	}
}

func TestEntriesKnowWhetherTheyAreOutstanding(t *testing.T) {
	s := newLedger()
	undone := arm(s, "volume", (&undoLog{}).note("~volume"))
	kept := arm(s, "mount", (&undoLog{}).note("~mount"))
	if !undone.Outstanding() || !kept.Outstanding() {
		t.Error("an armed act is not outstanding")
	}
	if err := undone.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep("scaffold"); err != nil {
		t.Fatal(err)
	}
	if undone.Outstanding() || kept.Outstanding() {
		t.Error("an act that is over is outstanding")
	}
}
