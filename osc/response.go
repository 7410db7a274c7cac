package osc

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// transportError is the error of a call without a complete response. The cloud may have executed the call.
type transportError struct{ err error }

func (f *transportError) Error() string { return f.err.Error() }

func (f *transportError) Unwrap() error { return f.err }

// wrongTLS reports whether the endpoint uses another protocol than the request, or has a certificate
// that is not accepted. Another attempt would have the same result.
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

// maxAnswer is the maximum size of a response in bytes.
const maxAnswer = 64 << 20

// refusing returns a refusal for every response that is no success, and a transportError if there is
// no complete response.
type refusing struct {
	next http.RoundTripper
	// heard records the identity of the cloud.
	heard *builder.Identity
}

// RoundTrip implements http.RoundTripper, except that a refusal is an error. operation.once, through
// the signer, is its only caller. It reads the body, so that an incomplete one is a transportError too.
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

// newRefusal returns the refusal in a response.
func newRefusal(resp *http.Response, body []byte) *refusal {
	r := &refusal{Status: resp.StatusCode, Skew: skew(resp)}
	var answer struct {
		Errors []struct{ Code, Type, Details string }
		// ResponseContext is in every response of the API.
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

// excerpt returns the beginning of an unexpected body, on one line.
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
