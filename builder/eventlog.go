package builder

import (
	"context"
	"log"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// eventLog writes events to the log, which Packer shows with PACKER_LOG=1. The log itself removes
// secrets.
type eventLog struct{}

// Hear implements event.Listener.
func (eventLog) Hear(e event.Event) { log.Printf("[INFO] %s", e) }

// delays reports to the user that a call is held up, or that a wait goes on.
type delays struct{ report bake.Reporter }

// Hear implements event.Listener.
func (d delays) Hear(e event.Event) {
	switch e.(type) {
	case event.Held, event.Waiting:
		d.report.Detail("%s", e)
	}
}

// logged returns a context whose events are logged and recorded.
func logged(ctx context.Context, report bake.Reporter, recorder event.Listener) context.Context {
	return event.Listen(ctx, event.All(eventLog{}, delays{report}, recorder))
}
