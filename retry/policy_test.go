package retry_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// kindError is an error that says its kind.
type kindError retry.Kind

func (e kindError) Error() string { return "the cloud says no" }

func kindOf(err error) retry.Kind {
	var kind kindError
	if !errors.As(err, &kind) {
		return retry.Permanent
	}
	return retry.Kind(kind)
}

var create = retry.Call{Service: "EC2", Action: "CreateVolume", Kind: kindOf}

// during fails with an error until a time on the clock.
func during(clock *cloudtest.Clock, end time.Duration, err error) func(context.Context) error {
	return func(context.Context) error {
		if clock.Passed() >= end {
			return nil
		}
		return err
	}
}

// TestRetryLimits checks for how long a call with a temporary failure is retried.
func TestRetryLimits(t *testing.T) {
	const forever = 24 * time.Hour
	never, before := func() bool { return false }, func() bool { return true }
	tests := map[string]struct {
		policy retry.Policy
		kind   retry.Kind
		lasts  time.Duration
		ends   time.Duration // when the call ends, at most
		ok     bool
	}{
		"throttled for 30 seconds":       {retry.Policy{}, retry.Throttled, 30 * time.Second, 45 * time.Second, true},
		"throttled for nine minutes":     {retry.Policy{}, retry.Throttled, 9 * time.Minute, 10 * time.Minute, true},
		"throttled for ever":             {retry.Policy{}, retry.Throttled, forever, retry.ThrottledFor, false},
		"failing for nearly two minutes": {retry.Policy{}, retry.Fault, 119 * time.Second, 2 * time.Minute, true},
		"failing for ever":               {retry.Policy{}, retry.Fault, forever, retry.FailingFor, false},
		"lost for ever":                  {retry.Policy{}, retry.Lost, forever, retry.FailingFor, false},
		"skewed for ever":                {retry.Policy{}, retry.Skewed, forever, retry.SkewedFor, false},
		"never reached":                  {retry.Policy{Reached: never}, retry.Unreached, forever, retry.UnreachedFor, false},
		"reached before":                 {retry.Policy{Reached: before}, retry.Unreached, forever, retry.FailingFor, false},
		"permanent":                      {retry.Policy{}, retry.Permanent, forever, 0, false},
		"throttled, long limit":          {retry.Policy{WaitLimit: time.Hour}, retry.Throttled, forever, time.Hour, false},
		"failing, long limit":            {retry.Policy{WaitLimit: time.Hour}, retry.Fault, forever, time.Hour, false},
		"unseen for ever":                {retry.Policy{}, retry.Unseen, forever, retry.UnseenFor, false},
		"unseen, short limit":            {retry.Policy{WaitLimit: time.Second}, retry.Unseen, forever, time.Second, false},
		"unseen, in one attempt":         {retry.Policy{Attempts: 1}, retry.Unseen, forever, retry.UnseenFor, false},
		"skewed, long limit":             {retry.Policy{WaitLimit: time.Hour}, retry.Skewed, forever, retry.SkewedFor, false},
		"skewed, short limit":            {retry.Policy{WaitLimit: time.Second}, retry.Skewed, forever, time.Second, false},
		"skewed, in one attempt":         {retry.Policy{Attempts: 1}, retry.Skewed, forever, retry.SkewedFor, false},
		"throttled, twenty retries":      {retry.Policy{Attempts: 21}, retry.Throttled, 80 * time.Second, 4 * time.Minute, true},
		"throttled, many retries, limit": {retry.Policy{Attempts: 1000, WaitLimit: time.Minute}, retry.Throttled, forever, time.Minute, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			clock := new(cloudtest.Clock)
			test.policy.Clock = clock
			failure := kindError(test.kind)
			err := test.policy.Do(t.Context(), create, during(clock, test.lasts, failure))
			switch passed := clock.Passed(); {
			case (err == nil) != test.ok || err != nil && !errors.Is(err, failure):
				t.Errorf("%v after %v", err, passed)
			case test.ok && passed < test.lasts, !test.ok && passed != test.ends, passed > test.ends:
				t.Errorf("it ended after %v, want %v", passed, test.ends)
			}
		})
	}
}

// TestAttempts checks that a number of attempts is kept exactly, and that an error says how
// many there were, of what kind, and since when.
func TestAttempts(t *testing.T) {
	n := 0
	policy := retry.Policy{Attempts: 3, Clock: new(cloudtest.Clock)}
	err := policy.Do(t.Context(), create, func(ctx context.Context) error {
		n++
		if attempt, pause := retry.AttemptOf(ctx, "CreateVolume"); attempt != n || (pause > 0) != (n > 1) {
			t.Errorf("attempt %d is told to be %d, after %v", n, attempt, pause)
		}
		if other, _ := retry.AttemptOf(ctx, "AssumeRole"); other != 1 {
			t.Errorf("another call is attempt %d", other)
		}
		return kindError(retry.Throttled)
	})
	if n != 3 || err == nil || !strings.HasPrefix(err.Error(), "the cloud says no (throttled since 07:00:00 UTC, for ") || !strings.HasSuffix(err.Error(), ", 3 attempts)") {
		t.Errorf("%v after %d attempts", err, n)
	}
	if trouble := retry.Trouble(err); trouble == nil || trouble.Kind != retry.Throttled {
		t.Errorf("trouble %+v", trouble)
	}
}

// TestOnceSettles checks that the refusal of a signature does not end a wait if the next attempt is
// accepted.
func TestOnceSettles(t *testing.T) {
	clock := new(cloudtest.Clock)
	err := retry.Policy{Clock: clock}.Do(retry.Once(t.Context()), create, during(clock, time.Second, kindError(retry.Skewed)))
	if err != nil {
		t.Error(err)
	}
	clock = new(cloudtest.Clock)
	err = retry.Policy{Clock: clock}.Do(retry.Once(t.Context()), create, during(clock, time.Hour, kindError(retry.Skewed)))
	if err == nil || retry.Trouble(err) != nil || clock.Passed() != retry.SkewedFor {
		t.Errorf("%v after %v", err, clock.Passed())
	}
}

// TestOnce checks that a caller that polls gets every error at once, with its kind.
func TestOnce(t *testing.T) {
	for kind, passes := range map[retry.Kind]bool{
		retry.Throttled: true, retry.Fault: true, retry.Lost: true, retry.Unreached: true, retry.Permanent: false,
	} {
		n := 0
		err := retry.Policy{}.Do(retry.Once(t.Context()), create, func(context.Context) error { n++; return kindError(kind) })
		if n != 1 || !errors.Is(err, kindError(kind)) || (retry.Trouble(err) != nil) != passes || err.Error() != "the cloud says no" {
			t.Errorf("%v: %v after %d attempts", kind, err, n)
		}
	}
}

// TestCallWithinACall checks that the limit of a call within an attempt is not multiplied.
func TestCallWithinACall(t *testing.T) {
	clock := new(cloudtest.Clock)
	policy := retry.Policy{Clock: clock}
	err := policy.Do(t.Context(), create, func(ctx context.Context) error {
		return policy.Do(ctx, create, func(context.Context) error { return kindError(retry.Fault) })
	})
	if err == nil || clock.Passed() != retry.FailingFor {
		t.Errorf("%v after %v", err, clock.Passed())
	}
}

// TestCancel ends a pause, and an attempt, at once.
func TestCancel(t *testing.T) {
	why := errors.New("the user has enough")
	for name, policy := range map[string]retry.Policy{"in a pause": {First: time.Hour}, "in an attempt": {}} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			n := 0
			err := policy.Do(ctx, create, func(ctx context.Context) error {
				n++
				if name == "in a pause" {
					time.AfterFunc(time.Millisecond, func() { cancel(why) })
					return kindError(retry.Throttled)
				}
				cancel(why)
				<-ctx.Done()
				return ctx.Err()
			})
			if !errors.Is(err, why) || n != 1 {
				t.Errorf("%v after %d attempts", err, n)
			}
		})
	}
}

// heard is a listener that remembers.
type heard []string

func (h *heard) Hear(e event.Event) { *h = append(*h, e.String()) }

// TestHeldCallIsReported checks that a message appears if a call is retried for some seconds,
// and then each minute.
func TestHeldCallIsReported(t *testing.T) {
	tests := map[string]struct {
		policy retry.Policy
		kind   retry.Kind
		lasts  time.Duration
		want   []string
	}{
		"short": {retry.Policy{}, retry.Throttled, 2 * time.Second, nil},
		"long":  {retry.Policy{}, retry.Throttled, time.Minute, []string{"EC2 CreateVolume: throttled since 07:00:00 UTC; trying again for up to 10m0s"}},
		"longer": {retry.Policy{}, retry.Throttled, 3 * time.Minute, slices.Repeat(
			[]string{"EC2 CreateVolume: throttled since 07:00:00 UTC; trying again for up to 10m0s"}, 3)},
		"failing":         {retry.Policy{}, retry.Fault, time.Minute, []string{"EC2 CreateVolume: failing inside the cloud since 07:00:00 UTC; trying again for up to 2m0s"}},
		"by attempts":     {retry.Policy{Attempts: 50}, retry.Lost, time.Minute, []string{"EC2 CreateVolume: not answered since 07:00:00 UTC; trying again"}},
		"a signature":     {retry.Policy{}, retry.Skewed, 4 * time.Second, nil},
		"without an end":  {retry.Policy{WaitLimit: time.Minute}, retry.Unreached, time.Hour, []string{"EC2 CreateVolume: without a connection since 07:00:00 UTC; trying again for up to 1m0s"}},
		"at an end first": {retry.Policy{WaitLimit: 4 * time.Second}, retry.Throttled, time.Hour, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			clock, h := new(cloudtest.Clock), new(heard)
			test.policy.Clock = clock
			_ = test.policy.Do(event.Listen(t.Context(), h), create, during(clock, test.lasts, kindError(test.kind)))
			if !slices.Equal(*h, test.want) {
				t.Errorf("heard %q, want %q", *h, test.want)
			}
		})
	}
}

// TestPauses checks that pauses grow to 15 seconds, and are never shorter than half of
// themselves.
func TestPauses(t *testing.T) {
	clock := new(cloudtest.Clock)
	last, longest := time.Duration(0), time.Duration(0)
	_ = retry.Policy{Clock: clock}.Do(t.Context(), create, func(ctx context.Context) error {
		n, pause := retry.AttemptOf(ctx, "CreateVolume")
		if n > 1 && (pause < last/2 || pause > 15*time.Second || n == 2 && pause > 250*time.Millisecond) {
			t.Errorf("a pause of %v after one of %v, before attempt %d", pause, last, n)
		}
		last, longest = pause, max(longest, pause)
		if n == 40 {
			return nil
		}
		return kindError(retry.Throttled)
	})
	if longest < 10*time.Second {
		t.Errorf("the longest pause was %v", longest)
	}
}

// TestRealTime checks that a policy without a clock of its own waits in real time.
func TestRealTime(t *testing.T) {
	n := 0
	err := retry.Policy{First: time.Millisecond}.Do(t.Context(), create, func(context.Context) error {
		if n++; n < 3 {
			return kindError(retry.Throttled)
		}
		return nil
	})
	if err != nil || n != 3 {
		t.Errorf("%v after %d attempts", err, n)
	}
}
