package builder

import (
	"errors"
	"net"
)

// Unanswered reports whether a request was sent and not answered in time.
func Unanswered(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() && !Unreached(err)
}

// Unreached reports whether no connection was established.
func Unreached(err error) bool {
	var dialing *net.OpError
	return errors.As(err, &dialing) && dialing.Op == "dial"
}
