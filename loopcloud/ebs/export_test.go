package ebs

import (
	"net/http"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// DecodeStart decodes the body of StartSnapshot.
var DecodeStart = decodeStart

// Transfers returns the number of transfers that a Handler remembers.
func Transfers(h http.Handler) int {
	l := h.(*Handler).limits
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.free)
}

// Reasons returns the reasons of refusals of the state.
func Reasons() []string {
	var all []string
	for _, e := range codes {
		all = append(all, e.Reason)
	}
	return all
}

// Tokens returns tokens of a secret and a clock, and functions that issue and read a page token.
func Tokens(now func() time.Time) (issue func(state.Caller, int64, string) string, read func(string, state.Caller, string) (int64, bool)) {
	t := tokens{secret: []byte("secret"), now: now}
	return func(c state.Caller, next int64, id string) string { return t.page(c, next, id) },
		func(token string, c state.Caller, id string) (int64, bool) { return t.readPage(token, c, id) }
}
