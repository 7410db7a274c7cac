package state

import "fmt"

// Kind is the kind of a refusal. Each dialect has its own error codes for it.
type Kind string

// The kinds of refusal.
const (
	NotFound      Kind = "not found"      // the resource does not exist, or the caller cannot see it
	Malformed     Kind = "malformed"      // an invalid ID
	WrongState    Kind = "wrong state"    // the resource's state does not allow it
	InUse         Kind = "in use"         // attached, used by an image, or a device name that is in use
	Duplicate     Kind = "duplicate"      // an image name that the account already has
	InvalidValue  Kind = "invalid value"  // a parameter's value
	Missing       Kind = "missing"        // a parameter
	TokenMismatch Kind = "token mismatch" // a client token used with other parameters
	NotAllowed    Kind = "not allowed"    // the caller may not change the resource
	Protected     Kind = "protected"      // the resource is protected from deletion
	Unsuited      Kind = "unsuited"       // a parameter that does not go with another
	Unreadable    Kind = "unreadable"     // a part of a visible resource that the caller may not read
	Limit         Kind = "limit"          // too many or too large
	Busy          Kind = "busy"           // another call changes it
	Unrelated     Kind = "unrelated"      // snapshots that do not have a common origin
	Secret        Kind = "secret"         // encrypted, so it cannot be public
	Unshareable   Kind = "unshareable"    // encrypted with a key that other accounts cannot use
	DryRun        Kind = "dry run"        // a dry run that would have succeeded
)

// Error is a refusal. Any other error of this package is a fault of loopcloud.
type Error struct {
	Kind Kind
	// Resource is volume, root (the root volume of an instance), modification (of a volume),
	// snapshot, image, instance, zone, region, device, tag.
	Resource string
	// ID is the resource's ID, or the refused value.
	ID string
	// By is the ID of the resource that uses it, if one does.
	By      string
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %s", e.Resource, e.ID, e.Message) }
