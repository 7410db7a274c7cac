package builder

import (
	"io"
	"slices"
	"strings"
	"sync"
)

// hidden are the secrets of this process: log is the process's too.
var hidden secrets

// Hide keeps secrets out of the log, and out of what the user is told, from here
// on. It may be called at any time, as for keys that are renewed: the filter of
// Packer's SDK (LogSecretFilter) may not be changed while others write through it.
func Hide(these ...string) { hidden.add(these...) }

// Redact strikes what Hide was told out of a text.
func Redact(text string) string { return hidden.strike(text) }

// redacted returns an error without secrets: what a wrapper or a command said may be
// part of it.
func redacted(err error) error {
	if err == nil || Redact(err.Error()) == err.Error() {
		return err
	}
	return redactedError{err}
}

// redactedError is an error whose text has no secrets.
type redactedError struct{ error }

func (e redactedError) Error() string { return Redact(e.error.Error()) }
func (e redactedError) Unwrap() error { return e.error }

// struckOut stands in the place of a secret, as in Packer's own log.
const struckOut = "<sensitive>"

// secrets are strings that nobody may see.
type secrets struct {
	mu sync.RWMutex
	// known has the longest first, so that of a secret within another one nothing is
	// left.
	known []string
}

func (s *secrets) add(these ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range these {
		if secret != "" && !slices.Contains(s.known, secret) {
			s.known = append(s.known, secret)
		}
	}
	slices.SortStableFunc(s.known, func(a, b string) int { return len(b) - len(a) })
}

func (s *secrets) strike(text string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, secret := range s.known {
		text = strings.ReplaceAll(text, secret, struckOut)
	}
	return text
}

// writer passes on what is written, which is whole lines, as package log does it.
func (s *secrets) writer(to io.Writer) io.Writer { return redacting{s, to} }

type redacting struct {
	secrets *secrets
	to      io.Writer
}

// Write implements io.Writer.
func (r redacting) Write(line []byte) (int, error) {
	if _, err := io.WriteString(r.to, r.secrets.strike(string(line))); err != nil {
		return 0, err
	}
	return len(line), nil
}
