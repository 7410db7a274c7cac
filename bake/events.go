package bake

import (
	"context"
	"io"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
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
	return eventfulRoot{root, event.Of(ctx), false}, nil
}

// Find implements Machine.
func (o eventful) Find(ctx context.Context, q disk.Query) (DevicePath, error) {
	wait := event.Wait{What: "the device of " + q.Volume, State: "not present"}
	long, begun := reportWait(ctx, wait.What), time.Now()
	defer long.end()
	path, err := o.Machine.Find(ctx, q)
	if err == nil {
		wait.State, wait.Done = "present as "+string(path), true
	}
	wait.Took, wait.Err = time.Since(begun), err
	event.Emit(ctx, wait)
	return path, err
}

// Leave implements Machine.
func (o eventful) Leave(ctx context.Context, path string) error {
	long, begun := reportWait(ctx, path+" to be unmounted"), time.Now()
	defer long.end()
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
	// provisioning means that it is used by provisioners, whose transfers are events.
	provisioning bool
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

// Upload implements chroot.Root.
func (o eventfulRoot) Upload(ctx context.Context, dst string, src io.Reader, file chroot.NewFile) error {
	if !o.provisioning {
		return o.Mounted.Upload(ctx, dst, src, file)
	}
	begun, counted := time.Now(), &countedReader{Reader: src}
	err := o.Mounted.Upload(ctx, dst, counted, file)
	o.listener.Hear(event.Transfer{Direction: event.ToImage, What: dst, Bytes: counted.bytes.Load(), Took: time.Since(begun), Err: err})
	return err
}

// Download implements chroot.Root.
func (o eventfulRoot) Download(ctx context.Context, src string, dst io.Writer) error {
	if !o.provisioning {
		return o.Mounted.Download(ctx, src, dst)
	}
	begun, counted := time.Now(), &countedWriter{Writer: dst}
	err := o.Mounted.Download(ctx, src, counted)
	o.listener.Hear(event.Transfer{Direction: event.FromImage, What: src, Bytes: counted.bytes.Load(), Took: time.Since(begun), Err: err})
	return err
}

// countedReader is a reader that counts its bytes. It may be read by another goroutine than the one that
// reads the count.
type countedReader struct {
	io.Reader
	bytes atomic.Int64
}

// Read implements io.Reader.
func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// countedWriter is countedReader for a writer.
type countedWriter struct {
	io.Writer
	bytes atomic.Int64
}

// Write implements io.Writer.
func (c *countedWriter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}

// forProvisioners returns a root whose events go to the listener of the step of provisioning.
func forProvisioners(ctx context.Context, root Mounted) Mounted {
	if o, ok := root.(eventfulRoot); ok {
		return eventfulRoot{o.Mounted, event.Of(ctx), true}
	}
	return root
}
