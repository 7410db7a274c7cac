//go:build linux

package loopcloud

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// faults holds the fault rules, the held calls and the log of calls.
type faults struct {
	rules fault.Rules
	calls fault.CallLog
	holds fault.Holds
	skew  skew
	// ending is canceled when the cloud closes. It ends calls that would otherwise not end.
	ending context.Context //nolint:containedctx // it is the server's life, not a call's
}

// withEnding returns a context that is also canceled when the cloud closes.
func (f *faults) withEnding(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(f.ending, cancel)
	return ctx, func() { stop(); cancel() }
}

// wireTime returns the time of the Date header and of signatures.
func (f *faults) wireTime() time.Time { return time.Now().Add(f.skew.get()) }

// outcome returns the outcome of an act according to the rules.
func (f *faults) outcome(act state.Act) state.Outcome {
	rule := f.rules.MatchAct(string(act))
	return state.Outcome{
		Ending: state.Ending(rule.Outcome),
		Stale:  state.Stale{Reads: int(rule.Stale.Reads), For: time.Duration(rule.Stale.For), Changes: int(rule.Stale.Changes)},
	}
}

// stop applies a rule on one side of the effect. The call continues if it returns fault.Open.
func (f *faults) stop(ctx context.Context, call fault.Held, rule fault.Rule, when fault.When) fault.Connection {
	switch when {
	case rule.Drop:
		return fault.Reset
	case rule.Hang:
		<-ctx.Done()
		return fault.Reset
	case rule.Hold:
		call.When = when
		if f.holds.Wait(ctx, call) != nil {
			return fault.Reset
		}
	}
	return fault.Open
}

// faultNamer is an optional interface of Dialect. It returns the dialect's error response for a
// named fault: throttled, internal, unavailable or denied.
type faultNamer interface {
	Fault(name string) (status int, code, message string)
}

// refusal returns the error response of a rule. The status is 0 if the rule has none.
func (h *dialectHandler) refusal(rule fault.Rule) (status int, code, message string) {
	if rule.Error == "" {
		return rule.Status, rule.Code, rule.Message
	}
	if d, ok := h.Dialect.(faultNamer); ok {
		return d.Fault(rule.Error)
	}
	switch rule.Error {
	case fault.Throttled, fault.ThrottledAccount, fault.ThrottledCall:
		return http.StatusBadRequest, "Throttling", "Rate exceeded"
	case "unavailable":
		return http.StatusServiceUnavailable, "ServiceUnavailable", "The service is unavailable"
	case "denied":
		return http.StatusForbidden, "AccessDenied", "The call is not authorized"
	}
	return http.StatusInternalServerError, "InternalFailure", "The call has failed"
}

// bufferedResponse is a response that is not sent yet.
type bufferedResponse struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *bufferedResponse) Header() http.Header         { return a.header }
func (a *bufferedResponse) Write(p []byte) (int, error) { return a.body.Write(p) }
func (a *bufferedResponse) WriteHeader(status int)      { a.status = status }

// send sends the response as the rule requires.
func (a *bufferedResponse) send(ctx context.Context, w http.ResponseWriter, rule fault.Rule) fault.Connection {
	body := a.body.Bytes()
	for _, rw := range rule.Rewrite {
		body = rw.Match.ReplaceAll(body, []byte(rw.With))
	}
	body, length, after := rule.Body.Deliver(body)
	a.header.Set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(a.status)
	trickle(ctx, w, body, trickled, time.Duration(rule.Trickle))
	if after != fault.Open {
		flush(w)
	}
	return after
}

// trickled is the size of the parts of a response with the fault Trickle, in bytes.
const trickled = 16

// trickle writes a body in parts of this size, with a pause before each. It writes the whole body at
// once if the pause is 0. The last part is sent when the call has ended, so that a client with the
// whole response finds the call in the log.
func trickle(ctx context.Context, w http.ResponseWriter, body []byte, size int, every time.Duration) {
	for every > 0 && len(body) > size {
		pause(ctx, every)
		if _, err := w.Write(body[:size]); err != nil {
			return // the client is gone
		}
		flush(w)
		body = body[size:]
	}
	pause(ctx, every)
	_, _ = w.Write(body)
}

// flush sends the written data. Data that cannot be sent now is sent at the end.
func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// pause waits for a duration or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
