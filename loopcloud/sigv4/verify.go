package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Skew is the largest difference between the clocks of a client and of the cloud.
const Skew = 15 * time.Minute

// Verify verifies the signature of a request. The function keys returns the secret of an access
// key. The returned credential holds the scope that the client signed for. Verify does not check
// the scope.
//
// An error wraps ErrMissing, ErrMalformed, ErrUnknownKey, ErrMismatch or ErrExpired.
func Verify(r *http.Request, body []byte, now time.Time, keys func(id string) (secret string, ok bool)) (Credential, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Credential{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	s, err := signatureOf(r, query)
	if err != nil {
		return Credential{}, err
	}
	secret, ok := keys(s.KeyID)
	if !ok {
		return Credential{}, fmt.Errorf("%w: %s", ErrUnknownKey, s.KeyID)
	}
	if !hmac.Equal(s.sum, s.compute(secret, canonical(r, query, s.headers, s.payload(r, body)))) {
		return Credential{}, ErrMismatch
	}
	return s.Credential, s.checkTime(now)
}

// checkTime returns an error if the signature is not valid at this time.
func (s signature) checkTime(now time.Time) error {
	last := s.at.Add(Skew)
	if s.expires > 0 {
		last = s.at.Add(s.expires)
	}
	if now.After(last) || now.Before(s.at.Add(-Skew)) {
		return fmt.Errorf("%w: signed %s, now %s", ErrExpired, s.at.Format(timeFormat), now.UTC().Format(timeFormat))
	}
	return nil
}

// compute returns the signature of a canonical request with this secret.
func (s signature) compute(secret, request string) []byte {
	sum := sha256.Sum256([]byte(request))
	text := strings.Join([]string{algorithm, s.at.Format(timeFormat), s.scope(), hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.Date, s.Region, s.Service, terminator, text} {
		key = mac(key, part)
	}
	return key
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// unsigned stands for the hash of a body that is not signed.
const unsigned = "UNSIGNED-PAYLOAD"

// payload returns the hash of a body as it is signed. PutSnapshotBlock of the EBS direct APIs may
// leave its body out: the checksum in a header is signed instead.
func (s signature) payload(r *http.Request, body []byte) string {
	if s.Service == EBS && r.Method == http.MethodPut && r.Header.Get("X-Amz-Content-Sha256") == unsigned &&
		slices.Contains(s.headers, "x-amz-checksum") {
		return unsigned
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// canonical returns the canonical form of a request, which both sides hash.
func canonical(r *http.Request, query url.Values, headers []string, payload string) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + canonicalPath(r.URL) + "\n" + canonicalQuery(query) + "\n")
	for _, name := range headers {
		b.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(headers, ";") + "\n" + payload)
	return b.String()
}

// canonicalPath escapes the path once more than in the request, as for every service except S3.
func canonicalPath(u *url.URL) string {
	path := u.EscapedPath()
	if path == "" {
		return "/"
	}
	return escape(path, "/")
}

// canonicalQuery escapes the query without the signature, and sorts it by escaped name and value.
func canonicalQuery(query url.Values) string {
	var pairs [][2]string
	for name, values := range query {
		if name == "X-Amz-Signature" {
			continue
		}
		for _, value := range values {
			pairs = append(pairs, [2]string{escape(name, ""), escape(value, "")})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	joined := make([]string, len(pairs))
	for i, pair := range pairs {
		joined[i] = pair[0] + "=" + pair[1]
	}
	return strings.Join(joined, "&")
}

// headerValue returns a header as it is signed: trimmed, with runs of blanks replaced by one. In
// net/http, Host and Content-Length are fields of the request, not headers.
func headerValue(r *http.Request, name string) string {
	switch values := r.Header.Values(name); {
	case name == "host":
		return r.Host
	case name == "content-length" && len(values) == 0:
		return strconv.FormatInt(r.ContentLength, 10)
	default:
		folded := make([]string, len(values))
		for i, v := range values {
			folded[i] = strings.Join(strings.Fields(v), " ")
		}
		return strings.Join(folded, ",")
	}
}

// escape percent-encodes all bytes but the unreserved characters of RFC 3986 and those in safe.
func escape(text, safe string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if isUnreserved(c) || strings.IndexByte(safe, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
	}
	return b.String()
}

func isUnreserved(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-._~", c) >= 0
}
