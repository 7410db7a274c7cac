package builder

import (
	"context"
	"log"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// eventLog writes events to the log, which Packer shows with PACKER_LOG=1. Secrets are
// struck out by the log itself.
type eventLog struct{}

// Hear implements event.Listener.
func (eventLog) Hear(e event.Event) { log.Printf("[INFO] %s", e) }

// logged returns a context whose events are logged.
func logged(ctx context.Context) context.Context { return event.Listen(ctx, eventLog{}) }
