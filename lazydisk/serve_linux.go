package lazydisk

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/wire"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cache"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cow"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/fetch"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/fusefile"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/overlay"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/rpc"
)

// The descriptors that a block server is started with.
const (
	controlFD = 3
	sourceFD  = 4
)

// memoryTarget is the heap size above which a block server collects garbage eagerly.
const memoryTarget = 96 << 20

// orphanTimeout is how long a server whose owner has ended waits until the device is unused.
const orphanTimeout = 10 * time.Second

// Main runs a block server if this process was started as one, and then does not return. A program
// that starts disks must call it first in its main function. The second argument, the name of the
// disk, is for users who list processes.
func Main() {
	if len(os.Args) < 2 || os.Args[1] != Arg {
		return
	}
	// a signal of the terminal goes to all processes on it, and the owner decides on the end
	signal.Ignore(unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(memoryTarget)
	_ = os.Chdir("/")
	becomeFlusher()
	if err := serve(); err != nil {
		fmt.Fprintf(os.Stderr, "block server: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// becomeFlusher keeps the kernel from writing data to this process's own disk in order to get memory
// for this process, which would wait for itself. Without the permission, or in a program with cgo, it
// has no effect.
func becomeFlusher() {
	_, _, _ = syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0, 0)
}

// errAttached is the error for a request that needs a detached disk.
var errAttached = errors.New("the device is still attached")

// socket returns the inherited end of a socket pair.
func socket(fd uintptr) (*net.UnixConn, error) {
	unix.CloseOnExec(int(fd))
	file := os.NewFile(fd, "socket")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("only the program itself can start its block server: %w", err)
	}
	if conn, ok := conn.(*net.UnixConn); ok {
		return conn, nil
	}
	conn.Close()
	return nil, errors.New("only the program itself can start its block server: it was started with another socket")
}

// serve serves a disk until its owner ends.
func serve() error {
	controlConn, err := socket(controlFD)
	if err != nil {
		return err
	}
	control := wire.NewConn(controlConn)
	sourceConn, err := socket(sourceFD)
	if err != nil {
		return err
	}
	first, err := control.Receive()
	if err != nil {
		return fmt.Errorf("cannot receive the description of the disk: %w", err)
	}
	var o Options
	if err := json.Unmarshal(first.Body, &o); err != nil {
		return fmt.Errorf("cannot decode the description of the disk: %w", err)
	}
	attached := make(chan error, 1)
	go func() {
		_, err := control.Receive()
		attached <- err
	}()
	d, err := prepare(o, sourceConn, attached)
	if err != nil {
		return err
	}
	return d.run(control, o.Name, attached)
}

// prepare is newServedDisk, unless the owner ends meanwhile: the client may take long to list the blocks.
func prepare(o Options, conn net.Conn, attached <-chan error) (*servedDisk, error) {
	type result struct {
		*servedDisk
		error
	}
	made := make(chan result, 1)
	go func() {
		d, err := newServedDisk(o, conn)
		made <- result{d, err}
	}()
	select {
	case r := <-made:
		return r.servedDisk, r.error
	case err := <-attached:
		return nil, fmt.Errorf("the owner has ended: %w", cmp.Or(err, io.ErrUnexpectedEOF))
	}
}

// servedDisk is a disk in its block server.
type servedDisk struct {
	overlay *overlay.Overlay
	fetcher *fetch.Fetcher
	content *cow.Content
	peer    *rpc.Peer
	// released is closed when the device no longer uses the disk.
	released chan struct{}
	// cache is nil if there is none. cacheErr is the reason if it could not be opened.
	cache    *cache.Cache
	cacheErr error
}

// newServedDisk returns a disk whose source is at the other end of a connection.
func newServedDisk(o Options, conn net.Conn) (*servedDisk, error) {
	d := &servedDisk{released: make(chan struct{})}
	var err error
	if d.overlay, err = overlay.Create(o.scratch(), o.Size/block.Size); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	d.peer = rpc.NewPeer(conn, func(ctx context.Context, op rpc.Op, arg int64, _ []byte) ([][]byte, func(), error) {
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
		return d.handle(op, arg)
	})
	options := fetch.Options{Source: rpc.Remote{Peer: d.peer}, Limits: o.Limits, Cache: d.openCache(o)}
	if !o.NoPrefetch {
		options.Wanted = d.wanted
	}
	d.fetcher = fetch.New(options)
	d.content = cow.New(d.overlay, d.fetcher)
	close(ready)
	if o.Empty {
		return d, nil
	}
	return d, d.fetcher.List(d.overlay.SetPresent)
}

// openCache opens the cache. A disk works without it too, so an error is only recorded.
func (d *servedDisk) openCache(o Options) *cache.Source {
	if o.Key == "" || o.Empty || !o.Cache.Keeps() {
		return nil
	}
	opened, err := cache.Open(o.Cache)
	if err != nil {
		d.cacheErr = err
		return nil
	}
	source, err := opened.Source(o.Key)
	if err != nil {
		opened.Close()
		d.cacheErr = err
		return nil
	}
	d.cache = opened
	return source
}

// wanted reports whether a block may be read from the source.
func (d *servedDisk) wanted(index int64) bool {
	if index >= d.overlay.Blocks() {
		return false
	}
	r, err := d.overlay.Record(index)
	return err == nil && r.Present && r.WrittenPages() < block.Pages
}

// run serves the disk until the owner closes the control connection. The owner's first reply, or the
// end of the connection, comes through the channel.
func (d *servedDisk) run(control *wire.Conn, name string, attached <-chan error) error {
	server, err := fusefile.Serve(name, d.content)
	if err != nil {
		return err
	}
	err = control.Send(wire.Frame{Kind: wire.Reply, Files: []*os.File{server.Mount()}})
	if err != nil {
		return fmt.Errorf("cannot send the mount: %w", err)
	}
	// the owner opens the file before it replies
	if err := <-attached; err != nil {
		return fmt.Errorf("the owner has not attached the disk: %w", err)
	}
	server.CloseMount()
	detaching := make(chan struct{})
	go d.report(control, server, detaching)
	_, err = control.Receive() // the owner detaches, has closed it, or was killed
	if err == nil {
		close(detaching)
		control.Note("%s", noteDetaching)
		_, _ = control.Receive()
	}
	d.orphaned(server)
	return nil
}

// report sends the owner a note when the file is released, and one at the first failure.
func (d *servedDisk) report(control *wire.Conn, server *fusefile.Server, detaching <-chan struct{}) {
	failed, released := d.fetcher.Failed(), server.Done()
	for failed != nil || released != nil {
		select {
		case <-failed:
			failed = nil
			control.Note("%s", noteFailed)
			d.notify()
		case <-released:
			released = nil
			d.checkRelease(detaching)
			close(d.released)
			control.Note("%s", noteReleased)
		}
	}
}

// checkRelease records a failure if the device was still in use when the connection ended: the last
// writes may be missing.
func (d *servedDisk) checkRelease(detaching <-chan struct{}) {
	select {
	case <-detaching:
	default:
		d.fetcher.Fail(&block.DiskError{Index: -1, Reason: "its FUSE connection was aborted"})
	}
}

// The notes to the owner.
const (
	noteDetaching = "detaching"
	noteReleased  = "released"
	noteFailed    = "failed"
)

// orphaned lets the users of the device finish, within a limit.
func (d *servedDisk) orphaned(server *fusefile.Server) {
	select {
	case <-server.Done():
	case <-time.After(orphanTimeout):
	}
}
