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
// (error 13 of its error page).
const (
	wrongToLock = 4
	lockTime    = time.Minute
)

// lockout counts the wrong signatures of each account.
type lockout struct {
	now func() time.Time

	mu       sync.Mutex
	accounts map[string]*failures
}

// failures holds the wrong signatures of one account.
type failures struct {
	inRow       int
	lockedUntil time.Time
}

// of returns the failures of an account. The caller holds the mutex.
func (l *lockout) of(account string) *failures {
	if l.accounts == nil {
		l.accounts = map[string]*failures{}
	}
	f, ok := l.accounts[account]
	if !ok {
		f = &failures{}
		l.accounts[account] = f
	}
	return f
}

// isLocked reports whether an account is locked.
func (l *lockout) isLocked(account string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now().Before(l.of(account).lockedUntil)
}

// record counts a right or wrong signature of an account.
func (l *lockout) record(account string, right bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.of(account)
	if right {
		f.inRow = 0
		return
	}
	if f.inRow++; f.inRow >= wrongToLock {
		f.inRow, f.lockedUntil = 0, l.now().Add(lockTime)
	}
}

// credential matches the access key in an Authorization header. The header is not verified
// yet when it is matched.
var credential = regexp.MustCompile(`Credential=([^/,]+)/`)

// authorize returns the caller of a request. A request with an unknown access key counts
// against no account.
func (h *Handler) authorize(r *http.Request, body []byte) (state.Caller, error) {
	account := ""
	if m := credential.FindStringSubmatch(r.Header.Get("Authorization")); m != nil {
		if key, ok := h.state.Key(m[1]); ok {
			account = key.Account
		}
	}
	if account != "" && h.lockout.isLocked(account) {
		return state.Caller{}, locked.with("Too many failed connection attempts: the access is locked for 60 seconds.")
	}
	caller, err := h.auth(r, body, service)
	if account != "" && (err == nil || errors.Is(err, sigv4.ErrMismatch)) {
		h.lockout.record(account, err == nil)
	}
	if err != nil {
		return state.Caller{}, authError(err)
	}
	return caller, nil
}
