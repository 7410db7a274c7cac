package retry

import (
	"context"
	"sync"
	"time"
)

// Table holds the retry rules of each operation of a cloud's API, by its name.
type Table map[string]Operation

// Operation holds the retry rules of an operation.
type Operation struct {
	// Repeat is the reason why a second call has no second effect.
	Repeat Repeat
	// First is the pause after the first attempt; 0 means Policy.First.
	First time.Duration
	// Apart reports whether the operation has an endpoint of its own, of which Policy.Reached
	// says nothing.
	Apart bool
	// Passes, if not nil, reports whether the reason of a refusal passes by itself within minutes,
	// so the whole call is repeated later. The caller of Policy.Do sees to that.
	Passes func(error) bool
}

// Repeat is the reason why an operation can be made a second time.
type Repeat int

// The reasons.
const (
	// Reads is for an operation that changes nothing, or that leaves nothing behind.
	Reads Repeat = iota + 1
	// HasToken is for a call that carries a client token, by which the cloud knows it again.
	HasToken
	// IsUnique is for a resource of which the cloud refuses a second one. After the refusal the
	// caller looks for the first one.
	IsUnique
	// IsSet is for an operation that finds its effect at the second call: the same value, a
	// resource that is gone, or a refusal, after which the caller looks.
	IsSet
	// CreatesAnother is for an operation that creates another resource each time: the caller
	// looks for the first one before it is made again. See CreateOnce.
	CreatesAnother
)

// For returns the policy of an operation. One that is not in the table is made again as an
// operation that reads.
func (t Table) For(action string, p Policy) Policy {
	operation := t[action]
	if operation.First != 0 {
		p.First = operation.First
	}
	if operation.Apart {
		p.Reached = func() bool { return false }
	}
	return p
}

// Passes reports whether an error of an operation is a refusal whose reason passes by itself.
func (t Table) Passes(action string, err error) bool {
	passes := t[action].Passes
	return err != nil && passes != nil && passes(err)
}

// CreateOnce returns a function for Policy.Do that makes a call which creates another resource
// each time. Before a second attempt, and before the first one if the call was begun before,
// find looks for the resource.
func CreateOnce(begun bool, find func(context.Context) (found bool, err error), create func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if begun {
			if found, err := find(ctx); found || err != nil {
				return err
			}
		}
		begun = true
		return create(ctx)
	}
}

// Begun remembers which creating calls were begun. The zero value is ready to use.
type Begun[Key comparable] struct {
	mu    sync.Mutex
	calls map[Key]bool
}

// Again notes that a call is begun, and reports whether it was begun before.
func (b *Begun[Key]) Again(call Key) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	again := b.calls[call]
	if b.calls == nil {
		b.calls = map[Key]bool{}
	}
	b.calls[call] = true
	return again
}
