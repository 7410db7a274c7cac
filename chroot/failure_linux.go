package chroot

import (
	"context"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// failure is an error on the wire: what it says, and what errors.Is finds in it.
type failure struct {
	Text string
	// Known are places in knownErrors.
	Known []int
	// Errno is the system call's error, if there was one.
	Errno syscall.Errno
}

// knownErrors are what callers look for in an error. Both ends of the wire are
// one program, so that a place in this list means the same on both.
var knownErrors = []error{
	ErrNoFileSystem, ErrNotRoot, ErrNotWritten, ErrNotClaimed,
	os.ErrNotExist, os.ErrExist, os.ErrPermission,
	context.Canceled, context.DeadlineExceeded,
	unix.EBUSY,
	ErrNoMountPoint, ErrHidden,
}

// failed puts an error on the wire; nil stays nil.
func failed(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: err.Error()}
	for i, known := range knownErrors {
		if errors.Is(err, known) {
			f.Known = append(f.Known, i)
		}
	}
	errors.As(err, &f.Errno)
	return f
}

// err takes the error off the wire.
func (f *failure) err() error {
	if f == nil {
		return nil
	}
	e := &farError{text: f.Text}
	for _, i := range f.Known {
		if i >= 0 && i < len(knownErrors) {
			e.is = append(e.is, knownErrors[i])
		}
	}
	if f.Errno != 0 {
		e.is = append(e.is, f.Errno)
	}
	return e
}

// farError is an error of the other process.
type farError struct {
	text string
	is   []error
}

func (e *farError) Error() string { return e.text }

// Unwrap is for errors.Is.
func (e *farError) Unwrap() []error { return e.is }
