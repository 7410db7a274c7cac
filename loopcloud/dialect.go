//go:build linux

package loopcloud

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// maxBody is more than any call of a dialect has in its body.
const maxBody = 16 << 20

// Dialect is a wire format that the cloud speaks.
type Dialect interface {
	http.Handler
	// Action names what a request asks for, empty if it does not tell.
	Action(r *http.Request, body []byte) string
	// Refuse answers with an error in the dialect's form.
	Refuse(w http.ResponseWriter, status int, code, message string)
}

// front stands before a dialect: it reads the body once, lets calls go wrong that
// are to go wrong, and records them all.
type front struct {
	name string
	// identity is the cloud's, which every answer tells.
	identity string
	Dialect
	*faults
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		f.Refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The body cannot be read: "+err.Error())
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	action := f.Action(r, body)
	rule := f.rules.Meet(f.name, action)
	w.Header().Set("Loopcloud-Id", f.identity)
	w.Header().Set("Date", f.wireTime().UTC().Format(http.TimeFormat))

	who := &state.Caller{}
	watched := &watcher{ResponseWriter: w}
	answered := f.answer(watched, r.WithContext(context.WithValue(r.Context(), callerKey{}, who)), action, rule)
	f.calls.Record(fault.Call{
		Dialect: f.name, Action: action, Account: who.Account, Region: who.Region,
		Fault: rule.Name(), Status: watched.status, Time: time.Now(),
	})
	switch {
	case answered:
	case watched.status != 0:
		panic(http.ErrAbortHandler) // half an answer must not look whole
	default:
		reset(w)
	}
}

// answer answers as the rule has it, and tells whether it did: if not, the
// connection is to be ended.
func (f *front) answer(w http.ResponseWriter, r *http.Request, action string, rule fault.Rule) bool {
	ctx, cancel := f.untilTheEnd(r.Context())
	defer cancel()
	r = r.WithContext(ctx)
	call := fault.Held{Dialect: f.name, Action: action}

	pause(ctx, time.Duration(rule.Delay))
	if !f.stop(ctx, call, rule, fault.Before) {
		return false
	}
	if status, code, message := f.refusal(rule); status != 0 {
		f.Refuse(w, status, code, message)
		return true
	}
	if !changesAnswer(rule) {
		f.Dialect.ServeHTTP(w, r)
		return true
	}
	a := &keptAnswer{header: w.Header(), status: http.StatusOK}
	f.Dialect.ServeHTTP(a, r)
	return f.stop(ctx, call, rule, fault.After) && a.send(ctx, w, rule)
}

// reset closes the connection so that the peer sees it reset, not ended.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2, or no connection at all: the server ends it
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // closing then resets; if it cannot be set, it closes
	}
	conn.Close()
}

// watcher remembers the status of an answer.
type watcher struct {
	http.ResponseWriter
	status int
}

func (w *watcher) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *watcher) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *watcher) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type callerKey struct{}

// noting is an Authorizer that also notes the caller for the record of calls.
func noting(authorize sigv4.Authorizer) sigv4.Authorizer {
	return func(r *http.Request, body []byte, service string) (state.Caller, error) {
		caller, err := authorize(r, body, service)
		if who, ok := r.Context().Value(callerKey{}).(*state.Caller); ok && err == nil {
			*who = caller
		}
		return caller, err
	}
}
