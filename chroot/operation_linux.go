package chroot

import (
	"context"
	"fmt"
	"os"
)

// An Operation is an act that a plugin has its keeper do: it takes an A, answers
// an R, and is known to both processes by its name. Both are what encoding/gob
// can write. A package that has acts for the keeper declares them as its
// variables, so that they exist before any process serves.
type Operation[A, R any] struct{ name string }

// served is what an operation of this package works with in the keeper.
type served struct {
	keeper *Keeper
	owner  owner
	// files came with the call; they are closed when it ends.
	files []*os.File
}

// handler does an operation in the keeper.
type handler func(ctx context.Context, s served, body []byte) (result []byte, err error)

// operations are what a keeper can do, by name.
var operations = map[string]handler{}

// NewOperation declares an operation. do runs in the keeper, with root's rights
// and in parallel with other operations; its ctx ends with the caller's. The name
// must be the only one of its kind.
func NewOperation[A, R any](name string, do func(context.Context, A) (R, error)) Operation[A, R] {
	return operation(name, func(ctx context.Context, _ served, args A) (R, error) { return do(ctx, args) })
}

func operation[A, R any](name string, do func(context.Context, served, A) (R, error)) Operation[A, R] {
	if _, twice := operations[name]; twice {
		panic("two operations are called " + name)
	}
	operations[name] = func(ctx context.Context, s served, body []byte) ([]byte, error) {
		var args A
		if err := unpack(body, &args); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		result, err := do(ctx, s, args)
		if err != nil {
			return nil, err
		}
		return pack(result)
	}
	return Operation[A, R]{name}
}

// Call has the keeper do the operation. The error is as the keeper's own, as far
// as errors.Is goes for errors of this package, of the os package and of system
// calls; it wraps ErrKeeperLost when the keeper is gone, and the cause of ctx when
// that ended it.
func (o Operation[A, R]) Call(ctx context.Context, c *Client, args A) (R, error) {
	return o.on(ctx, c.session(), args)
}

// on calls with files that go with it.
func (o Operation[A, R]) on(ctx context.Context, s *session, args A, files ...*os.File) (result R, err error) {
	body, err := pack(args)
	if err != nil {
		return result, err
	}
	raw, err := s.call(ctx, o.name, body, files)
	if err != nil {
		return result, err
	}
	return result, unpack(raw, &result)
}
