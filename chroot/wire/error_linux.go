package wire

import (
	"errors"
	"syscall"
)

// KnownErrors are the errors that errors.Is finds in an error of the other end. An error
// is sent as its place in the list, so that the list must be the same at both ends.
type KnownErrors []error

// failure is an error in a reply: its text, and the errors that errors.Is finds in it.
type failure struct {
	Text string
	// Known are places in KnownErrors.
	Known []int
	// Errno is the system call's error, if there was one.
	Errno syscall.Errno
}

// encode returns an error as it is sent; nil stays nil.
func (k KnownErrors) encode(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: err.Error()}
	for i, known := range k {
		if errors.Is(err, known) {
			f.Known = append(f.Known, i)
		}
	}
	errors.As(err, &f.Errno)
	return f
}

// decode returns an error that was sent.
func (k KnownErrors) decode(f *failure) error {
	if f == nil {
		return nil
	}
	e := &remoteError{text: f.Text}
	for _, i := range f.Known {
		if i >= 0 && i < len(k) {
			e.is = append(e.is, k[i])
		}
	}
	if f.Errno != 0 {
		e.is = append(e.is, f.Errno)
	}
	return e
}

// remoteError is an error of the other end.
type remoteError struct {
	text string
	is   []error
}

// Error implements error.
func (e *remoteError) Error() string { return e.text }

// Unwrap is for errors.Is.
func (e *remoteError) Unwrap() []error { return e.is }
