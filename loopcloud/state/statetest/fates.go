package statetest

import (
	"sync"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// Fates sets the outcome of the next act of each kind. With the zero value all acts succeed.
type Fates struct {
	mu   sync.Mutex
	next map[state.Act]state.Fate
}

// Next sets the fate of the next act of a kind.
func (f *Fates) Next(act state.Act, fate state.Fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == nil {
		f.next = map[state.Act]state.Fate{}
	}
	f.next[act] = fate
}

// Fate is a state.Config.Fate.
func (f *Fates) Fate(act state.Act) state.Fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	fate := f.next[act]
	delete(f.next, act)
	return fate
}

// Late makes the result of the next act of a kind invisible to changing calls for this many
// refusals.
func (f *Fates) Late(act string, refusals int) {
	f.Next(state.Act(act), state.Fate{Stale: state.Stale{Changes: refusals}})
}
