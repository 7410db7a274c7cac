package osc

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// refusal is an answer that is not a success, of any status. The codes are at
// https://docs.outscale.com/api-errors.html.
type refusal struct {
	Status        int
	Code          string // 5064
	Type, Details string
	RequestID     string
	// Skew is how far the API's clock is ahead of this machine's; 0 if it does not
	// tell.
	Skew time.Duration
}

func (r *refusal) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP %d", r.Status)
	if r.Code != "" || r.Type != "" {
		fmt.Fprintf(&b, ", %s (code %s)", r.Type, r.Code)
	}
	if r.Details != "" {
		fmt.Fprintf(&b, ": %s", r.Details)
	}
	if r.untimely() {
		fmt.Fprintf(&b, " (this machine's clock is %s the API's)", r.lag())
	}
	if r.RequestID != "" {
		fmt.Fprintf(&b, " [request %s]", r.RequestID)
	}
	return b.String()
}

// throttled reports whether the API refused the call because of too many: of the whole
// platform (code 6, with status 503), of the account (24) or of this call (25).
// Source: https://docs.outscale.com/en/userguide/API-Throttling.html
func (r *refusal) throttled() bool {
	return r.Status == http.StatusTooManyRequests || r.Code == "6" || r.Code == "24" || r.Code == "25"
}

// limit names the limit that a throttled call has met.
func (r *refusal) limit() string {
	switch r.Code {
	case "6":
		return "the whole platform"
	case "25":
		return "this call of the account"
	}
	return "the account"
}

// kind classifies the refusal.
func (r *refusal) kind() retry.Kind {
	if r.throttled() {
		return retry.Throttled
	}
	switch r.Status {
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return retry.Lost // on the way to the API
	case http.StatusInternalServerError, http.StatusServiceUnavailable:
		return retry.Fault
	}
	return retry.Permanent
}

// conflict reports whether the state of a resource is against the call, for now or for
// good. The type says so, or the thousand of the code: the status is not always 409.
func (r *refusal) conflict() bool {
	ofState := strings.HasPrefix(r.Type, "Invalid") && strings.HasSuffix(r.Type, "State")
	return r.Status == http.StatusConflict || r.Type == "ResourceConflict" || ofState || r.ofThousand('6') || r.ofThousand('9')
}

// ofThousand reports whether the code has four digits and begins with this one.
func (r *refusal) ofThousand(digit byte) bool { return len(r.Code) == 4 && r.Code[0] == digit }

// wrongRequest means that the request, or the state that it meets, is wrong. It is not if
// the keys are.
func (r *refusal) wrongRequest() bool {
	return r.conflict() || r.Status == http.StatusBadRequest && !r.refusedKeys()
}

// notFound means that there is no thing of that id: the codes from 5000 to 5999
// have this type.
func (r *refusal) notFound() bool { return r.Type == "InvalidResource" }

// noVM means that there is no VM of that id.
func (r *refusal) noVM() bool { return r.Code == "5063" }

// unsettled reports whether a changing call may lag behind the reading calls: it does not know a
// resource, or knows it in an earlier state.
func (r *refusal) unsettled() bool { return r.notFound() || r.conflict() }

// locked means that too many signatures were wrong: code 11 for good, 13 for a
// minute.
func (r *refusal) locked() bool { return r.Code == "11" || r.Code == "13" }

// refusedKeys means that the signature is wrong (code 1), or that there is no such access
// key (4120).
func (r *refusal) refusedKeys() bool { return r.Code == "1" || r.Code == "4120" }

// badKeys is refusedKeys for the first call, of which an older API may say so with the
// code 4000 of any wrong value.
func (r *refusal) badKeys() bool { return r.refusedKeys() || r.Code == "4000" }

// allowedSkew is how far clocks may be apart, as far as a user can tell: the API
// allows for a little more.
const allowedSkew = 4 * time.Minute

// untimely reports whether the signature was refused and the clocks differ by so much that any
// signature would be.
func (r *refusal) untimely() bool {
	refused := r.badKeys() || r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden
	return refused && !r.locked() && r.Skew.Abs() > allowedSkew
}

// lag says how this machine's clock is to the API's, such as "7m0s behind".
func (r *refusal) lag() string {
	if r.Skew > 0 {
		return r.Skew.Round(time.Second).String() + " behind"
	}
	return r.Skew.Abs().Round(time.Second).String() + " ahead of"
}

// isRefusal reports whether err is a refusal that the predicate holds for.
func isRefusal(err error, holds func(*refusal) bool) bool {
	var r *refusal
	return errors.As(err, &r) && holds(r)
}
