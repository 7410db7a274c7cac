package state

import "time"

// claim is a call's claim on an ID while it works on the data: exclusive for writing, shared for
// reading.
type claim struct {
	id    string
	write bool
}

func writing(id string) claim { return claim{id, true} }
func reading(id string) claim { return claim{id, false} }

// op is a call in progress. It holds the lock from begin to end, except while bytes runs.
type op struct {
	*Cloud
	now    time.Time
	claims []claim
}

// begin waits until all claims are free, takes them at once (so that two calls never wait for
// each other), and returns with the lock held.
func (c *Cloud) begin(claims ...claim) *op {
	c.mu.Lock()
	c.settle(false)
	for !c.allFree(claims) {
		c.freed.Wait()
	}
	o := &op{Cloud: c, now: c.clock()}
	for _, cl := range claims {
		o.take(cl)
	}
	return o
}

func (c *Cloud) allFree(claims []claim) bool {
	for _, cl := range claims {
		if held := c.claims[cl.id]; held < 0 || cl.write && held > 0 {
			return false
		}
	}
	return true
}

// take adds a claim that is known to be free, such as one on a new ID.
func (o *op) take(cl claim) {
	if cl.id == "" {
		return
	}
	o.claims = append(o.claims, cl)
	if cl.write {
		o.Cloud.claims[cl.id] = -1
	} else {
		o.Cloud.claims[cl.id]++
	}
}

func (o *op) end() {
	for _, cl := range o.claims {
		if o.Cloud.claims[cl.id]--; cl.write || o.Cloud.claims[cl.id] == 0 {
			delete(o.Cloud.claims, cl.id)
		}
	}
	o.freed.Broadcast()
	o.mu.Unlock()
}

// bytes runs work on Disks without the lock. The claims exclude other calls.
func (c *Cloud) bytes(work func() error) error {
	c.mu.Unlock()
	defer c.mu.Lock()
	return work()
}
