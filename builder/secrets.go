package builder

import (
	"io"
	"os"
	"slices"
	"strings"
	"sync"
)

// hidden are the secrets of this process: log is the process's too.
var hidden secrets

// Hide keeps secrets out of the log and of messages to the user, from now on. It may be called at
// any time, as for renewed keys: the filter of Packer's SDK (LogSecretFilter) may not be changed
// while others write through it.
func Hide(these ...string) { hidden.add(these...) }

// Redact removes hidden secrets from a text.
func Redact(text string) string { return hidden.strike(text) }

// secretVariables are the environment variables that hold secrets.
var secretVariables = []string{
	"AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN",
	"OSC_SECRET_KEY", "OUTSCALE_SECRETKEYID", "OSC_X509_CLIENT_KEY_B64",
	"VAULT_TOKEN", "LOOPCLOUD_TOKEN",
}

// minSecret is the length in bytes from which the value of such a variable is hidden even
// if the build does not use it. A shorter one may be an ordinary word.
const minSecret = 16

// hideEnvironment hides the secrets in the environment: a command_wrapper runs before the
// build reads its keys, and an error repeats what the wrapper prints.
func hideEnvironment() {
	for _, name := range secretVariables {
		if value := os.Getenv(name); len(value) >= minSecret {
			Hide(value)
		}
	}
}

// redacted returns an error without secrets, such as those in the output of a wrapper or a
// command.
func redacted(err error) error {
	if err == nil || Redact(err.Error()) == err.Error() {
		return err
	}
	return redactedError{err}
}

// redactedError is an error with a text without secrets.
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

// writer passes on whole lines, as package log writes them.
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
