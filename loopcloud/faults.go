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

// faults are what goes wrong, and the record of what was asked for.
type faults struct {
	rules fault.Rules
	calls fault.Calls
	holds fault.Holds
	skew  skew
	// ending ends calls that nothing else would end, when the cloud does.
	ending context.Context //nolint:containedctx // it is the server's life, not a call's
}

// untilTheEnd is ctx, which ends with the cloud as well.
func (f *faults) untilTheEnd(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(f.ending, cancel)
	return ctx, func() { stop(); cancel() }
}

// wireTime is the time by which signatures are judged and answers are dated.
func (f *faults) wireTime() time.Time { return time.Now().Add(f.skew.get()) }

// fate is what becomes of an act, by the rules.
func (f *faults) fate(act state.Act) state.Fate {
	rule := f.rules.Befall(string(act))
	return state.Fate{
		Ending: state.Ending(rule.Outcome),
		Stale:  state.Stale{Reads: rule.Stale.Reads, For: time.Duration(rule.Stale.For), Changes: rule.Stale.Changes},
	}
}

// stop does what the rule has for one side of the effect, and tells whether the
// call goes on.
func (f *faults) stop(ctx context.Context, call fault.Held, rule fault.Rule, when fault.When) bool {
	switch when {
	case rule.Drop:
		return false
	case rule.Hang:
		<-ctx.Done()
		return false
	case rule.Hold:
		call.When = when
		return f.holds.Wait(ctx, call) == nil
	}
	return true
}

// faulty is what a Dialect may also be: it says in its own words that a call is
// throttled, that it failed inside (internal), that the service is unavailable, or that
// the call is denied.
type faulty interface {
	Fault(name string) (status int, code, message string)
}

// refusal is the error that a rule has calls answered with; its status is 0 if it has
// none.
func (f *front) refusal(rule fault.Rule) (status int, code, message string) {
	if rule.Error == "" {
		return rule.Status, rule.Code, rule.Message
	}
	if d, ok := f.Dialect.(faulty); ok {
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

// changesAnswer tells whether an answer has to be complete before it is sent.
func changesAnswer(r fault.Rule) bool {
	return r.Drop == fault.After || r.Hang == fault.After || r.Hold == fault.After ||
		r.Trickle != 0 || r.Body != fault.Whole || len(r.Rewrite) > 0
}

// keptAnswer is an answer that is not sent yet.
type keptAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *keptAnswer) Header() http.Header         { return a.header }
func (a *keptAnswer) Write(p []byte) (int, error) { return a.body.Write(p) }
func (a *keptAnswer) WriteHeader(status int)      { a.status = status }

// garbage is no XML, no JSON and no UTF-8.
const garbage = "\xff\xfe<\x00}garbage]\x80>{"

// send sends the answer as the rule has it. It tells whether that is all, so that the
// connection need not be ended.
func (a *keptAnswer) send(ctx context.Context, w http.ResponseWriter, rule fault.Rule) bool {
	body := a.body.Bytes()
	for _, rw := range rule.Rewrite {
		body = rw.Match.ReplaceAll(body, []byte(rw.With))
	}
	length := len(body)
	switch rule.Body {
	case fault.Garbage:
		body, length = []byte(garbage), len(garbage)
	case fault.Empty:
		body, length = nil, 0
	case fault.Truncated:
		body, length = body[:len(body)/2], len(body)/2
	case fault.Cut:
		body = body[:len(body)/2]
	case fault.Whole:
	}
	a.header.Set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(a.status)
	trickle(ctx, w, body, time.Duration(rule.Trickle))
	if rule.Body == fault.Cut {
		flush(w)
	}
	return rule.Body != fault.Cut
}

// trickled is how many bytes of an answer come at once when they come slowly.
const trickled = 16

// trickle writes a body, with pauses if there are any. Its end is sent when the call is
// over, so that whoever has the whole answer finds the call recorded.
func trickle(ctx context.Context, w http.ResponseWriter, body []byte, every time.Duration) {
	for every > 0 && len(body) > trickled {
		pause(ctx, every)
		if _, err := w.Write(body[:trickled]); err != nil {
			return // a client that went away misses its answer
		}
		flush(w)
		body = body[trickled:]
	}
	pause(ctx, every)
	_, _ = w.Write(body)
}

// flush sends what has been written. What cannot be sent now is sent at the end.
func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// pause waits for as long as it says or as the client does.
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
