package state

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

const (
	// detachRetry is the interval at which detaching a busy device is retried.
	detachRetry = 250 * time.Millisecond
	// terminatedShown is how long a terminated VM is listed. EC2 documents "a short while",
	// usually an hour.
	terminatedShown = time.Hour
)

// settle applies the changes that are due by the clock. The caller holds the lock, which is
// released while devices are removed.
//
// With retry, it also retries devices that were busy or could not be removed; their attachments
// are detaching until the device is gone. Because this takes time, other calls do not do it.
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

// due reports whether a volume's attachment may end now and no call has claimed the volume.
func (c *Cloud) due(id string, now time.Time, retry bool) bool {
	r := c.db.Volumes[id]
	if r == nil || r.Link == nil || c.claims[id] != 0 {
		return false
	}
	l := r.Link
	return l.Detaching && !now.Before(l.Due) && (retry || !l.tried)
}

// endLink removes the device and then the attachment. The caller holds a claim on the volume and
// the lock, which is released while the device is removed.
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

// retryDetaches retries busy devices until none is left or the Cloud is closed.
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

// settleDetaches settles with retry, and reports whether any volume is still detaching.
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

// recover completes the work of an earlier process: it removes incomplete and partly deleted
// resources, and detaches all volumes from this machine.
func (c *Cloud) recover() error {
	c.dropHostLinks()
	for id, r := range c.db.Images {
		if r.Work != noWork {
			delete(c.db.Images, id)
		}
	}
	for id, r := range c.db.Snapshots {
		if r.Work == noWork {
			r.resume(c.clock())
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

// dropHostLinks removes the attachments of released devices.
func (c *Cloud) dropHostLinks() {
	for _, r := range c.db.Volumes {
		if r.Link != nil && r.Link.Host && !r.RecordOnly {
			r.Link = nil
		}
	}
}

// resume restarts the time limit of a snapshot that is written block by block.
func (r *snapshotRecord) resume(now time.Time) {
	if r.Upload != nil && !r.Upload.Sealed && r.Upload.Active.Before(now) {
		r.Upload.Active = now
	}
}
