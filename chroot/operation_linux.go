package chroot

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/transfer"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/wire"
)

// An Operation is a function that a plugin has its keeper run: it takes an A, returns an
// R, and is known to both processes by its name. Both must be types that encoding/gob can
// encode. A package declares its operations as package variables, so that they exist
// before any process serves.
type Operation[A, R any] struct{ name string }

// request is the part of a call that is not its argument.
type request struct {
	keeper *Keeper
	owner  transfer.Owner
	// files came with the call; they are closed when it ends.
	files []*os.File
}

// handler runs an operation in the keeper.
type handler func(ctx context.Context, r request, body []byte) (result []byte, err error)

// operations are the operations of this program, by name.
var operations = map[string]handler{}

// knownErrors are the errors that callers compare with errors.Is. Both processes are one
// program, so that the list is the same in both.
var knownErrors = wire.KnownErrors{
	ErrNoFileSystem, ErrNotRoot, ErrNotWritten, ErrNotClaimed,
	os.ErrNotExist, os.ErrExist, os.ErrPermission,
	context.Canceled, context.DeadlineExceeded,
	unix.EBUSY,
	ErrNoMountPoint, ErrHidden,
}

// NewOperation declares an operation. The keeper runs do with root's rights and in
// parallel with other operations; its ctx ends with the caller's. The name must be unique.
func NewOperation[A, R any](name string, do func(context.Context, A) (R, error)) Operation[A, R] {
	return operation(name, func(ctx context.Context, _ request, args A) (R, error) { return do(ctx, args) })
}

// NewFileOperation declares an operation that also takes open files: see CallWith. They are closed
// when it ends.
func NewFileOperation[A, R any](name string, do func(context.Context, []*os.File, A) (R, error)) Operation[A, R] {
	return operation(name, func(ctx context.Context, r request, args A) (R, error) { return do(ctx, r.files, args) })
}

func operation[A, R any](name string, do func(context.Context, request, A) (R, error)) Operation[A, R] {
	if _, twice := operations[name]; twice {
		panic("two operations are called " + name)
	}
	operations[name] = func(ctx context.Context, r request, body []byte) ([]byte, error) {
		var args A
		if err := wire.Unmarshal(body, &args); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		result, err := do(ctx, r, args)
		if err != nil {
			return nil, err
		}
		return wire.Marshal(result)
	}
	return Operation[A, R]{name}
}

// Call has the keeper run the operation. The error is the keeper's own for errors.Is, with
// errors of this package, of package os and of system calls. It wraps ErrKeeperLost if the
// keeper is gone, and the cause of ctx if that ended the call.
func (o Operation[A, R]) Call(ctx context.Context, c *Client, args A) (R, error) {
	return o.on(ctx, c.session(), args)
}

// CallWith is Call for an operation that also takes open files.
func (o Operation[A, R]) CallWith(ctx context.Context, c *Client, args A, files ...*os.File) (R, error) {
	return o.on(ctx, c.session(), args, files...)
}

// on calls the operation with files that go with it.
func (o Operation[A, R]) on(ctx context.Context, s *session, args A, files ...*os.File) (result R, err error) {
	body, err := wire.Marshal(args)
	if err != nil {
		return result, err
	}
	raw, err := s.Call(ctx, o.name, body, files...)
	if err != nil {
		return result, err
	}
	return result, wire.Unmarshal(raw, &result)
}
