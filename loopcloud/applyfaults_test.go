//go:build linux

package loopcloud

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
)

func TestFaults(t *testing.T) {
	for name, test := range map[string]struct {
		rule   fault.Rule
		answer string // empty: the connection is reset
		did    int32
		status int
	}{
		"none":        {fault.Rule{Action: "Other", Status: 500}, "200 done Act", 1, 200},
		"refused":     {fault.Rule{Action: "Act", Status: 503, Code: "Throttling", Message: "slow down"}, "503 Throttling: slow down", 0, 503},
		"delayed":     {fault.Rule{Delay: fault.Duration(time.Millisecond)}, "200 done Act", 1, 200},
		"error":       {fault.Rule{Error: "throttled"}, "400 Throttling: Rate exceeded", 0, 400},
		"denied":      {fault.Rule{Error: "denied"}, "403 AccessDenied: The call is not authorized", 0, 403},
		"internal":    {fault.Rule{Error: "internal"}, "500 InternalFailure: The call has failed", 0, 500},
		"unavailable": {fault.Rule{Error: "unavailable"}, "503 ServiceUnavailable: The service is unavailable", 0, 503},
		"garbage":     {fault.Rule{Body: fault.Garbage}, "200 \xff\xfe<\x00}garbage]\x80>{", 1, 200},
		"empty":       {fault.Rule{Body: fault.Empty}, "200 ", 1, 200},
		"truncated":   {fault.Rule{Body: fault.Truncated}, "200 done", 1, 200},
		"corrupt":     {fault.Rule{Body: fault.Corrupt}, "200 done Acu", 1, 200},
		"trickle":     {fault.Rule{Trickle: fault.Duration(time.Microsecond)}, "200 done Act", 1, 200},
		"rewritten": {fault.Rule{Rewrite: []fault.Rewrite{
			{Match: fault.Pattern{Regexp: regexp.MustCompile("d(.)ne")}, With: "g${1}ne"},
			{Match: fault.Pattern{Regexp: regexp.MustCompile("Act")}, With: "../../etc"},
		}}, "200 gone ../../etc", 1, 200},
		"drop before": {fault.Rule{Drop: fault.Before}, "", 0, 0},
		"drop after":  {fault.Rule{Drop: fault.After}, "", 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f, e, url := serveEcho(t)
			f.rules.Add(test.rule)
			got, err := post(t, url, "Act")
			switch {
			case got != test.answer:
				t.Errorf("answered was %q, not %q (%v)", got, test.answer, err)
			case got == "" && !errors.Is(err, syscall.ECONNRESET):
				t.Errorf("the connection was not reset: %v", err)
			}
			if did := e.did.Load(); did != test.did {
				t.Errorf("it was done %d times", did)
			}
			calls := f.calls.List()
			wantFault := test.rule.Name()
			if name == "none" {
				wantFault = ""
			}
			if len(calls) != 1 || calls[0].Fault != wantFault || calls[0].Action != "Act" || calls[0].Dialect != "echo" || calls[0].Status != test.status {
				t.Errorf("recorded were %+v", calls)
			}
		})
	}
}

// afterItsRules waits until a call has used the last rule. The call of a client with a deadline
// may not have arrived yet.
func (f *dialectHandler) afterItsRules(then func()) {
	for len(f.rules.List()) > 0 {
		time.Sleep(time.Millisecond)
	}
	then()
}

// disconnects makes a call whose client disconnects after the last rule was used, and waits until the call
// has ended. The test's own time limit is the bound.
func (f *dialectHandler) disconnects(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("Act"))
	if err != nil {
		t.Fatal(err)
	}
	go f.afterItsRules(cancel)
	if _, err := http.DefaultClient.Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	for len(f.calls.List()) == 0 {
		time.Sleep(time.Millisecond)
	}
}

// TestDelayEndsWithTheClient: a call that is delayed ends when its client disconnects.
func TestDelayEndsWithTheClient(t *testing.T) {
	f, _, url := serveEcho(t)
	f.rules.Add(fault.Rule{Delay: fault.Duration(time.Hour), Times: 1})
	f.disconnects(t, url)
}

// TestCutResponse checks that a cut response has the full length in its header and half of the
// body.
func TestCutResponse(t *testing.T) {
	f, e, url := serveEcho(t)
	f.rules.Add(fault.Rule{Body: fault.Cut})
	got, err := post(t, url, "Act")
	if got != "200 done" || !errors.Is(err, io.ErrUnexpectedEOF) || e.did.Load() != 1 {
		t.Errorf("answered was %q (%v)", got, err)
	}
}

// TestHangingCall checks that the call ends when the client disconnects, with or without
// effect.
func TestHangingCall(t *testing.T) {
	for when, want := range map[fault.When]int32{fault.Before: 0, fault.After: 1} {
		t.Run(string(when), func(t *testing.T) {
			f, e, url := serveEcho(t)
			f.rules.Add(fault.Rule{Hang: when, Times: 1})
			f.disconnects(t, url)
			if did := e.did.Load(); did != want || f.calls.List()[0].Status != 0 {
				t.Errorf("it was done %d times: %+v", did, f.calls.List())
			}
		})
	}
}

// TestHeldCall checks that a released call continues, and that a call whose client has
// disconnected does not.
func TestHeldCall(t *testing.T) {
	for when, did := range map[fault.When]int32{fault.Before: 0, fault.After: 1} {
		t.Run(string(when), func(t *testing.T) {
			f, e, url := serveEcho(t)
			f.rules.Add(fault.Rule{Hold: when})
			answers := make(chan string, 1)
			go func() {
				got, _ := post(t, url, "Act")
				answers <- got
			}()
			held := f.holds.Await(t.Context())
			if len(held) != 1 || held[0].Action != "Act" || held[0].Dialect != "echo" || held[0].When != when || e.did.Load() != did {
				t.Errorf("held are %+v, done %d times", held, e.did.Load())
			}
			f.holds.Release(held[0].N)
			if got := <-answers; got != "200 done Act" || e.did.Load() != 1 {
				t.Errorf("released, answered was %q", got)
			}
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("Act"))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				f.holds.Await(ctx)
				cancel()
			}()
			if _, err := http.DefaultClient.Do(req); !errors.Is(err, context.Canceled) {
				t.Errorf("the error is %v", err)
			}
			for len(f.calls.List()) == 1 {
				time.Sleep(time.Millisecond)
			}
			if got := e.did.Load(); got != 1+did || len(f.holds.List()) != 0 {
				t.Errorf("its client gone, it was done %d times", got-1)
			}
		})
	}
}
