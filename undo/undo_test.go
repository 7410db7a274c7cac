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

// diary records which undoings ran, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) undo.Func {
	return func(context.Context) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.lines = append(d.lines, line)
		return nil
	}
}

func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	if !slices.Equal(d.lines, lines) {
		t.Errorf("undone %q, want %q", d.lines, lines)
	}
}

func TestReleaseIsLastInFirstOut(t *testing.T) {
	var d diary
	var told []string
	s := undo.NewStack("scaffold")
	for _, what := range []string{"volume", "attachment", "mount"} {
		s.Arm(what, d.note("~"+what))
	}
	err := s.Release(t.Context(), time.Minute, func(what string) { told = append(told, what) })
	if err != nil {
		t.Fatal(err)
	}
	d.want(t, "~mount", "~attachment", "~volume")
	if want := []string{"mount", "attachment", "volume"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestReleaseStopsAtTheFirstFailure(t *testing.T) {
	var d diary
	broken := true
	s := undo.NewStack("scaffold")
	s.Arm("volume vol-1", d.note("~volume"))
	s.Arm("mount", func(ctx context.Context) error {
		if broken {
			return errStuck
		}
		return d.note("~mount")(ctx)
	})
	s.Arm("files", d.note("~files"))

	err := s.Release(t.Context(), time.Minute, nil)
	if !errors.Is(err, errStuck) {
		t.Fatalf("error %v, want it to wrap the cause", err)
	}
	for _, part := range []string{"scaffold", "mount", "left as it is: mount, volume vol-1"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	d.want(t, "~files")

	broken = false
	if err := s.Release(t.Context(), time.Minute, nil); err != nil {
		t.Fatal(err)
	}
	d.want(t, "~files", "~mount", "~volume")
}

// TestNothingToUndo: what never was is over, and is not reported as undone.
func TestNothingToUndo(t *testing.T) {
	var d diary
	var told []string
	s := undo.NewStack("scaffold")
	s.Arm("volume", d.note("~volume"))
	s.Arm("attachment", func(context.Context) error { return undo.ErrNothing })
	early := s.Arm("mount", func(context.Context) error { return undo.ErrNothing })
	if err := early.Undo(t.Context()); err != nil {
		t.Errorf("undone early: %v", err)
	}
	if err := s.Release(t.Context(), time.Minute, func(what string) { told = append(told, what) }); err != nil {
		t.Error(err)
	}
	if !slices.Equal(told, []string{"volume"}) || len(s.Pending()) > 0 {
		t.Errorf("told %q, pending %q", told, s.Pending())
	}
}

func TestUndoEarlyIsDoneOnce(t *testing.T) {
	var d diary
	s := undo.NewStack("scaffold")
	s.Arm("volume", d.note("~volume"))
	attachment := s.Arm("attachment", d.note("~attachment"))
	for range 2 {
		if err := attachment.Undo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Pending(); !slices.Equal(got, []string{"volume"}) {
		t.Errorf("pending %q after an early undo", got)
	}
	if err := s.Release(t.Context(), time.Minute, nil); err != nil {
		t.Fatal(err)
	}
	d.want(t, "~attachment", "~volume")
}

func TestUndoThatFailsStaysArmed(t *testing.T) {
	s := undo.NewStack("scaffold")
	e := s.Arm("attachment", func(context.Context) error { return errStuck })
	if err := e.Undo(t.Context()); !errors.Is(err, errStuck) {
		t.Errorf("undo answered %v", err)
	}
	if got := s.Pending(); !slices.Equal(got, []string{"attachment"}) {
		t.Errorf("pending %q after an undo that failed", got)
	}
}

func TestDisarmAndKeepForget(t *testing.T) {
	var d diary
	s := undo.NewStack("products")
	s.Arm("snapshot", d.note("~snapshot")).Disarm()
	s.Arm("image", d.note("~image"))
	s.Arm("copy", d.note("~copy"))
	s.Keep()
	if got := s.Pending(); len(got) != 0 {
		t.Errorf("pending %q after keep", got)
	}
	if err := s.Release(t.Context(), time.Minute, nil); err != nil {
		t.Fatal(err)
	}
	d.want(t)
}

func TestPendingNamesWhatWouldBeUndone(t *testing.T) {
	var d diary
	s := undo.NewStack("scaffold")
	s.Arm("volume", d.note("")).Rename("volume vol-1")
	s.Arm("mount", d.note(""))
	if got, want := s.Pending(), []string{"mount", "volume vol-1"}; !slices.Equal(got, want) {
		t.Errorf("pending %q, want %q", got, want)
	}
}

func TestReleaseOutlivesCancelButNotItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := undo.NewStack("scaffold")
		s.Arm("attachment", func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begun := time.Now()
		err := s.Release(ctx, 3*time.Minute, nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the deadline", err)
		}
		if took := time.Since(begun); took != 3*time.Minute {
			t.Errorf("released for %s, want the limit", took)
		}
	})
}

func TestConcurrentUndoRunsOnce(t *testing.T) {
	var d diary
	s := undo.NewStack("scaffold")
	var entries []*undo.Entry
	for i := range 20 {
		entries = append(entries, s.Arm(strconv.Itoa(i), d.note("~")))
	}
	var wg sync.WaitGroup
	for _, e := range entries {
		wg.Go(func() { _ = e.Undo(t.Context()) })
		wg.Go(func() { _ = s.Release(t.Context(), time.Minute, nil) })
	}
	wg.Wait()
	if len(d.lines) != len(entries) {
		t.Errorf("%d undoings ran for %d acts", len(d.lines), len(entries))
	}
}

func TestHoldsWhatIsArmed(t *testing.T) {
	s, other := undo.NewStack("scaffold"), undo.NewStack("products")
	undone := s.Arm("volume", (&diary{}).note("~volume"))
	disarmed := s.Arm("mount", (&diary{}).note("~mount"))
	for _, e := range []*undo.Entry{undone, disarmed} {
		if !s.Holds(e) || other.Holds(e) {
			t.Errorf("armed: held %v, by another stack %v", s.Holds(e), other.Holds(e))
		}
	}
	if err := undone.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	disarmed.Disarm()
	if s.Holds(undone) || s.Holds(disarmed) {
		t.Error("what is over is held")
	}
}
