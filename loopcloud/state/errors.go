package state

import "fmt"

// Kind is what kind of refusal an Error is; each wire format has its own code
// for it.
type Kind string

// The kinds of refusal.
const (
	NotFound      Kind = "not found"      // no such thing, or not the caller's to see
	Malformed     Kind = "malformed"      // an id that cannot be one
	WrongState    Kind = "wrong state"    // the thing's state does not allow it
	InUse         Kind = "in use"         // attached, used by an image, or a device name taken
	Duplicate     Kind = "duplicate"      // an image name that the account has
	InvalidValue  Kind = "invalid value"  // a parameter's value
	Missing       Kind = "missing"        // a parameter
	TokenMismatch Kind = "token mismatch" // a client token with other parameters
	NotAllowed    Kind = "not allowed"    // not the caller's to change
	Protected     Kind = "protected"      // from being deleted
	Unsuited      Kind = "unsuited"       // a parameter that does not go with another
	Unreadable    Kind = "unreadable"     // what a thing that can be seen consists of
	Limit         Kind = "limit"          // too many or too large
	Secret        Kind = "secret"         // encrypted, and so nothing for everybody
	Unshareable   Kind = "unshareable"    // encrypted with a key that nobody else can use
	DryRun        Kind = "dry run"        // it would have been done
)

// Error is a refusal. Any other error of this package is a fault of loopcloud.
type Error struct {
	Kind Kind
	// Resource is volume, snapshot, image, instance, zone, region, device, tag.
	Resource string
	// ID is the thing's id, or the value refused.
	ID      string
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %s", e.Resource, e.ID, e.Message) }
