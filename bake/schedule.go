package bake

import (
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/polling"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// The kinds of waits whose durations are remembered. polling.json contains these names.
const (
	volumeWait     = "volume"
	attachmentWait = "attachment"
	detachmentWait = "detachment"
	freeWait       = "volume in use"
	snapshotWait   = "snapshot"
	startedWait    = "snapshot written block by block"
	deletableWait  = "snapshot to be deleted"
	imageWait      = "image"
	goneWait       = "image to be gone"
	copyWait       = "copy"
	pendingWait    = "copy that another build has begun"
	copiedWait     = "snapshots of a copy"
)

// schedule decides when a wait looks at its resource. The zero value knows no earlier waits.
type schedule struct {
	store *polling.Store
	kind  string

	pace Pace
	aim  *polling.Aim
	// at is when the last look was made, since the beginning of the wait, and pending when
	// the last look was made that has shown that the resource is not ready.
	at, pending time.Duration
	// held is the next interval if a look was not answered, and troubled means that one was not.
	held     time.Duration
	troubled bool
}

// begin begins a wait.
func (s *schedule) begin(p Pace) {
	s.pace, s.held = p, p.First
	if !p.fixed() {
		s.aim = polling.NewAim(p.First, p.Longest, s.store.Earlier(s.kind))
	}
}

// first returns the pause before the first look.
func (s *schedule) first() time.Duration {
	if s.aim == nil {
		return 0
	}
	return s.pace.within(s.aim.First(), 0)
}

// next returns the pause after a look that has not ended the wait. A user's own interval is
// neither varied nor slowed down.
func (s *schedule) next(w *waiting) time.Duration {
	if s.aim == nil {
		return s.pace.First
	}
	if w.trouble != nil {
		return s.store.Slowed(s.unanswered(w.trouble.Kind))
	}
	s.pending, s.held = s.at, s.pace.First
	return s.store.Slowed(s.aim.Next(s.at, w.seen.percent))
}

// unanswered returns the pause after a look that was not answered. If it was throttled, the
// looks of all builds on this host are slowed down.
func (s *schedule) unanswered(kind retry.Kind) time.Duration {
	s.troubled = true
	if kind == retry.Throttled {
		_ = s.store.Throttled() // without it, only this build slows down
	}
	pause := s.held
	s.held = min(s.held+s.held/2, s.pace.Longest)
	return s.pace.jitter(pause)
}

// end records the duration of a successful wait, unless a look was not answered: then the duration
// is not known exactly.
func (s *schedule) end() {
	if s.aim != nil && !s.troubled {
		s.store.Ended(s.kind, polling.Span{After: s.pending, By: s.at})
	}
}
