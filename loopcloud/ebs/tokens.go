package ebs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// The lifetimes of tokens. Source: https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-faq.html
const (
	blockTokenLife = 7 * 24 * time.Hour
	pageTokenLife  = time.Hour
)

// tokens issues and verifies the tokens of blocks and pages. A token holds a number and the time
// at which it expires, and a code that authenticates both together with the purpose of the token:
//
//	number (8 bytes) | expiry in Unix seconds (8) | HMAC-SHA256 (32), in base64
//
// Tokens stay valid when the cloud is restarted, because the secret is kept.
type tokens struct {
	secret []byte
	now    func() time.Time
}

// tokenSize is the size of a token before it is encoded, in bytes.
const tokenSize = 8 + 8 + sha256.Size

// issue returns a token for a number.
func (t tokens) issue(number int64, expiry time.Time, purpose ...string) string {
	raw := binary.BigEndian.AppendUint64(nil, uint64(number))
	raw = binary.BigEndian.AppendUint64(raw, uint64(expiry.Unix()))
	return base64.StdEncoding.EncodeToString(append(raw, t.code(raw, purpose)...))
}

// read returns the number in a token. It reports false if the token was not issued for this
// purpose or has expired.
func (t tokens) read(token string, purpose ...string) (number int64, ok bool) {
	raw, err := base64.StdEncoding.DecodeString(token)
	if err != nil || len(raw) != tokenSize {
		return 0, false
	}
	fields, code := raw[:16], raw[16:]
	if !hmac.Equal(code, t.code(fields, purpose)) {
		return 0, false
	}
	expiry := time.Unix(int64(binary.BigEndian.Uint64(fields[8:])), 0)
	return int64(binary.BigEndian.Uint64(fields)), t.now().Before(expiry)
}

// code returns the authentication code of the fields of a token.
func (t tokens) code(fields []byte, purpose []string) []byte {
	h := hmac.New(sha256.New, t.secret)
	h.Write(fields)
	h.Write([]byte(strings.Join(purpose, "\x00")))
	return h.Sum(nil)
}

// block returns a token for reading a block of a snapshot.
func (t tokens) block(caller state.Caller, snapshot string, index int64, expiry time.Time) string {
	return t.issue(index, expiry, "block", caller.Account, caller.Region, snapshot)
}

// allows reports whether a token is for this block.
func (t tokens) allows(token string, caller state.Caller, snapshot string, index int64) bool {
	number, ok := t.read(token, "block", caller.Account, caller.Region, snapshot)
	return ok && number == index
}

// page returns a token for the page of a list that begins with a block. It is "" for block 0:
// there is no further page.
func (t tokens) page(caller state.Caller, next int64, snapshots ...string) string {
	if next == 0 {
		return ""
	}
	return t.issue(next, t.now().Add(pageTokenLife), t.pagePurpose(caller, snapshots)...)
}

// readPage returns the block at which a page begins.
func (t tokens) readPage(token string, caller state.Caller, snapshots ...string) (next int64, ok bool) {
	return t.read(token, t.pagePurpose(caller, snapshots)...)
}

func (t tokens) pagePurpose(caller state.Caller, snapshots []string) []string {
	return append([]string{"page", caller.Account, caller.Region}, snapshots...)
}
