package osc

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
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

// transportError is that no whole answer came. The call may have been made.
type transportError struct{ err error }

func (f *transportError) Error() string { return f.err.Error() }

func (f *transportError) Unwrap() error { return f.err }

// wrongTLS means that the endpoint speaks another protocol than was asked for,
// or that its certificate is not accepted: no try will change that.
func (f *transportError) wrongTLS() bool {
	var (
		cert   *tls.CertificateVerificationError
		header tls.RecordHeaderError
	)
	return errors.As(f.err, &cert) || errors.As(f.err, &header) || errors.Is(f.err, http.ErrSchemeMismatch)
}

// wrongHost reports whether the endpoint's host does not exist.
func (f *transportError) wrongHost() bool {
	var unknown *net.DNSError
	return errors.As(f.err, &unknown) && unknown.IsNotFound
}

// maxAnswer bounds how much of an answer is read, in bytes.
const maxAnswer = 64 << 20

// refusing turns every answer but a success into a refusal, and every answer that
// did not come into a transportError.
type refusing struct {
	next http.RoundTripper
	// heard is told the identity of the cloud.
	heard *builder.Identity
}

// RoundTrip returns an error for a refusal, which is more than the contract of
// http.RoundTripper grants; operation.once, through the signer, is its only caller.
// The body is read here, so that a broken one is a transportError too.
func (t refusing) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, &transportError{err}
	}
	t.heard.Note(resp.Header)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	resp.Body.Close()
	if err != nil {
		return nil, &transportError{err}
	}
	isJSON := strings.Contains(resp.Header.Get("Content-Type"), "json")
	if resp.StatusCode != http.StatusOK || !isJSON {
		return nil, newRefusal(resp, body)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func newRefusal(resp *http.Response, body []byte) *refusal {
	r := &refusal{Status: resp.StatusCode, Skew: skew(resp)}
	var answer struct {
		Errors []struct{ Code, Type, Details string }
		// ResponseContext is in every answer of the API.
		ResponseContext struct {
			RequestID string `json:"RequestId"`
		}
	}
	none := struct{ Code, Type, Details string }{}
	if json.Unmarshal(withoutNulls(body), &answer) != nil || len(answer.Errors) == 0 || answer.Errors[0] == none {
		r.Details = "the answer is not of the Outscale API: " + excerpt(body)
		return r
	}
	e := answer.Errors[0]
	r.Code, r.Type, r.Details = e.Code, e.Type, e.Details
	r.RequestID = answer.ResponseContext.RequestID
	return r
}

// skew returns the difference between the server's clock and this machine's.
func skew(resp *http.Response) time.Duration {
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0
	}
	return time.Until(at)
}

// excerpt is the beginning of a body that nobody expected, on one line.
func excerpt(body []byte) string {
	s := strings.Join(strings.Fields(string(body)), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	if s == "" {
		return "it is empty"
	}
	return s
}
