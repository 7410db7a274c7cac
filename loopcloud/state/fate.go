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

// Stale is for how many describing calls of the owner's, or for how long, the thing
// that was acted on is told of as it was before: a new one is not there, a deleted one
// still is.
type Stale struct {
	Reads int
	For   time.Duration
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

// past is what they still tell of a thing after it was acted on.
type past[T noun] struct {
	before *T // nil: it was not there
	at     Caller
	reads  int
	until  time.Time
}

// pasts are by id. They are not saved.
type pasts[T noun] map[string]*past[T]

// keep keeps what a thing of this id was before an act.
func (p pasts[T]) keep(s Stale, id string, at Caller, before *T, now time.Time) {
	if s != (Stale{}) {
		p[id] = &past[T]{before: before, at: at, reads: s.Reads, until: now.Add(s.For)}
	}
}

// told is a list of things as a describing call of the caller's tells it.
func (p pasts[T]) told(list []T, caller Caller, now time.Time) []T {
	for id, was := range p {
		if was.at != caller {
			continue
		}
		if was.reads <= 0 && !now.Before(was.until) {
			delete(p, id)
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
