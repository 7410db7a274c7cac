package fault

import (
	"slices"
	"sync"
	"time"
)

// maxCalls is the number of calls in the log: more than any test makes, and little memory.
const maxCalls = 100_000

// Call is one call.
type Call struct {
	// N numbers the calls since the start, from 1.
	N       int    `json:"n"`
	Dialect string `json:"dialect"`
	Action  string `json:"action"`
	Account string `json:"account,omitempty"` // empty if the signature was refused or not needed
	Region  string `json:"region,omitempty"`
	// Fault is the fault injected into the call, such as "drop after".
	Fault string `json:"fault,omitempty"`
	// Status is the status of the response, 0 if there was none.
	Status int       `json:"status"`
	Time   time.Time `json:"time"` // of the response
}

// CallLog holds the most recent calls. The zero value is empty. Its methods may be called
// concurrently.
type CallLog struct {
	mu   sync.Mutex
	n    int
	list []Call
}

// Record adds a call and numbers it.
func (c *CallLog) Record(call Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	call.N = c.n
	if len(c.list) == maxCalls {
		c.list = slices.Delete(c.list, 0, maxCalls/10)
	}
	c.list = append(c.list, call)
}

// List returns the calls since the last Clear, oldest first.
func (c *CallLog) List() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Call{}, c.list...)
}

// Clear removes the calls. The numbering continues.
func (c *CallLog) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = nil
}
