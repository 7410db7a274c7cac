package builder

import (
	"context"
	"log"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// eventLog writes events to the log, which Packer shows with PACKER_LOG=1. The log itself removes
// secrets. Calls that are held up are also reported to the user.
type eventLog struct{ held }

// Hear implements event.Listener.
func (l eventLog) Hear(e event.Event) {
	log.Printf("[INFO] %s", e)
	l.held.Hear(e)
}

// held reports to the user that a call is held up.
type held struct{ report bake.Reporter }

// Hear implements event.Listener.
func (h held) Hear(e event.Event) {
	if what, ok := e.(event.Held); ok {
		h.report.Detail("%s", what)
	}
}

// logged returns a context that logs its events.
func logged(ctx context.Context, report bake.Reporter) context.Context {
	return event.Listen(ctx, eventLog{held{report}})
}
