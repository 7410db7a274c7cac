package cloudtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Throttle wraps the HTTP handler of a cloud, and throttles an action for a time on a clock. Each refusal
// takes a second on that clock, for waits that use the real time.
type Throttle struct {
	// Next is the cloud, and Refuse writes its response to a throttled request.
	Next   http.Handler
	Refuse http.HandlerFunc
	// Clock is the one on which clients pause.
	Clock *Clock
	// Action names the action of a request; "" lets it pass.
	Action func(r *http.Request, body []byte) string

	mu    sync.Mutex
	calls []string
	rule  ThrottleRule
	begun time.Duration
	hits  int
	// refused, if not nil, is called at the first refusal.
	refused func()
}

// ThrottleRule selects the calls that are throttled.
type ThrottleRule struct {
	// Action is throttled from its Nth call on, from 1, for this long.
	Action string
	Nth    int
	Lasts  time.Duration
}

// String names the rule.
func (r ThrottleRule) String() string { return fmt.Sprintf("%s %d", r.Action, r.Nth) }

// Begin puts a rule in force in place of another.
func (h *Throttle) Begin(rule ThrottleRule) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls, h.rule, h.begun, h.hits, h.refused = nil, rule, 0, 0, nil
}

// Hits returns how many calls the rule has refused.
func (h *Throttle) Hits() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hits
}

// Points returns the first and second calls of each action since Begin, to be throttled for
// a time.
func (h *Throttle) Points(lasts time.Duration) (all []ThrottleRule) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[string]int{}
	for _, action := range h.calls {
		if seen[action]++; seen[action] <= 2 {
			all = append(all, ThrottleRule{action, seen[action], lasts})
		}
	}
	return all
}

// ServeHTTP implements http.Handler.
func (h *Throttle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if h.refuses(h.Action(r, body)) {
		h.Refuse(w, r)
		return
	}
	h.Next.ServeHTTP(w, r)
}

func (h *Throttle) refuses(action string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if action == "" {
		return false
	}
	nth := 1
	for _, call := range h.calls {
		if call == action {
			nth++
		}
	}
	h.calls = append(h.calls, action)
	if action != h.rule.Action || nth < h.rule.Nth {
		return false
	}
	if h.hits == 0 {
		h.begun = h.Clock.Passed()
		if h.refused != nil {
			h.refused()
		}
	}
	if h.Clock.Passed()-h.begun >= h.rule.Lasts {
		return false
	}
	h.hits++
	h.Clock.Pass(time.Second)
	return true
}

// A Subject is tested by Throttled.
type Subject struct {
	// Build makes a build with these waits.
	Build func(context.Context, *testing.T, bake.Waits) error
	// Resources lists the resources in the cloud.
	Resources func() []string
	// Remove removes the image of a successful build.
	Remove func(*testing.T)
	// Creating are the actions that create resources, and those before them: without them a
	// build fails, and undoing does not need them.
	Creating []string
}

// Throttled tests that builds outlast 30 seconds of throttling at each of their calls, and
// that a build which is throttled for ever at a creating action reports that and leaves
// nothing, and that a build which is cancelled meanwhile ends and leaves nothing.
func (h *Throttle) Throttled(t *testing.T, s Subject) {
	t.Helper()
	before := fmt.Sprint(s.Resources())
	same := func(t *testing.T) {
		t.Helper()
		h.Begin(ThrottleRule{})
		if after := fmt.Sprint(s.Resources()); after != before {
			t.Errorf("there were %s, and are %s", before, after)
		}
	}
	h.Begin(ThrottleRule{})
	if err := s.Build(t.Context(), t, longWaits()); err != nil {
		t.Fatal(err)
	}
	points := h.Points(30 * time.Second)
	s.Remove(t)
	for _, point := range points {
		t.Run(point.String(), func(t *testing.T) {
			h.outlasted(t, s, point)
			same(t)
		})
	}
	for _, action := range s.Creating {
		forever := ThrottleRule{action, 1, 24 * time.Hour}
		t.Run(action+" for ever", func(t *testing.T) {
			h.Begin(forever)
			err := s.Build(t.Context(), t, ShortWaits())
			if err == nil || !strings.Contains(err.Error(), "throttled since ") {
				t.Errorf("the build ended with %v", err)
			}
			same(t)
		})
		t.Run(action+", cancelled", func(t *testing.T) {
			h.cancelled(t, s, forever)
			same(t)
		})
	}
}

// longWaits returns waits that outlast a throttling.
func longWaits() bake.Waits {
	w := ShortWaits()
	for _, pace := range []*bake.Pace{&w.Volume, &w.Attachment, &w.Snapshot, &w.Image, &w.Copy} {
		pace.Limit = time.Minute
	}
	return w
}

// outlasted runs a build that is throttled, and removes its image.
func (h *Throttle) outlasted(t *testing.T, s Subject, rule ThrottleRule) {
	t.Helper()
	h.Begin(rule)
	if err := s.Build(t.Context(), t, longWaits()); err != nil {
		t.Fatalf("after %d refusals: %v", h.Hits(), err)
	}
	if n := h.Hits(); n < 3 {
		t.Errorf("%d calls were refused", n)
	}
	s.Remove(t)
}

// cancelled runs a build that is cancelled at its first throttled call.
func (h *Throttle) cancelled(t *testing.T, s Subject, rule ThrottleRule) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h.Begin(rule)
	h.refused = cancel
	if err := s.Build(ctx, t, longWaits()); !errors.Is(err, context.Canceled) || h.Hits() > 2 {
		t.Errorf("after %d refusals the build ended with %v", h.Hits(), err)
	}
}
