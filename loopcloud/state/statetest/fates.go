package statetest

import (
	"sync"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// Fates decide what becomes of the next act of each kind. The zero value lets all be well.
type Fates struct {
	mu   sync.Mutex
	next map[state.Act]state.Fate
}

// Next gives the next act of a kind a fate.
func (f *Fates) Next(act state.Act, fate state.Fate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next == nil {
		f.next = map[state.Act]state.Fate{}
	}
	f.next[act] = fate
}

// Fate is for state.Config.
func (f *Fates) Fate(act state.Act) state.Fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	fate := f.next[act]
	delete(f.next, act)
	return fate
}

// Late makes the result of the next act of a kind unknown to changing calls for that many
// refusals.
func (f *Fates) Late(act string, refusals int) {
	f.Next(state.Act(act), state.Fate{Stale: state.Stale{Changes: refusals}})
}
