package state

import (
	"fmt"
	"slices"
	"syscall"
	"time"
)

// Ending is how something that a call begins is to end.
type Ending string

// The endings.
const (
	EndsWell Ending = ""
	// EndsInError makes a volume or a snapshot error, and an image failed, when it
	// would have been ready.
	EndsInError Ending = "error"
	// NeverEnds leaves a volume creating, a snapshot or an image pending, an
	// attachment attaching (without a device) or detaching. All of these can still be
	// deleted, or detached by force.
	NeverEnds Ending = "never"
	// NoDevice makes an attachment that reads attached and has no device.
	NoDevice Ending = "no-device"
	// DiskFull makes the call fail for want of room for the bytes.
	DiskFull Ending = "disk-full"
)

// Act is what a fate is asked for: a call that changes something, by EC2's name of
// it whoever asks.
type Act string

// The acts.
const (
	ActCreateVolume   Act = "CreateVolume"
	ActAttachVolume   Act = "AttachVolume"
	ActDetachVolume   Act = "DetachVolume"
	ActDeleteVolume   Act = "DeleteVolume"
	ActCreateSnapshot Act = "CreateSnapshot"
	ActCopySnapshot   Act = "CopySnapshot"
	ActDeleteSnapshot Act = "DeleteSnapshot"
	ActRegisterImage  Act = "RegisterImage"
	ActCopyImage      Act = "CopyImage"
	ActDeleteImage    Act = "DeregisterImage"
)

// Fate is what becomes of an act. The zero one is that all is well.
type Fate struct {
	Ending Ending
	Stale  Stale
}

// Stale is for how long the owner's calls see a thing as it was before an act: a new one
// does not exist, a deleted one still does. Describing calls do so for a number of calls
// or for a time, whichever is longer, and changing calls for a number of refusals, whatever
// describing calls tell meanwhile.
type Stale struct {
	Reads   int
	For     time.Duration
	Changes int
}

// forever is longer than anything waits.
const forever = 100 * 365 * 24 * time.Hour

// fate is what is to become of an act that is about to have its effect.
func (o *op) fate(act Act) Fate {
	if o.fates == nil {
		return Fate{}
	}
	return o.fates(act)
}

// ready is when something is that takes a time.
func (f Fate) ready(now time.Time, takes time.Duration) time.Time {
	if f.Ending == NeverEnds {
		return now.Add(forever)
	}
	return now.Add(takes)
}

// failed is why something fails, "" if it does not.
func (f Fate) failed() string {
	if f.Ending == EndsInError {
		return "An internal error has occurred"
	}
	return ""
}

// bytes are the work that makes bytes, or what fails in its place.
func (f Fate) bytes(work func() error) func() error {
	if f.Ending == DiskFull {
		return func() error { return fmt.Errorf("cannot write the bytes: %w", syscall.ENOSPC) }
	}
	return work
}

// noun is what describing calls tell of.
type noun interface {
	key() string
	place() Caller
	born() time.Time
}

// past is what calls still see of a thing after it was acted on.
type past[T noun] struct {
	before  *T // nil: it did not exist
	at      Caller
	reads   int
	until   time.Time
	changes int
	several bool // changes was more than one
}

// pasts are by id. They are not saved.
type pasts[T noun] map[string]*past[T]

// keep keeps what a thing of this id was before an act.
func (p pasts[T]) keep(s Stale, id string, at Caller, before *T, now time.Time) {
	if s != (Stale{}) {
		p[id] = &past[T]{before: before, at: at, reads: s.Reads, until: now.Add(s.For), changes: s.Changes, several: s.Changes > 1}
	}
}

// refused counts one refusal and returns the past for which a changing call is refused;
// nil if changing calls see the thing as it is.
func (p pasts[T]) refused(id string, caller Caller, stale func(*past[T]) bool) *past[T] {
	was := p[id]
	if was == nil || was.at != caller || was.changes <= 0 || !stale(was) {
		return nil
	}
	was.changes--
	return was
}

// unborn returns the refusal of a changing call that does not know a new thing yet. The last
// of several refusals knows it, in the state in which things are created.
func (p pasts[T]) unborn(resource, id string, caller Caller, created string) error {
	was := p.refused(id, caller, func(was *past[T]) bool { return was.before == nil })
	switch {
	case was == nil:
		return nil
	case was.changes > 0 || !was.several:
		return refuse(NotFound, resource, id, "it does not exist")
	}
	return refuse(WrongState, resource, id, "it is %s", created)
}

// untold returns the refusal of a call that may change a thing in any state, but does not
// know this new one yet.
func (p pasts[T]) untold(resource, id string, caller Caller) error {
	if p.refused(id, caller, func(was *past[T]) bool { return was.before == nil }) != nil {
		return refuse(NotFound, resource, id, "it does not exist")
	}
	return nil
}

// former returns what changing calls still see of a thing that was changed or deleted, if
// that is a reason to refuse.
func (p pasts[T]) former(id string, caller Caller, reason func(T) bool) (before T, ok bool) {
	was := p.refused(id, caller, func(was *past[T]) bool { return was.before != nil && reason(*was.before) })
	if was == nil {
		return before, false
	}
	return *was.before, true
}

// told is a list of things as a describing call of the caller's tells it.
func (p pasts[T]) told(list []T, caller Caller, now time.Time) []T {
	for id, was := range p {
		if was.at != caller {
			continue
		}
		if was.reads <= 0 && !now.Before(was.until) {
			if was.changes <= 0 {
				delete(p, id)
			}
			continue
		}
		was.reads--
		list = slices.DeleteFunc(list, func(thing T) bool { return thing.key() == id })
		if was.before != nil {
			list = append(list, *was.before)
		}
	}
	slices.SortFunc(list, older)
	return list
}

// older orders things by age, then by id.
func older[T noun](a, b T) int {
	if d := a.born().Compare(b.born()); d != 0 {
		return d
	}
	return compareIDs(a.key(), b.key())
}
