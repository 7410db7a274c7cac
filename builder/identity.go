package builder

import (
	"net/http"
	"regexp"
	"sync/atomic"
)

// identityHeader is the header of an answer in which a cloud tells its identity:
// loopcloud does, and AWS and Outscale do not.
const identityHeader = "Loopcloud-Id"

// validIdentity is what an identity may be: it is kept in journals, and printed.
var validIdentity = regexp.MustCompile(`^[A-Za-z0-9-]{8,64}$`)

// Identity is what a cloud has told of its identity. The zero value is of a cloud that
// has told none. It may be used by several goroutines.
type Identity struct{ told atomic.Pointer[string] }

// Note takes the identity from the header of an answer, if it has one.
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
