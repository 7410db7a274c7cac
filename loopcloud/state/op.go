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

// creation describes how the data of a resource is created.
type creation struct {
	bytes func() error
	undo  func() error // removes the data if the resource cannot be recorded
	done  func()       // completes the record; may be nil
}

// produce creates a resource's data and records the resource: first as incomplete, so that a
// restart after a kill removes it, then as complete together with its client token. If the data
// cannot be created, the record is removed.
func produce[R interface {
	record
	working() *work
}](o *op, table map[string]R, r R, t clientToken, m creation) error {
	*r.working() = creating
	table[r.key()] = r
	err := o.save()
	if err == nil {
		err = o.bytes(m.bytes)
	}
	if err != nil {
		delete(table, r.key())
		_ = o.save() // the first error is more informative
		return err
	}
	*r.working() = noWork
	if m.done != nil {
		m.done()
	}
	o.remember(t, r.key())
	if err := o.save(); err != nil {
		delete(table, r.key())
		o.forget(t)
		_ = o.bytes(m.undo)
		return err
	}
	return nil
}
