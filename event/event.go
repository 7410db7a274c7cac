// Package event tells a listener what a build does: calls of the cloud's API, waits,
// mounts and commands. The listener travels in the context.
package event

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// An Event is something that has happened. Its String is one line for a log.
type Event interface{ fmt.Stringer }

// A Listener is told of events, by several goroutines. It must not keep them waiting.
type Listener interface{ Hear(Event) }

type listenerKey struct{}

// Listen returns a context whose events the listener is told of.
func Listen(ctx context.Context, l Listener) context.Context {
	return context.WithValue(ctx, listenerKey{}, l)
}

// Heard reports whether anybody listens.
func Heard(ctx context.Context) bool { return ctx.Value(listenerKey{}) != nil }

// Of returns the context's listener, or one that does nothing.
func Of(ctx context.Context) Listener {
	if l, ok := ctx.Value(listenerKey{}).(Listener); ok {
		return l
	}
	return nobody{}
}

type nobody struct{}

// Hear implements Listener.
func (nobody) Hear(Event) {}

// Emit tells the context's listener, if there is one, of an event.
func Emit(ctx context.Context, e Event) {
	Of(ctx).Hear(e)
}

// Call is one attempt of a call of an API.
type Call struct {
	Service, Action, RequestID string
	// Attempt counts from 1. Pause is the time since the attempt before.
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

// Wait is a state that was seen while something was waited for. A state is told once.
type Wait struct {
	// What is waited for, and State what the cloud calls its state.
	What, State string
	// Percent is the progress; 0 if there is none.
	Percent int
	// Looks is how often it was looked at.
	Looks int
	// Took is the time since the wait began; Done says that it is over.
	Took time.Duration
	Done bool
	Err  error
}

// String implements Event.
func (w Wait) String() string {
	text := fmt.Sprintf("wait for %s: %s", w.What, w.State)
	if w.Percent > 0 {
		text += fmt.Sprintf(" (%d percent)", w.Percent) // Packer's log takes "%" for a verb
	}
	text += fmt.Sprintf(", look %d, %s", w.Looks, round(w.Took))
	switch {
	case w.Err != nil:
		text += ", failed: " + line(w.Err.Error())
	case w.Done:
		text += ", done"
	}
	return text
}

// Mount is a change of what is mounted: a mount or, without a source, the end of all
// mounts at the target.
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

// Command is a command that has ended.
type Command struct {
	// Place is where it ran: the host, or the chroot.
	Place, Line string
	Status      int
	Took        time.Duration
	// Err is nil if the command ran, whatever its status.
	Err error
}

// String implements Event.
func (c Command) String() string {
	return fmt.Sprintf("command in the %s: %s: status %d", c.Place, line(assignment.ReplaceAllString(c.Line, "$1=…")), c.Status) + end(c.Took, c.Err)
}

// assignment is a variable that a shell is given: its value may be a secret.
var assignment = regexp.MustCompile(`\b([A-Za-z_][A-Za-z0-9_]*)=('[^']*'|"(?:[^"\\]|\\.)*"|[^\s'"]+)`)

// longest is how much of a text is in a line of the log, in bytes.
const longest = 500

// line is a text on one line, which is not too long.
func line(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}

// end says how long something took, and what came of it.
func end(took time.Duration, err error) string {
	if err != nil {
		return fmt.Sprintf(", %s, failed: %s", round(took), line(err.Error()))
	}
	return fmt.Sprintf(", %s, ok", round(took))
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// Clocktime returns a time of the day for a message.
func Clocktime(t time.Time) string { return t.Format("15:04:05 MST") }

// Held is a call or a wait that a cloud holds up for some seconds, by throttling or
// otherwise. It is told again each minute.
type Held struct {
	// What is held up, and Why is such as "throttled".
	What, Why string
	// Since is when that began, and Limit is how long it may last before what is held up
	// fails; 0 if it is not a time that decides.
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
