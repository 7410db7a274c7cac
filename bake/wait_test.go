package bake

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var errNo = errors.New("no")

// after is a poll that is done after d.
func after(d time.Duration) observer {
	begun := time.Now()
	return func(context.Context) (observation, error) {
		return observation{state: "pending", done: time.Since(begun) >= d}, nil
	}
}

func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func TestUntilIsQuickAtFirstAndSlowLater(t *testing.T) {
	p := Pace{First: 100 * time.Millisecond, Longest: 2 * time.Second, Limit: time.Hour}
	for _, takes := range []time.Duration{0, 90 * time.Millisecond, time.Second, 10 * time.Minute} {
		bubble(t, func(t *testing.T) {
			begun, looks := time.Now(), 0
			inner := after(takes)
			err := p.until(t.Context(), schedule{}, "it", func(ctx context.Context) (observation, error) { looks++; return inner(ctx) })
			if err != nil {
				t.Fatal(err)
			}
			late := time.Since(begun) - takes
			// at most 5/4 of the interval by then: 100 ms and half of the elapsed time, and no more
			// than Longest or a twentieth of that time
			if longest := min(max(p.Longest, takes/20), 100*time.Millisecond+takes/2) * 5 / 4; late > longest {
				t.Errorf("noticed after %s what took %s", takes+late, takes)
			}
			if most := 12 + int(min(takes, 40*p.Longest)/(p.Longest*3/4)); looks > most+30 {
				t.Errorf("looked %d times within %s", looks, takes)
			}
		})
	}
}

func TestUntilGivesUp(t *testing.T) {
	never := func(context.Context) (observation, error) { return observation{state: "creating"}, nil }
	tests := []struct {
		name string
		pace Pace
		says string
	}{
		{"after its limit", Pace{First: time.Second, Longest: time.Second, Limit: time.Minute}, "gave up on it after 1m0s and 61 looks: it is still creating"},
		{"after its attempts", Pace{First: 5 * time.Second, Longest: 5 * time.Second, Limit: time.Nanosecond, Attempts: 4}, "gave up on it after 15s and 4 looks: it is still creating"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				if err := test.pace.until(t.Context(), schedule{}, "it", never); err == nil || err.Error() != test.says {
					t.Errorf("error %v, want %s", err, test.says)
				}
			})
		})
	}
}

// TestProgressExtendsTheLimit waits an hour with a limit of a minute.
func TestProgressExtendsTheLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		begun := time.Now()
		p := Pace{First: time.Second, Longest: 5 * time.Second, Limit: time.Minute}
		err := p.until(t.Context(), schedule{}, "it", func(context.Context) (observation, error) {
			percent := int(100 * time.Since(begun) / time.Hour)
			return observation{state: "pending", percent: min(percent, 100), done: percent >= 100}, nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestUntilEndsAtOnce(t *testing.T) {
	t.Run("with an error of the look", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			begun := time.Now()
			err := DefaultWaits().Volume.until(t.Context(), schedule{}, "it", func(context.Context) (observation, error) { return observation{}, errNo })
			if !errors.Is(err, errNo) || !strings.Contains(err.Error(), "it") || time.Since(begun) > 0 {
				t.Errorf("error %v after %s", err, time.Since(begun))
			}
		})
	})
	t.Run("with the context", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			begun := time.Now()
			time.AfterFunc(time.Minute, func() { cancel(errNo) })
			err := DefaultWaits().Snapshot.until(ctx, schedule{}, "it", after(time.Hour))
			if !errors.Is(err, errNo) || time.Since(begun) != time.Minute {
				t.Errorf("error %v after %s", err, time.Since(begun))
			}
		})
	})
	t.Run("when a look hangs", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			begun := time.Now()
			err := DefaultWaits().Volume.until(t.Context(), schedule{}, "it", func(ctx context.Context) (observation, error) {
				<-ctx.Done()
				return observation{}, ctx.Err()
			})
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != DefaultWaits().Volume.Limit {
				t.Errorf("error %v after %s", err, time.Since(begun))
			}
		})
	})
}

func TestNewResourceMayBeUnseen(t *testing.T) {
	missing := fmt.Errorf("vol-1: %w", ErrNotFound)
	p := Pace{First: time.Second, Longest: time.Second, Limit: time.Hour}
	tests := []struct {
		name string
		// seen and gone are the times from which the resource can be read and no longer can.
		seen, gone time.Duration
		ends       time.Duration
		err        error
	}{
		{"seen late", 10 * time.Second, 2 * time.Minute, time.Minute, nil},
		{"never seen", time.Hour, time.Hour, 30 * time.Second, ErrNotFound},
		{"seen, then gone", 2 * time.Second, 5 * time.Second, 5 * time.Second, ErrNotFound},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				begun := time.Now()
				err := p.until(t.Context(), schedule{}, "it", tolerateUnseen(30*time.Second, func(context.Context) (observation, error) {
					age := time.Since(begun)
					if age < test.seen || age >= test.gone {
						return observation{}, missing
					}
					return observation{state: "creating", done: age >= time.Minute}, nil
				}))
				if !errors.Is(err, test.err) || time.Since(begun) != test.ends {
					t.Errorf("error %v after %s, want %v after %s", err, time.Since(begun), test.err, test.ends)
				}
			})
		})
	}
}

func TestPolled(t *testing.T) {
	w := Waits{Unseen: time.Second}.Polled(5*time.Second, 40)
	want := Pace{First: 5 * time.Second, Longest: 5 * time.Second, Attempts: 40}
	if w.Image != want || w.Unseen != time.Second || w.Volume.Attempts != 40 {
		t.Errorf("waits %+v", w)
	}
	if only := (Waits{}).Polled(0, 7).orDefault(); only.Snapshot.First != DefaultWaits().Snapshot.First || only.Snapshot.Attempts != 7 {
		t.Errorf("attempts alone: %+v", only.Snapshot)
	}
}

// TestLimitedTo checks that one limit applies to every wait without a limit of its own, and that
// it does not extend the time for which a new resource may stay unseen.
func TestLimitedTo(t *testing.T) {
	if got := (Waits{}).LimitedTo(0); got != (Waits{}) {
		t.Errorf("no limit changes the waits to %+v", got)
	}
	long := Waits{Snapshot: Pace{Limit: time.Minute}}.LimitedTo(3 * time.Hour).orDefault()
	if long.Snapshot.Limit != time.Minute || long.Volume.Limit != 3*time.Hour || long.Copy.Limit != 3*time.Hour || long.Device != 3*time.Hour {
		t.Errorf("long limit: %+v", long)
	}
	if long.Unseen != DefaultWaits().Unseen || long.Lost != DefaultWaits().Lost {
		t.Errorf("long limit, for what is not there: %v and %v", long.Unseen, long.Lost)
	}
	short := Waits{}.Polled(time.Second, 0).LimitedTo(2 * time.Second).orDefault()
	if short.Image != (Pace{First: time.Second, Longest: time.Second, Limit: 2 * time.Second}) || short.Unseen != 2*time.Second {
		t.Errorf("short limit: %+v", short)
	}
}
