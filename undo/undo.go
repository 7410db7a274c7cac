// Package undo keeps every act of a build beside its undoing.
//
// An undoing is armed before its act is begun, so that an act that half
// succeeds, or whose answer is lost, is undone too. An undoing must therefore
// bear to be called when there is nothing to undo, and to be called again after
// it failed.
//
//	        Arm            Undo, nil
//	(none) ─────→ armed ─────────────→ over
//	               │  ↑ └─ Disarm, Keep ─↑
//	               └──┘ Undo, error
package undo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Func undoes an act. It returns nil if there is nothing left to undo, and may
// return ErrNothing if there never was anything.
type Func func(context.Context) error

// ErrNothing is returned by a Func if the act had no effect, such as a request that
// was refused. The entry is then over, and is not reported as undone.
var ErrNothing = errors.New("there was nothing to undo")

// Stack holds undoings in the order of their acts. It may be used by several
// goroutines.
type Stack struct {
	name string

	mu    sync.Mutex
	armed []*Entry
}

// NewStack makes an empty stack; the name stands in its errors.
func NewStack(name string) *Stack {
	return &Stack{name: name}
}

// Name is the stack's name.
func (s *Stack) Name() string { return s.name }

// Entry is one armed undoing.
type Entry struct {
	stack *Stack
	undo  Func

	// what is guarded by stack.mu.
	what string

	// once is held while the undoing runs; over is guarded by it.
	once sync.Mutex
	over bool
}

// Arm puts an undoing on top of the stack. Call it before the act: this is where
// an intent can be written down that outlives the process.
func (s *Stack) Arm(what string, undo Func) *Entry {
	e := &Entry{stack: s, undo: undo, what: what}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = append(s.armed, e)
	return e
}

// Rename says better what the entry stands for, once its id is known.
func (e *Entry) Rename(what string) {
	e.stack.mu.Lock()
	defer e.stack.mu.Unlock()
	e.what = what
}

// Undo undoes the act now and takes the entry off the stack. An entry that is
// over answers nil; one that fails stays armed, for Release to try again.
func (e *Entry) Undo(ctx context.Context) error {
	_, err := e.run(ctx)
	return err
}

// run is Undo, and reports whether there was anything to undo.
func (e *Entry) run(ctx context.Context) (some bool, err error) {
	e.once.Lock()
	defer e.once.Unlock()
	if e.over {
		return true, nil
	}
	err = e.undo(ctx)
	none := errors.Is(err, ErrNothing)
	if err != nil && !none {
		return false, err
	}
	e.end()
	return !none, nil
}

// Disarm takes the entry off the stack without undoing its act.
func (e *Entry) Disarm() {
	e.once.Lock()
	defer e.once.Unlock()
	e.end()
}

// end takes the entry off the stack. The caller holds once.
func (e *Entry) end() {
	e.over = true
	s := e.stack
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = slices.DeleteFunc(s.armed, func(other *Entry) bool { return other == e })
}

// Release undoes what is armed, last in first out, and calls told, if it is not
// nil, with each thing undone. It stops at the first failure, for what lies
// below may only be undone after it: a disk that is still mounted is not
// detached. The error then names what failed and everything left as it is.
//
// Release does not end with ctx, which may be cancelled already, but after
// limit.
func (s *Stack) Release(ctx context.Context, limit time.Duration, told func(what string)) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	for {
		e, what := s.top()
		if e == nil {
			return nil
		}
		some, err := e.run(ctx)
		if err != nil {
			return fmt.Errorf("cannot undo the %s: %s: %w; left as it is: %s",
				s.name, what, err, strings.Join(s.Pending(), ", "))
		}
		if told != nil && some {
			told(what)
		}
	}
}

// top is the entry to undo next, or nil.
func (s *Stack) top() (*Entry, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.armed) == 0 {
		return nil, ""
	}
	e := s.armed[len(s.armed)-1]
	return e, e.what
}

// Keep forgets every undoing: what was made stays.
func (s *Stack) Keep() {
	s.mu.Lock()
	entries := slices.Clone(s.armed)
	s.mu.Unlock()
	for _, e := range entries {
		e.Disarm()
	}
}

// Holds tells whether the entry is armed on this stack.
func (s *Stack) Holds(e *Entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.armed, e)
}

// Pending names what is armed, in the order in which it would be undone.
func (s *Stack) Pending() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, e := range slices.Backward(s.armed) {
		names = append(names, e.what)
	}
	return names
}
