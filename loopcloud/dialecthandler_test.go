//go:build linux

package loopcloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

// echo is a dialect whose action is the body. It counts its calls.
type echo struct {
	authorize sigv4.Authorizer
	did       atomic.Int32
}

func (e *echo) Action(r *wire.Request) string { return string(r.Body) }

func (e *echo) Refuse(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "%s: %s", code, message)
}

func (e *echo) Serve(w http.ResponseWriter, r *wire.Request) {
	if _, err := e.authorize(r.HTTP, r.Body, "echo"); err != nil {
		e.Refuse(w, http.StatusForbidden, "AuthFailure", err.Error())
		return
	}
	e.did.Add(1)
	fmt.Fprintf(w, "done %s", r.Body)
}

// authorizeAll authorizes every caller whose Authorization is not "nobody".
func authorizeAll(r *http.Request, _ []byte, _ string) (state.Caller, error) {
	if r.Header.Get("Authorization") == "nobody" {
		return state.Caller{}, sigv4.ErrUnknownKey
	}
	return state.Caller{Account: "123456789012", Region: "eu-west-2"}, nil
}

// serveEcho serves the echo dialect.
func serveEcho(t *testing.T) (*dialectHandler, *echo, string) {
	t.Helper()
	e := &echo{authorize: recordCaller(authorizeAll)}
	f := &dialectHandler{name: "echo", Dialect: e, faults: &faults{ending: t.Context()}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return f, e, server.URL
}

// post returns the status and the body of a response.
func post(t *testing.T, url, body string) (string, error) {
	t.Helper()
	resp, err := http.Post(url, "text/plain", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, text), err
}

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

func TestDelayEndsWithTheClient(t *testing.T) {
	f, _, url := serveEcho(t)
	f.rules.Add(fault.Rule{Delay: fault.Duration(time.Hour), Times: 1})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	go f.afterItsRules(cancel)
	if _, err := http.DefaultClient.Do(req); !errors.Is(err, context.Canceled) {
		t.Fatalf("the error is %v", err)
	}
	for len(f.calls.List()) == 0 { // the test's own time limit is the bound
		time.Sleep(time.Millisecond)
	}
}

func TestCallLogHasCaller(t *testing.T) {
	f, _, url := serveEcho(t)
	if _, err := post(t, url, "Known"); err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequest(http.MethodPost, url, strings.NewReader("Unknown"))
	req.Header.Set("Authorization", "nobody")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	calls := f.calls.List()
	if c := calls[0]; c.Account != "123456789012" || c.Region != "eu-west-2" || c.Time.IsZero() {
		t.Errorf("the first is %+v", c)
	}
	if c := calls[1]; c.Account != "" || c.Status != http.StatusForbidden {
		t.Errorf("the second is %+v", c)
	}
}

func TestBodyLimit(t *testing.T) {
	f, e, url := serveEcho(t)
	resp, err := http.Post(url, "text/plain", bytes.NewReader(make([]byte, maxBody+1)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge || e.did.Load() != 0 || len(f.calls.List()) != 0 {
		t.Errorf("it was answered with %s", resp.Status)
	}
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
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("Act"))
			if err != nil {
				t.Fatal(err)
			}
			go f.afterItsRules(cancel)
			if _, err := http.DefaultClient.Do(req); !errors.Is(err, context.Canceled) {
				t.Errorf("the error is %v", err)
			}
			for len(f.calls.List()) == 0 { // the test's own time limit is the bound
				time.Sleep(time.Millisecond)
			}
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
