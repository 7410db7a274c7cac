package retry

import (
	"errors"
	"fmt"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// Kind is the kind of a failure, which decides whether and for how long the call is made again.
type Kind int

// The kinds of failures.
const (
	// Permanent is a failure that the same call would meet again.
	Permanent Kind = iota
	// Throttled is a refusal because of too many calls. The call had no effect.
	Throttled
	// Fault is a failure of the cloud itself. The call may have had its effect.
	Fault
	// Lost is an answer that did not arrive, or not whole. The call may have had its
	// effect.
	Lost
	// Unreached is a connection that was not established. The call had no effect.
	Unreached
	// Skewed is the refusal of a request's signature, usually because this machine's clock is
	// wrong. The next attempt is signed anew, by the cloud's clock. The call had no effect.
	Skewed
	// Unseen is a refusal because the cloud does not know a new resource yet. The call had no
	// effect.
	Unseen
)

// Doubtful reports whether the failed call may have had its effect.
func (k Kind) Doubtful() bool { return k == Fault || k == Lost }

// trouble reports whether the failure is about the cloud, and not about the call's
// subject.
func (k Kind) trouble() bool { return k != Permanent && k != Skewed && k != Unseen }

// String returns a description for a sentence that goes on with "since".
func (k Kind) String() string {
	switch k {
	case Permanent:
		return "refused"
	case Throttled:
		return "throttled"
	case Fault:
		return "failing inside the cloud"
	case Lost:
		return "not answered"
	case Unreached:
		return "without a connection"
	case Skewed:
		return "refused for its signature"
	case Unseen:
		return "not known yet"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// CallError is the error of a call that was made again in vain, or that could be made
// again.
type CallError struct {
	Kind Kind
	// Since is when the first attempt of this kind failed, and Attempts is how many of any
	// kind there were until At.
	Since, At time.Time
	Attempts  int
	// Err is the error of the last attempt.
	Err error
}

// Error implements error.
func (f *CallError) Error() string {
	if f.Attempts < 2 {
		return f.Err.Error()
	}
	return fmt.Sprintf("%v (%s since %s, for %s, %d attempts)", f.Err, f.Kind, event.Clocktime(f.Since), length(f.At.Sub(f.Since)), f.Attempts)
}

// Unwrap returns the cloud's error.
func (f *CallError) Unwrap() error { return f.Err }

// length returns a duration for a message.
func length(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Second)
}

// Trouble returns the failure in err that is about the cloud and not about the call's
// subject, such as throttling; nil if there is none.
func Trouble(err error) *CallError {
	var failure *CallError
	if errors.As(err, &failure) && failure.Kind.trouble() {
		return failure
	}
	return nil
}
