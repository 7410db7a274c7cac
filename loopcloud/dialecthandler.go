//go:build linux

package loopcloud

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

// maxBody is the largest body of a request, in bytes. The limits of the dialects are lower.
const maxBody = 16 << 20

// Dialect is an API that the server speaks.
type Dialect interface {
	// Action returns the name of the requested action, "" if the request names none.
	Action(r *wire.Request) string
	// Serve responds to a request.
	Serve(w http.ResponseWriter, r *wire.Request)
	// Refuse responds with an error in the dialect's form.
	Refuse(w http.ResponseWriter, status int, code, message string)
}

// dialectHandler is the HTTP handler of a dialect. It reads requests, applies fault rules and records
// calls.
type dialectHandler struct {
	name string
	// identity is the cloud's identity, which is in a header of every response.
	identity string
	// origins refuses requests of web pages; nil if requests need not be checked.
	origins *originPolicy
	Dialect
	*faults
}

// ServeHTTP reads a request and responds to it.
func (h *dialectHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.refuseOrigin(w, r) {
		return
	}
	in, err := wire.Read(w, r, maxBody)
	h.serve(w, in, err) //nolint:contextcheck // the request has its context
}

// refuseOrigin refuses a request that a web page may have made, and reports whether it did.
func (h *dialectHandler) refuseOrigin(w http.ResponseWriter, r *http.Request) bool {
	if h.origins == nil {
		return false
	}
	reason := h.origins.refusal(r)
	if reason != "" {
		h.Refuse(w, http.StatusForbidden, "AccessDenied", reason)
	}
	return reason != ""
}

// serve responds to a request; err is the error of reading it.
func (h *dialectHandler) serve(w http.ResponseWriter, r *wire.Request, err error) {
	if err != nil {
		h.Refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The body cannot be read: "+err.Error())
		return
	}
	action := h.Action(r)
	rule := h.rules.MatchCall(h.name, action)
	w.Header().Set("Loopcloud-Id", h.identity)
	w.Header().Set("Date", h.wireTime().UTC().Format(http.TimeFormat))

	who := &state.Caller{}
	watched := &statusRecorder{ResponseWriter: w}
	after := h.respond(watched, r.WithContext(context.WithValue(r.HTTP.Context(), callerKey{}, who)), action, rule)
	h.calls.Record(fault.Call{
		Dialect: h.name, Action: action, Account: who.Account, Region: who.Region,
		Fault: rule.Name(), Status: watched.status, Time: time.Now(),
	})
	end(w, after)
}

// respond responds to a call as the rule requires, and returns the state that the connection must
// have afterwards.
func (h *dialectHandler) respond(w http.ResponseWriter, r *wire.Request, action string, rule fault.Rule) fault.Connection {
	ctx, cancel := h.withEnding(r.HTTP.Context())
	defer cancel()
	r = r.WithContext(ctx)
	call := fault.Held{Dialect: h.name, Action: action}

	pause(ctx, time.Duration(rule.Delay))
	if after := h.stop(ctx, call, rule, fault.Before); after != fault.Open {
		return after
	}
	if status, code, message := h.refusal(rule); status != 0 {
		h.Refuse(w, status, code, message)
		return fault.Open
	}
	if !rule.ChangesResponse() {
		h.Serve(w, r)
		return fault.Open
	}
	a := &bufferedResponse{header: w.Header(), status: http.StatusOK}
	h.Serve(a, r)
	if after := h.stop(ctx, call, rule, fault.After); after != fault.Open {
		return after
	}
	return a.send(ctx, w, rule)
}

// end closes or resets the connection, unless it stays open.
func end(w http.ResponseWriter, after fault.Connection) {
	switch after {
	case fault.Open:
	case fault.Closed:
		panic(http.ErrAbortHandler) // an incomplete response must not look complete
	case fault.Reset:
		reset(w)
	}
}

// reset closes the connection with a reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2, or no connection: the server closes it
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // closing then resets; without it, closing ends the connection
	}
	conn.Close()
}

// statusRecorder records the status of a response.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (w *statusRecorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusRecorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap implements the interface of http.ResponseController.
func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type callerKey struct{}

// recordCaller returns an Authorizer that also records the caller for the log of calls.
func recordCaller(authorize sigv4.Authorizer) sigv4.Authorizer {
	return func(r *http.Request, body []byte, service string) (state.Caller, error) {
		caller, err := authorize(r, body, service)
		if who, ok := r.Context().Value(callerKey{}).(*state.Caller); ok && err == nil {
			*who = caller
		}
		return caller, err
	}
}
