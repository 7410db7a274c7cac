// Package event passes the events of a build to a listener in the context: steps, calls of
// the cloud's API, waits, mounts and commands.
package event

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// An Event is one event of a build. Its String is one line of a log.
type Event interface{ fmt.Stringer }

// A Listener receives events. Hear is called by several goroutines and must not block.
type Listener interface{ Hear(Event) }

type listenerKey struct{}

// Listen returns a context whose events go to the listener.
func Listen(ctx context.Context, l Listener) context.Context {
	return context.WithValue(ctx, listenerKey{}, l)
}

// Heard reports whether the context has a listener.
func Heard(ctx context.Context) bool { return ctx.Value(listenerKey{}) != nil }

// Of returns the context's listener, or one that ignores events.
func Of(ctx context.Context) Listener {
	if l, ok := ctx.Value(listenerKey{}).(Listener); ok {
		return l
	}
	return nobody{}
}

type nobody struct{}

// Hear implements Listener.
func (nobody) Hear(Event) {}

// Emit passes an event to the context's listener, if there is one.
func Emit(ctx context.Context, e Event) {
	Of(ctx).Hear(e)
}

// Call is one attempt of an API call.
type Call struct {
	Service, Action, RequestID string
	// Attempt counts from 1. Pause is the time since the previous attempt.
	Attempt     int
	Pause, Took time.Duration
	// Err is nil if the call succeeded.
	Err error
}

// String implements Event.
func (c Call) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "call %s %s: attempt %d", c.Service, c.Action, c.Attempt)
	if c.Attempt > 1 {
		fmt.Fprintf(&b, " after %s", round(c.Pause))
	}
	if c.RequestID != "" {
		fmt.Fprintf(&b, ", request %s", c.RequestID)
	}
	return b.String() + end(c.Took, c.Err)
}

// Requests counts the requests of an action of which a build makes so many that those that succeed are
// no events of their own.
type Requests struct {
	Service, Action string
	// Made is the number of requests, and Failed the number of those that failed.
	Made, Failed int64
	// Bytes is the amount of data that the others have transferred.
	Bytes int64
}

// String implements Event.
func (r Requests) String() string {
	return fmt.Sprintf("requests %s %s: %d, %d failed, %.1f MiB", r.Service, r.Action, r.Made, r.Failed, float64(r.Bytes)/(1<<20))
}

// Wait is a new state during a wait. Each state is reported once.
type Wait struct {
	// What names the resource. State is its state, in the cloud's term.
	What, State string
	// Percent is the progress; 0 if there is none.
	Percent int
	// Looks is the number of polls.
	Looks int
	// Took is the time since the wait began. Done is true at the end of the wait.
	Took time.Duration
	Done bool
	Err  error
}

// String implements Event.
func (w Wait) String() string {
	text := fmt.Sprintf("wait for %s: %s", w.What, w.State)
	if w.Percent > 0 {
		text += fmt.Sprintf(" (%d percent)", w.Percent) // Packer's log treats "%" as a verb
	}
	if w.Looks > 0 {
		text += fmt.Sprintf(", look %d", w.Looks)
	}
	text += fmt.Sprintf(", %s", round(w.Took))
	switch {
	case w.Err != nil:
		text += ", failed: " + line(w.Err.Error())
	case w.Done:
		text += ", done"
	}
	return text
}

// Mount is a mount or, if Source is empty, the unmounting of all mounts at the target.
type Mount struct {
	Source, Target, Type string
	Options              []string
	Took                 time.Duration
	Err                  error
}

// String implements Event.
func (m Mount) String() string {
	text := "unmount " + m.Target
	if m.Source != "" {
		text = fmt.Sprintf("mount %s on %s, type %s", m.Source, m.Target, m.Type)
	}
	if len(m.Options) > 0 {
		text += ", options " + strings.Join(m.Options, ",")
	}
	return line(text) + end(m.Took, m.Err)
}

// Command is the end of a command.
type Command struct {
	// Place is "host" or "chroot".
	Place, Line string
	Status      int
	Took        time.Duration
	// Err is nil if the command ran, with any exit status.
	Err error
}

// String implements Event.
func (c Command) String() string {
	return fmt.Sprintf("command in the %s: %s: status %d", c.Place, c.Shown(), c.Status) + end(c.Took, c.Err)
}

// Shown returns the command on one line, without the values of assigned shell variables.
func (c Command) Shown() string { return line(assignment.ReplaceAllString(c.Line, "$1=…")) }

// assignment matches an assignment of a shell variable, whose value may be a secret.
var assignment = regexp.MustCompile(`\b([A-Za-z_][A-Za-z0-9_]*)=('[^']*'|"(?:[^"\\]|\\.)*"|[^\s'"]+)`)

// longest is the maximum length of a text in a line of the log, in bytes.
const longest = 500

// line returns a text on one line, shortened to the maximum length.
func line(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}

// end returns the duration and the result of an event.
func end(took time.Duration, err error) string {
	if err != nil {
		return fmt.Sprintf(", %s, failed: %s", round(took), line(err.Error()))
	}
	return fmt.Sprintf(", %s, ok", round(took))
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// Clocktime returns the time of day for a message.
func Clocktime(t time.Time) string { return t.Format("15:04:05 MST") }

// Held is a call or a wait that a cloud delays for some seconds, by throttling or otherwise.
// It is reported again each minute.
type Held struct {
	// What names the call or the wait. Why is the reason, such as "throttled".
	What, Why string
	// Since is the time when the delay began. Limit is the time after which the call or the
	// wait fails; 0 if no time limit decides.
	Since time.Time
	Limit time.Duration
}

// String implements Event.
func (h Held) String() string {
	text := fmt.Sprintf("%s: %s since %s; trying again", h.What, h.Why, Clocktime(h.Since))
	if h.Limit > 0 {
		text += fmt.Sprintf(" for up to %s", h.Limit)
	}
	return text
}

// Step is a step of a build that has ended.
type Step struct {
	Name string
	// Users means that the time is that of the user's provisioners or commands.
	Users bool
	Took  time.Duration
	Err   error
}

// String implements Event.
func (s Step) String() string { return "step " + s.Name + end(s.Took, s.Err) }
