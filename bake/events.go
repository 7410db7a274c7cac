package bake

import (
	"context"
	"path/filepath"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// emitRequests emits the numbers of requests for blocks, at the end of a direct build.
func (b *build) emitRequests(ctx context.Context) {
	if b.store == nil {
		return
	}
	for _, r := range b.store.Requests() {
		event.Emit(ctx, r)
	}
}

// eventfulSource is a Source whose failed requests are events of a build: the block server makes them
// in contexts of their own.
type eventfulSource struct {
	block.Source
	listener event.Listener
}

// List implements block.Source.
func (s eventfulSource) List(ctx context.Context, from int64) ([]block.Range, int64, error) {
	return s.Source.List(event.Listen(ctx, s.listener), from)
}

// Fetch implements block.Source.
func (s eventfulSource) Fetch(ctx context.Context, index int64, p []byte) (block.Sum, error) {
	return s.Source.Fetch(event.Listen(ctx, s.listener), index, p)
}

// eventful is a Machine whose mounts and commands are events. They are emitted by this
// process, also if a keeper performs them.
type eventful struct{ Machine }

// withEvents returns a machine whose mounts and commands are events.
func withEvents(m Machine) Machine {
	if o, ok := m.(eventful); ok {
		return o
	}
	return eventful{m}
}

// Mount implements Machine.
func (o eventful) Mount(ctx context.Context, spec chroot.MountSpec) (Mounted, error) {
	begun := time.Now()
	root, err := o.Machine.Mount(ctx, spec)
	event.Emit(ctx, event.Mount{
		Source: spec.Device, Target: spec.Path, Type: spec.Type, Options: spec.Options, Took: time.Since(begun), Err: err,
	})
	if err != nil {
		return root, err
	}
	return eventfulRoot{root, event.Of(ctx)}, nil
}

// Leave implements Machine.
func (o eventful) Leave(ctx context.Context, path string) error {
	begun := time.Now()
	err := o.Machine.Leave(ctx, path)
	event.Emit(ctx, event.Mount{Target: path, Took: time.Since(begun), Err: err})
	return err
}

// Shell implements Machine.
func (o eventful) Shell(ctx context.Context, command string, out func(string)) error {
	begun := time.Now()
	err := o.Machine.Shell(ctx, command, out)
	event.Emit(ctx, event.Command{Place: "host", Line: command, Took: time.Since(begun), Err: err})
	return err
}

// eventfulRoot is a Mounted whose mounts and commands are events. Its listener is that of
// the build, because provisioners have contexts of their own.
type eventfulRoot struct {
	Mounted
	listener event.Listener
}

// MountBelow implements Mounted.
func (o eventfulRoot) MountBelow(ctx context.Context, mount chroot.Submount) error {
	begun := time.Now()
	err := o.Mounted.MountBelow(ctx, mount)
	o.listener.Hear(event.Mount{
		Source: mount.Source, Target: filepath.Join(o.Path(), mount.Target), Type: mount.Type, Options: mount.Options, Took: time.Since(begun), Err: err,
	})
	return err
}

// Run implements chroot.Root.
func (o eventfulRoot) Run(ctx context.Context, c chroot.Command) (int, error) {
	begun := time.Now()
	status, err := o.Mounted.Run(ctx, c)
	o.listener.Hear(event.Command{Place: "chroot", Line: c.Line, Status: status, Took: time.Since(begun), Err: err})
	return status, err
}
