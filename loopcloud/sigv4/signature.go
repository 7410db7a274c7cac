package sigv4

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The errors of verifying a signature. Errors of this package wrap one of them.
var (
	// ErrMissing means that the request is not signed.
	ErrMissing = errors.New("the request is not signed")
	// ErrMalformed means that the signature does not conform to Signature Version 4.
	ErrMalformed = errors.New("the signature is malformed")
	// ErrUnknownKey means that the access key does not exist.
	ErrUnknownKey = errors.New("the access key is unknown")
	// ErrMismatch means that the secret of the key gives another signature.
	ErrMismatch = errors.New("the signature does not match the request")
	// ErrExpired means that the request was signed too long ago, or with a time too far ahead.
	ErrExpired = errors.New("the signature is too old or too new")
	// ErrToken means that a request with temporary keys lacks their session token.
	ErrToken = errors.New("the session token is missing or wrong")
	// ErrSessionEnded means that the session of the temporary keys has expired.
	ErrSessionEnded = errors.New("the session has ended")
	// ErrScope means that the request was signed for another service or for an unknown region.
	ErrScope = errors.New("the request is signed for another service or region")
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"
	dateFormat = "20060102"

	// maxExpires is the longest lifetime of a presigned URL in seconds: seven days.
	maxExpires = 7 * 24 * 60 * 60
)

// Credential is the credential in a signature: an access key, and the scope of the signature.
type Credential struct {
	KeyID   string
	Date    string // YYYYMMDD, UTC
	Region  string
	Service string
}

// scope returns the scope as it is signed: the credential without the key.
func (c Credential) scope() string {
	return strings.Join([]string{c.Date, c.Region, c.Service, terminator}, "/")
}

// signature is the signature of a request before verification.
type signature struct {
	Credential
	at      time.Time
	headers []string // names in lower case, sorted
	sum     []byte
	// expires is the lifetime of a presigned URL; 0 if not given.
	expires time.Duration
}

// signatureOf returns the signature in a request's header or URL.
func signatureOf(r *http.Request, query url.Values) (signature, error) {
	if query.Has("X-Amz-Algorithm") {
		return parseQuery(query)
	}
	header := r.Header.Get("Authorization")
	if header == "" {
		return signature{}, ErrMissing
	}
	s, err := parseHeader(header)
	if err != nil {
		return signature{}, err
	}
	return s, s.setTime(r.Header.Get("X-Amz-Date"))
}

// parseHeader parses the value of an Authorization header. The time of signing is in another
// header.
func parseHeader(value string) (signature, error) {
	var s signature
	scheme, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
	if scheme != algorithm {
		return s, fmt.Errorf("%w: scheme %q", ErrMalformed, scheme)
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, text, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, again := parts[name]; !ok || again {
			return s, fmt.Errorf("%w: part %q", ErrMalformed, part)
		}
		parts[name] = text
	}
	return s, s.set(parts["Credential"], parts["SignedHeaders"], parts["Signature"])
}

// parseQuery parses the signature of a presigned URL.
func parseQuery(query url.Values) (signature, error) {
	var s signature
	if a := query.Get("X-Amz-Algorithm"); a != algorithm {
		return s, fmt.Errorf("%w: algorithm %q", ErrMalformed, a)
	}
	if err := s.setExpires(query); err != nil {
		return s, err
	}
	if err := s.set(query.Get("X-Amz-Credential"), query.Get("X-Amz-SignedHeaders"), query.Get("X-Amz-Signature")); err != nil {
		return s, err
	}
	return s, s.setTime(query.Get("X-Amz-Date"))
}

// setExpires sets the lifetime of a presigned URL. The AWS SDKs give none to the URLs that they
// send to EC2 inside a request; such a URL is valid for as long as a signed header.
func (s *signature) setExpires(query url.Values) error {
	if !query.Has("X-Amz-Expires") {
		return nil
	}
	seconds, err := strconv.Atoi(query.Get("X-Amz-Expires"))
	if err != nil || seconds < 1 || seconds > maxExpires {
		return fmt.Errorf("%w: X-Amz-Expires %q", ErrMalformed, query.Get("X-Amz-Expires"))
	}
	s.expires = time.Duration(seconds) * time.Second
	return nil
}

// set sets the parts that headers and URLs have in common.
func (s *signature) set(credential, headers, sum string) error {
	var err error
	if s.Credential, err = parseCredential(credential); err != nil {
		return err
	}
	s.headers = strings.Split(headers, ";")
	if !slices.IsSorted(s.headers) || headers != strings.ToLower(headers) || !slices.Contains(s.headers, "host") {
		return fmt.Errorf("%w: SignedHeaders %q", ErrMalformed, headers)
	}
	if s.sum, err = hex.DecodeString(sum); err != nil || len(s.sum) != 32 {
		return fmt.Errorf("%w: Signature %q", ErrMalformed, sum)
	}
	return nil
}

// setTime sets the time of signing. It must be on the day in the credential.
func (s *signature) setTime(text string) error {
	at, err := time.Parse(timeFormat, text)
	if err != nil {
		return fmt.Errorf("%w: X-Amz-Date %q", ErrMalformed, text)
	}
	if at.Format(dateFormat) != s.Date {
		return fmt.Errorf("%w: X-Amz-Date %q is not of the credential's day %s", ErrMalformed, text, s.Date)
	}
	s.at = at
	return nil
}

// parseCredential parses KEY/YYYYMMDD/region/service/aws4_request.
func parseCredential(text string) (Credential, error) {
	parts := strings.Split(text, "/")
	if len(parts) != 5 || parts[4] != terminator || slices.Contains(parts, "") {
		return Credential{}, fmt.Errorf("%w: Credential %q", ErrMalformed, text)
	}
	return Credential{KeyID: parts[0], Date: parts[1], Region: parts[2], Service: parts[3]}, nil
}
