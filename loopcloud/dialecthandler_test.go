//go:build linux

package loopcloud

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

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
