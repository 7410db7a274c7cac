package statetest

import (
	"sync"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// Outcomes sets the outcome of the next act of each kind. With the zero value all acts succeed.
type Outcomes struct {
	mu   sync.Mutex
	next map[state.Act]state.Outcome
}

// Next sets the outcome of the next act of a kind.
func (o *Outcomes) Next(act state.Act, outcome state.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.next == nil {
		o.next = map[state.Act]state.Outcome{}
	}
	o.next[act] = outcome
}

// Outcome is a state.Config.Outcome.
func (o *Outcomes) Outcome(act state.Act) state.Outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	outcome := o.next[act]
	delete(o.next, act)
	return outcome
}

// Late makes the result of the next act of a kind invisible to changing calls for this many
// refusals.
func (o *Outcomes) Late(act string, refusals int) {
	o.Next(state.Act(act), state.Outcome{Stale: state.Stale{Changes: refusals}})
}
