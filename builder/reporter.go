package builder

import (
	"fmt"
	"sync"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// reporter reports a build to the user, without secrets.
type reporter struct {
	mu sync.Mutex
	ui packersdk.Ui
	// recorder, if not nil, hears of warnings.
	recorder event.Listener
}

// Step implements bake.Reporter.
func (r *reporter) Step(format string, args ...any) { r.tell(r.ui.Say, "", format, args) }

// Detail implements bake.Reporter.
func (r *reporter) Detail(format string, args ...any) { r.tell(r.ui.Say, "    ", format, args) }

// Warn implements bake.Reporter.
func (r *reporter) Warn(format string, args ...any) {
	r.tell(r.ui.Error, "", format, args)
	if r.recorder != nil {
		r.recorder.Hear(event.Warning{Text: Redact(fmt.Sprintf(format, args...))})
	}
}

func (r *reporter) tell(say func(string), indent, format string, args []any) {
	line := indent + Redact(fmt.Sprintf(format, args...))
	r.mu.Lock()
	defer r.mu.Unlock()
	say(line)
}
