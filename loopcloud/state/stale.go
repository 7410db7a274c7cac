package state

import (
	"slices"
	"time"
)

// Stale describes eventual consistency: how long the owner's calls see a resource as it was
// before an act. A new resource does not exist yet; a deleted one still does. Describing calls
// see the old state for a number of calls or for a time, whichever is longer. Changing calls see
// it for a number of refusals, independently of the describing calls.
type Stale struct {
	Reads   int
	For     time.Duration
	Changes int
}

// resource is anything that describing calls return.
type resource interface {
	key() string
	scope() Caller
	createdAt() time.Time
}

// staleState is the outdated state of a resource that calls still see after an act.
type staleState[T resource] struct {
	before  *T // nil if it did not exist
	at      Caller
	reads   int
	until   time.Time
	changes int
	several bool // changes was more than one
}

// staleStates holds outdated states by ID. They are not saved.
type staleStates[T resource] map[string]*staleState[T]

// add records the state before an act.
func (p staleStates[T]) add(s Stale, id string, at Caller, before *T, now time.Time) {
	if s != (Stale{}) {
		p[id] = &staleState[T]{before: before, at: at, reads: s.Reads, until: now.Add(s.For), changes: s.Changes, several: s.Changes > 1}
	}
}

// refused counts one refusal and returns the outdated state for which a changing call is refused,
// nil if changing calls see the current state.
func (p staleStates[T]) refused(id string, caller Caller, stale func(*staleState[T]) bool) *staleState[T] {
	was := p[id]
	if was == nil || was.at != caller || was.changes <= 0 || !stale(was) {
		return nil
	}
	was.changes--
	return was
}

// checkCreated returns the refusal of a changing call that does not see a new resource yet. The
// last of several refusals sees the resource, in the state of a resource that is being created.
func (p staleStates[T]) checkCreated(resource, id string, caller Caller, created string) error {
	was := p.refused(id, caller, func(was *staleState[T]) bool { return was.before == nil })
	switch {
	case was == nil:
		return nil
	case was.changes > 0 || !was.several:
		return refuse(NotFound, resource, id, "it does not exist")
	}
	return refuse(WrongState, resource, id, "it is %s", created)
}

// checkVisible returns the refusal of a call that may change a resource in any state, but does
// not see this new one yet.
func (p staleStates[T]) checkVisible(resource, id string, caller Caller) error {
	if p.refused(id, caller, func(was *staleState[T]) bool { return was.before == nil }) != nil {
		return refuse(NotFound, resource, id, "it does not exist")
	}
	return nil
}

// hidden reports whether a call of the EBS direct APIs does not see a new resource yet. Such a call
// is refused for the time of describing calls, and then for the number of refusals of changing
// calls, which it counts.
func (p staleStates[T]) hidden(id string, caller Caller, now time.Time) bool {
	was := p[id]
	switch {
	case was == nil || was.at != caller || was.before != nil:
		return false
	case now.Before(was.until):
		return true
	case was.changes > 0:
		was.changes--
		return true
	}
	return false
}

// outdated returns the outdated state that changing calls still see of a resource, if it is a
// reason to refuse the call.
func (p staleStates[T]) outdated(id string, caller Caller, reason func(T) bool) (before T, ok bool) {
	was := p.refused(id, caller, func(was *staleState[T]) bool { return was.before != nil && reason(*was.before) })
	if was == nil {
		return before, false
	}
	return *was.before, true
}

// list returns the resources as a describing call of the caller sees them.
func (p staleStates[T]) list(list []T, caller Caller, now time.Time) []T {
	for id, was := range p {
		if was.at != caller {
			continue
		}
		if was.reads <= 0 && !now.Before(was.until) {
			if was.changes <= 0 {
				delete(p, id)
			}
			continue
		}
		was.reads--
		list = slices.DeleteFunc(list, func(r T) bool { return r.key() == id })
		if was.before != nil {
			list = append(list, *was.before)
		}
	}
	slices.SortFunc(list, older)
	return list
}

// older compares resources by age, then by ID.
func older[T resource](a, b T) int {
	if d := a.createdAt().Compare(b.createdAt()); d != 0 {
		return d
	}
	return compareIDs(a.key(), b.key())
}
