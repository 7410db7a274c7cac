package imds

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// tokens makes and knows tokens without keeping any: one is the time of its end,
// and a code over it by a key that nobody else has.
type tokens struct{ key [32]byte }

func newTokens() tokens {
	var t tokens
	rand.Read(t.key[:]) // never fails: crypto/rand ends the program instead
	return t
}

// make makes a token that is good until a time.
func (t tokens) make(until time.Time) string {
	end := binary.BigEndian.AppendUint64(nil, uint64(until.UnixNano()))
	return base64.URLEncoding.EncodeToString(append(end, t.sign(end)...))
}

// good tells whether this is one of the tokens, and not yet at its end.
func (t tokens) good(token string, now time.Time) bool {
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
