package builder

import (
	"fmt"
	"sync"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

// reporter reports a build to the user, without secrets.
type reporter struct {
	mu sync.Mutex
	ui packersdk.Ui
}

// Step implements bake.Reporter.
func (r *reporter) Step(format string, args ...any) { r.tell(r.ui.Say, "", format, args) }

// Detail implements bake.Reporter.
func (r *reporter) Detail(format string, args ...any) { r.tell(r.ui.Say, "    ", format, args) }

// Warn implements bake.Reporter.
func (r *reporter) Warn(format string, args ...any) { r.tell(r.ui.Error, "", format, args) }

func (r *reporter) tell(say func(string), indent, format string, args []any) {
	line := indent + Redact(fmt.Sprintf(format, args...))
	r.mu.Lock()
	defer r.mu.Unlock()
	say(line)
}
