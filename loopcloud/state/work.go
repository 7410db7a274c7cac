package state

import "time"

// claim is one call's hold on an id while it works on the bytes behind it: alone
// when it writes, beside other readers when it reads.
type claim struct {
	id    string
	write bool
}

func writing(id string) claim { return claim{id, true} }
func reading(id string) claim { return claim{id, false} }

// op is one call under way. From begin to end it holds the lock, but for the
// time that bytes takes.
type op struct {
	*Cloud
	now    time.Time
	claims []claim
}

// begin waits until all claims can be had, takes them at once (so that two calls
// never wait for each other), and answers with the lock held.
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

// take adds a claim that is known to be free, such as a new id's.
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

// bytes runs work on Disks without the lock; the claims are what keeps others
// away meanwhile.
func (c *Cloud) bytes(work func() error) error {
	c.mu.Unlock()
	defer c.mu.Lock()
	return work()
}

// making is how a thing's bytes come to be.
type making struct {
	bytes func() error
	undo  func() error // takes them away, when they could not be recorded
	done  func()       // completes the record; may be nil
}

// produce enters a record into its table while its bytes come to be: first as
// half made, so that a start after a kill knows to remove it, then whole and
// together with its client token. When the bytes cannot be made the record goes
// again.
func produce[R interface {
	record
	working() *work
}](o *op, table map[string]R, r R, t ticket, m making) error {
	*r.working() = creating
	table[r.key()] = r
	err := o.save()
	if err == nil {
		err = o.bytes(m.bytes)
	}
	if err != nil {
		delete(table, r.key())
		_ = o.save() // the first error tells more
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
