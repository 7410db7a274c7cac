package fault

import (
	"slices"
	"sync"
	"time"
)

// kept is how many calls are remembered: more than any test makes, and little
// memory.
const kept = 100_000

// Call is one call that was made.
type Call struct {
	// N counts the calls since the start, from 1.
	N       int    `json:"n"`
	Dialect string `json:"dialect"`
	Action  string `json:"action"`
	Account string `json:"account,omitempty"` // empty if the signature was refused, or none was needed
	Region  string `json:"region,omitempty"`
	// Fault is what was made to go wrong with it, such as "drop after".
	Fault string `json:"fault,omitempty"`
	// Status is the answer's: 0 if there was none.
	Status int       `json:"status"`
	Time   time.Time `json:"time"` // of the answer
}

// Calls is a record of calls, of which it forgets the oldest when there are very
// many. The zero value is empty; it may be used from many goroutines.
type Calls struct {
	mu   sync.Mutex
	n    int
	list []Call
}

// Record adds a call and numbers it.
func (c *Calls) Record(call Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	call.N = c.n
	if len(c.list) == kept {
		c.list = slices.Delete(c.list, 0, kept/10)
	}
	c.list = append(c.list, call)
}

// List tells the calls that were recorded since the last Clear, oldest first.
func (c *Calls) List() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Call{}, c.list...)
}

// Clear forgets the calls. The numbers go on.
func (c *Calls) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = nil
}
