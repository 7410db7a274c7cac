package oapi

import (
	"errors"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// The API locks an account for a minute after four wrong signatures in a row
// (error 13 of its page of errors).
const (
	wrongToLock = 4
	lockTime    = time.Minute
)

// guard counts the wrong signatures of each account.
type guard struct {
	now func() time.Time

	mu       sync.Mutex
	accounts map[string]*tally
}

type tally struct {
	wrong       int
	lockedUntil time.Time
}

// of is an account's tally; the guard is locked.
func (g *guard) of(account string) *tally {
	if g.accounts == nil {
		g.accounts = map[string]*tally{}
	}
	t, ok := g.accounts[account]
	if !ok {
		t = &tally{}
		g.accounts[account] = t
	}
	return t
}

// locked tells whether the account is locked.
func (g *guard) locked(account string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now().Before(g.of(account).lockedUntil)
}

// note takes a signature into account.
func (g *guard) note(account string, good bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.of(account)
	if good {
		t.wrong = 0
		return
	}
	if t.wrong++; t.wrong >= wrongToLock {
		t.wrong, t.lockedUntil = 0, g.now().Add(lockTime)
	}
}

// credential finds the access key in an Authorization header: what a request
// says of itself, before anybody has checked it.
var credential = regexp.MustCompile(`Credential=([^/,]+)/`)

// authorize finds on whose behalf a request is made. A key that nobody has is
// counted against no account.
func (h *Handler) authorize(r *http.Request, body []byte) (state.Caller, error) {
	account := ""
	if m := credential.FindStringSubmatch(r.Header.Get("Authorization")); m != nil {
		if key, ok := h.state.Key(m[1]); ok {
			account = key.Account
		}
	}
	if account != "" && h.guard.locked(account) {
		return state.Caller{}, locked.with("Too many failed connection attempts: the access is locked for 60 seconds.")
	}
	caller, err := h.auth(r, body, service)
	if account != "" && (err == nil || errors.Is(err, sigv4.ErrMismatch)) {
		h.guard.note(account, err == nil)
	}
	if err != nil {
		return state.Caller{}, authError(err)
	}
	return caller, nil
}
