package bake

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/polling"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// counted counts the polls of an observer.
func counted(n *int, observe observer) observer {
	return func(ctx context.Context) (observation, error) { *n++; return observe(ctx) }
}

// watcher returns an undoer with a state directory.
func watcher(dir string) *undoer {
	return &undoer{waits: DefaultWaits(), polling: polling.NewStore(dir, "here")}
}

// TestEarlierWaitsShowWhenToLook checks that later builds on a host wait with fewer polls than its first one, and notice the
// end soon. The intervals are random, so several hosts are added up.
func TestEarlierWaitsShowWhenToLook(t *testing.T) {
	const hosts, builds, takes = 20, 6, 5 * time.Second
	var late [builds]time.Duration
	var looks [builds]int
	for range hosts {
		dir := testdir.New(t)
		for build := range builds {
			bubble(t, func(t *testing.T) {
				u, begun := watcher(dir), time.Now()
				if err := u.watch(t.Context(), u.waits.Image, imageWait, "it", counted(&looks[build], after(takes))); err != nil {
					t.Fatal(err)
				}
				late[build] += time.Since(begun) - takes
				if err := u.polling.Save(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if last := builds - 1; looks[last] >= looks[0] || late[last] > hosts*takes/10 {
		t.Errorf("%d looks, %v late", looks, late)
	}
}

// TestWaitsThatAreNotRemembered checks that only the durations of waits that end well, and with
// intervals that the build chooses, are remembered.
func TestWaitsThatAreNotRemembered(t *testing.T) {
	dir := testdir.New(t)
	broken := func(context.Context) (observation, error) { return observation{}, errNo }
	for name, test := range map[string]struct {
		pace    Pace
		observe func() observer
	}{
		"failed":              {DefaultWaits().Image, func() observer { return broken }},
		"given up":            {Pace{First: time.Second, Longest: 2 * time.Second, Limit: time.Minute}, func() observer { return after(time.Hour) }},
		"throttled meanwhile": {DefaultWaits().Image, func() observer { return between(time.Second, 3*time.Second, time.Minute) }},
		"the user's interval": {Pace{First: time.Second, Longest: time.Second, Limit: time.Hour}, func() observer { return after(time.Minute) }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				u := watcher(dir)
				_ = u.watch(t.Context(), test.pace, imageWait, "it", test.observe()) // its duration counts
				if err := u.polling.Save(); err != nil {
					t.Error(err)
				}
			})
			if earlier := polling.NewStore(dir, "here").Earlier(imageWait); len(earlier) > 0 {
				t.Errorf("remembered %v", earlier)
			}
		})
	}
}

// TestThrottlingSlowsOtherBuildsDown checks that a build looks less often while another one on the
// host is throttled, and as before afterwards.
func TestThrottlingSlowsOtherBuildsDown(t *testing.T) {
	dir := testdir.New(t)
	const takes = 30 * time.Second
	looks := func(throttled bool) (n int) {
		bubble(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if throttled {
				one := watcher(dir)
				go func() { _ = one.watch(ctx, one.waits.Volume, volumeWait, "it", between(0, time.Hour, time.Hour)) }()
				time.Sleep(10 * time.Second)
			}
			other := watcher(dir)
			if err := other.watch(ctx, other.waits.Volume, attachmentWait, "it", counted(&n, after(takes))); err != nil {
				t.Error(err)
			}
		})
		return n
	}
	alone := looks(false)
	if slow := looks(true); slow > alone*2/3 {
		t.Errorf("%d looks while another build is throttled, and %d otherwise", slow, alone)
	}
	if err := os.Remove(filepath.Join(dir, polling.FileName)); err != nil {
		t.Errorf("the throttling is not shared: %v", err)
	}
}

// TestLimitCountsWithLongPauses checks that a wait is given up at its limit although a forecast is
// for later.
func TestLimitCountsWithLongPauses(t *testing.T) {
	dir := testdir.New(t)
	s := polling.NewStore(dir, "here")
	s.Ended(imageWait, polling.Span{After: time.Hour, By: time.Hour})
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []time.Duration{time.Second, 10 * time.Second, time.Minute} {
		bubble(t, func(t *testing.T) {
			u, begun := watcher(dir), time.Now()
			pace := u.waits.Image
			pace.Limit = limit
			err := u.watch(t.Context(), pace, imageWait, "it", after(2*time.Hour))
			if took := time.Since(begun); err == nil || took < limit || took > limit+pace.First {
				t.Errorf("%v after %v, with a limit of %v", err, took, limit)
			}
		})
	}
}

// TestCancelBeforeTheFirstLook checks that a cancel ends the pause before the first look.
func TestCancelBeforeTheFirstLook(t *testing.T) {
	dir := testdir.New(t)
	s := polling.NewStore(dir, "here")
	s.Ended(imageWait, polling.Span{After: time.Minute, By: time.Minute})
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Millisecond, func() { cancel(errNo) })
		u, n, begun := watcher(dir), 0, time.Now()
		err := u.watch(ctx, u.waits.Image, imageWait, "it", counted(&n, after(0)))
		if n != 0 || time.Since(begun) != time.Millisecond || err == nil || err.Error() != "stopped waiting for it, which was not seen yet: no" {
			t.Errorf("%v after %d looks and %v", err, n, time.Since(begun))
		}
	})
}
