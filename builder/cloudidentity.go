package builder

import (
	"net/http"
	"regexp"
	"sync/atomic"
)

// identityHeader is the response header with the identity of a cloud. Only loopcloud sends it.
const identityHeader = "Loopcloud-Id"

// validIdentity matches the identities that are kept in journals and printed.
var validIdentity = regexp.MustCompile(`^[A-Za-z0-9-]{8,64}$`)

// Identity is the identity of a cloud, as its responses show it. The zero value is that of a cloud
// that has shown none. It may be used by several goroutines.
type Identity struct{ told atomic.Pointer[string] }

// Note takes the identity from the header of a response, if it has one.
func (i *Identity) Note(answer http.Header) {
	if id := answer.Get(identityHeader); validIdentity.MatchString(id) {
		i.told.Store(&id)
	}
}

// String returns the identity; empty if none was told.
func (i *Identity) String() string {
	if id := i.told.Load(); id != nil {
		return *id
	}
	return ""
}
