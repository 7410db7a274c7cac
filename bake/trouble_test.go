package bake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// errBusy is the error of a poll that the cloud throttles.
var errBusy = fmt.Errorf("cannot read it: %w", &retry.CallError{Kind: retry.Throttled, Err: errNo})

// between is a poll that returns errBusy for a time, and is done after another.
func between(from, to, done time.Duration) observer {
	begun := time.Now()
	return func(context.Context) (observation, error) {
		if age := time.Since(begun); age >= from && age < to {
			return observation{}, errBusy
		}
		return observation{state: "pending", done: time.Since(begun) >= done}, nil
	}
}

// TestThrottledPolls checks that throttled polls count as "not yet", within the limit of the
// wait.
func TestThrottledPolls(t *testing.T) {
	for name, test := range map[string]struct {
		pace           Pace
		from, to, done time.Duration
		says           string // empty if the wait succeeds
	}{
		"for 30 seconds":            {DefaultWaits().Volume, time.Second, 31 * time.Second, 20 * time.Second, ""},
		"from the first look on":    {DefaultWaits().Image, 0, 5 * time.Minute, time.Minute, ""},
		"for an hour of a snapshot": {DefaultWaits().Snapshot, time.Minute, time.Hour, 2 * time.Hour, ""},
		"for ever": {Pace{First: time.Second, Longest: time.Second, Limit: time.Minute}, 0, time.Hour, time.Hour,
			"gave up on it after 1m0s and 61 looks, which were throttled since 00:00:00 UTC: cannot read it: no"},
		"in all attempts": {Pace{First: time.Second, Longest: time.Second, Attempts: 3}, time.Second, time.Hour, time.Hour,
			"gave up on it after 2s and 3 looks, which were throttled since 00:00:01 UTC: cannot read it: no"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				err := test.pace.until(t.Context(), schedule{}, "it", between(test.from, test.to, test.done))
				if test.says == "" && err != nil || test.says != "" && (err == nil || err.Error() != test.says || !errors.Is(err, errNo)) {
					t.Errorf("%v after %v", err, time.Now())
				}
			})
		})
	}
}

// TestCancelThrottledPolls checks that a cancel ends the wait at once.
func TestCancelThrottledPolls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		begun := time.Now()
		time.AfterFunc(time.Minute, func() { cancel(errNo) })
		err := DefaultWaits().Volume.until(ctx, schedule{}, "it", between(0, time.Hour, time.Hour))
		if !errors.Is(err, errNo) || time.Since(begun) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

// TestPollsAreNotRetried checks that calls within a wait are made once for each poll.
func TestPollsAreNotRetried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		call := retry.Call{Kind: func(error) retry.Kind { return retry.Throttled }}
		tries, looks := 0, 0
		err := DefaultWaits().Volume.until(t.Context(), schedule{}, "it", func(ctx context.Context) (observation, error) {
			looks++
			return observation{done: true}, retry.Policy{}.Do(ctx, call, func(context.Context) error {
				if tries++; tries < 4 {
					return errNo
				}
				return nil
			})
		})
		if err != nil || tries != 4 || looks != 4 {
			t.Errorf("%v after %d looks, with %d tries", err, looks, tries)
		}
	})
}

// TestThrottledPollOfNewResource checks that a new resource may be unseen for the full time
// after the throttling.
func TestThrottledPollOfNewResource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		begun := time.Now()
		err := DefaultWaits().Volume.until(t.Context(), schedule{}, "it", tolerateUnseen(30*time.Second, func(context.Context) (observation, error) {
			switch age := time.Since(begun); {
			case age < time.Minute:
				return observation{}, errBusy
			case age < 80*time.Second:
				return observation{}, ErrNotFound
			}
			return observation{done: true}, nil
		}))
		if err != nil {
			t.Error(err)
		}
	})
}

// heldUp is a listener for delays.
type heldUp []string

func (h *heldUp) Hear(e event.Event) {
	if held, ok := e.(event.Held); ok {
		*h = append(*h, held.String())
	}
}

// TestThrottledPollsAreReported checks that throttling is reported after some seconds, and
// then each minute.
func TestThrottledPollsAreReported(t *testing.T) {
	for lasts, want := range map[time.Duration][]string{
		time.Second:     nil,
		time.Minute:     {"looking at it: throttled since 00:00:00 UTC; trying again for up to 10m0s"},
		3 * time.Minute: slices.Repeat([]string{"looking at it: throttled since 00:00:00 UTC; trying again for up to 10m0s"}, 3),
	} {
		bubble(t, func(t *testing.T) {
			var h heldUp
			if err := DefaultWaits().Volume.until(event.Listen(t.Context(), &h), schedule{}, "it", between(0, lasts, 0)); err != nil {
				t.Error(err)
			}
			if !slices.Equal(h, want) {
				t.Errorf("told %q, want %q", h, want)
			}
		})
	}
}

// TestLostEffectIsSearchedAfterLateResponse checks that the resource of a lost call is found
// if it is shown later than the first response to a search, however late that was.
func TestLostEffectIsSearchedAfterLateResponse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		looks := 0
		ids, err := search(t.Context(), 2*time.Second, func(context.Context) ([]VolumeID, error) {
			if looks++; looks == 1 {
				time.Sleep(time.Minute)
				return nil, nil
			}
			return []VolumeID{"vol-1"}, nil
		})
		if err != nil || len(ids) != 1 {
			t.Errorf("%v, %v", ids, err)
		}
	})
}
