package state

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

const (
	// detachRetry is how often a busy device is tried again when nobody asks.
	detachRetry = 250 * time.Millisecond
	// terminatedShown is how long a terminated VM stays listed: EC2 says "a short
	// while", usually one hour.
	terminatedShown = time.Hour
)

// settle does what has fallen due by the clock. The lock is held, and given up
// while devices are taken away.
//
// A device that is busy, or whose removal fails, is tried again, and its
// attachment reads detaching until it is gone. That takes its time, so it is not
// done within other calls, only when retry is set.
func (c *Cloud) settle(retry bool) {
	now := c.clock()
	for id := range c.db.Volumes {
		if c.due(id, now, retry) {
			c.claims[id] = -1
			_ = c.endLink(c.db.Volumes[id])
			delete(c.claims, id)
			c.freed.Broadcast()
		}
	}
	c.forgetOld(now)
}

// due tells whether a volume's attachment may end now, with nobody at work on
// the volume.
func (c *Cloud) due(id string, now time.Time, retry bool) bool {
	r := c.db.Volumes[id]
	if r == nil || r.Link == nil || c.claims[id] != 0 {
		return false
	}
	l := r.Link
	return l.Detaching && !now.Before(l.Due) && (retry || !l.tried)
}

// endLink takes the device away and then the attachment. The caller holds the
// lock, which is given up for the first part, and a claim on the volume.
func (c *Cloud) endLink(r *volumeRecord) error {
	l := r.Link
	l.tried = true
	if l.Path != "" {
		err := c.bytes(func() error { return c.disks.DetachVolume(r.ID, l.Force) })
		if err != nil {
			return err
		}
	}
	r.Link = nil
	if l.Remove {
		delete(c.db.Volumes, r.ID)
	}
	return c.save()
}

func (c *Cloud) forgetOld(now time.Time) {
	for id, r := range c.db.Volumes {
		if !r.Removed.IsZero() && r.Work == noWork && !now.Before(r.Gone) {
			delete(c.db.Volumes, id)
		}
	}
	for id, r := range c.db.VMs {
		if !r.Ended.IsZero() && now.Sub(r.Ended) >= terminatedShown {
			delete(c.db.VMs, id)
		}
	}
	for key, t := range c.db.Tokens {
		if !now.Before(t.Until) {
			delete(c.db.Tokens, key)
		}
	}
}

// retryDetaches tries busy devices again while there are any, until Close.
func (c *Cloud) retryDetaches() {
	defer c.idle.Done()
	tick := time.NewTicker(detachRetry)
	defer tick.Stop()
	for {
		select {
		case <-c.quit:
			return
		case <-c.wake:
		}
		for c.settleDetaches() {
			select {
			case <-c.quit:
				return
			case <-tick.C:
			}
		}
	}
}

// settleDetaches settles, and tells whether something is still detaching.
func (c *Cloud) settleDetaches() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(true)
	for _, r := range c.db.Volumes {
		if r.Link != nil && r.Link.Detaching {
			return true
		}
	}
	return false
}

// recover brings what an earlier process left to a state that it could have
// ended in: half made things go, half removed ones too, and this machine has no
// device attached.
func (c *Cloud) recover() error {
	c.dropHostLinks()
	for id, r := range c.db.Images {
		if r.Work != noWork {
			delete(c.db.Images, id)
		}
	}
	for id, r := range c.db.Snapshots {
		if r.Work == noWork {
			continue
		}
		if err := c.disks.DeleteSnapshot(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove the half made snapshot %s: %w", id, err)
		}
		delete(c.db.Snapshots, id)
	}
	return c.recoverVolumes()
}

func (c *Cloud) recoverVolumes() error {
	for id, r := range c.db.Volumes {
		if r.Work == noWork {
			continue
		}
		if err := c.disks.DeleteVolume(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove the half made volume %s: %w", id, err)
		}
		delete(c.db.Volumes, id)
	}
	return nil
}

// dropHostLinks forgets the attachments of devices that were released.
func (c *Cloud) dropHostLinks() {
	for _, r := range c.db.Volumes {
		if r.Link != nil && r.Link.Host && !r.RecordOnly {
			r.Link = nil
		}
	}
}
