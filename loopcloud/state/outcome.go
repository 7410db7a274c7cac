package state

import (
	"fmt"
	"syscall"
	"time"
)

// Ending is the way in which a started operation ends.
type Ending string

// The endings.
const (
	EndsWell Ending = ""
	// EndsInError puts a volume or a snapshot into the state error, and an image into failed,
	// when it would have been ready.
	EndsInError Ending = "error"
	// NeverEnds leaves a volume creating, a snapshot or an image pending, and an attachment
	// attaching (without a device) or detaching. Such resources can be deleted, or detached by
	// force.
	NeverEnds Ending = "never"
	// NoDevice creates an attachment that is attached but has no device.
	NoDevice Ending = "no-device"
	// DiskFull fails the call because there is no space for the data.
	DiskFull Ending = "disk-full"
)

// Act is a call that changes something, by its name in EC2, whichever dialect makes it.
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

	// The acts of the EBS direct APIs, by their names there.
	ActStartSnapshot    Act = "StartSnapshot"
	ActPutSnapshotBlock Act = "PutSnapshotBlock"
	ActCompleteSnapshot Act = "CompleteSnapshot"
)

// Outcome is how an act ends, and how long calls do not see its effect. With the zero value the
// act succeeds, and all calls see it at once.
type Outcome struct {
	Ending Ending
	Stale  Stale
}

// forever is longer than any wait.
const forever = 100 * 365 * 24 * time.Hour

// outcome returns the outcome of an act that is about to take effect.
func (o *op) outcome(act Act) Outcome {
	if o.outcomes == nil {
		return Outcome{}
	}
	return o.outcomes(act)
}

// ready returns the time at which an operation of this duration ends.
func (o Outcome) ready(now time.Time, takes time.Duration) time.Time {
	if o.Ending == NeverEnds {
		return now.Add(forever)
	}
	return now.Add(takes)
}

// failed returns the reason of a failure, "" if there is none.
func (o Outcome) failed() string {
	if o.Ending == EndsInError {
		return "An internal error has occurred"
	}
	return ""
}

// bytes returns the function that writes the data, or one that fails in its place.
func (o Outcome) bytes(work func() error) func() error {
	if o.Ending == DiskFull {
		return func() error { return fmt.Errorf("cannot write the bytes: %w", syscall.ENOSPC) }
	}
	return work
}
