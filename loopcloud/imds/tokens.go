package imds

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// tokens issues and verifies tokens without storing them: a token is its expiry time and a MAC of
// it with a secret key.
type tokens struct{ key [32]byte }

func newTokens() tokens {
	var t tokens
	rand.Read(t.key[:]) // never fails: crypto/rand ends the program instead
	return t
}

// issue returns a token that expires at a time.
func (t tokens) issue(until time.Time) string {
	end := binary.BigEndian.AppendUint64(nil, uint64(until.UnixNano()))
	return base64.URLEncoding.EncodeToString(append(end, t.sign(end)...))
}

// isValid reports whether a token was issued here and has not expired.
func (t tokens) isValid(token string, now time.Time) bool {
	raw, err := base64.URLEncoding.DecodeString(token)
	if err != nil || len(raw) < 8 || !hmac.Equal(raw[8:], t.sign(raw[:8])) {
		return false
	}
	return now.UnixNano() < int64(binary.BigEndian.Uint64(raw))
}

func (t tokens) sign(end []byte) []byte {
	h := hmac.New(sha256.New, t.key[:])
	h.Write(end)
	return h.Sum(nil)
}
