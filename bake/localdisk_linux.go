package bake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/fetch"
)

// servers are the block servers that this process has started as a keeper, by the names of their
// disks.
var servers sync.Map

var checkDirect = chroot.NewOperation("check direct", func(context.Context, none) (none, error) {
	return false, lazydisk.Check()
})

func (l local) CheckDirect(ctx context.Context) error {
	_, err := checkDirect.Call(ctx, l.keeper, false)
	return err
}

var serveDisk = chroot.NewFileOperation("serve disk", func(ctx context.Context, files []*os.File, o lazydisk.Options) (DiskRecord, error) {
	if len(files) != 1 {
		return DiskRecord{}, fmt.Errorf("a disk needs a connection to its source, and came with %d files", len(files))
	}
	server, err := lazydisk.Start(ctx, o, files[0])
	if err != nil {
		return DiskRecord{}, err
	}
	servers.Store(o.Name, server)
	return recordDisk(server)
})

// recordDisk returns the record of a running block server.
func recordDisk(server *lazydisk.Server) (DiskRecord, error) {
	process, err := lazydisk.ProcessOf(server.PID())
	return DiskRecord{Name: server.Name(), Server: process.PID, Since: process.Since, Boot: process.Boot, Device: DevicePath(server.Device())}, err
}

func (l local) OpenDisk(ctx context.Context, spec DirectSpec) (DirectDisk, error) {
	serverEnd, clientEnd, err := lazydisk.SocketPair()
	if err != nil {
		return nil, err
	}
	defer serverEnd.Close()
	client, err := lazydisk.Connect(clientEnd, spec.Blocks) //nolint:contextcheck // it outlives the call
	if err != nil {
		return nil, err
	}
	limit := cmp.Or(spec.Server, DefaultWaits().Server)
	d := &localDisk{Client: client, keeper: l.keeper, failed: make(chan struct{}), silent: make(chan struct{})}
	go d.listen(limit) //nolint:contextcheck // it lasts as long as the disk
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-d.silent:
			stop(unresponsive("the block server of the root's disk", limit))
		case <-ctx.Done():
		}
	}()
	d.served, err = serveDisk.CallWith(ctx, l.keeper, lazydisk.Options{
		Name: spec.Name, Size: spec.Bytes, Empty: spec.Blocks == nil, Key: spec.Key, Cache: spec.Cache, Limits: fetch.LimitedTo(spec.Read),
	}, serverEnd)
	if err != nil {
		client.Close()
		return nil, err
	}
	clients.Store(spec.Name, d)
	go d.watch(limit) //nolint:contextcheck // it lasts as long as the disk
	return d, nil
}

// clients are the disks whose sources this process serves, by their names.
var clients sync.Map

// localDisk is a direct disk of this process's build.
type localDisk struct {
	*lazydisk.Client
	keeper *chroot.Client
	served DiskRecord

	// failed is closed when the disk has failed, with the reason in failure.
	failed  chan struct{}
	failure error
	// silent is closed when the block server has not responded for too long.
	silent chan struct{}
}

// listen waits until the block server has not responded for a time.
func (d *localDisk) listen(limit time.Duration) {
	if d.Silence(context.Background(), limit) == nil {
		close(d.silent)
	}
}

// unresponsive returns the error for a block server that is stopped.
func unresponsive(what string, limit time.Duration) error {
	return fmt.Errorf("%s has not responded for %s", what, limit)
}

// aborted ends a block server that does not respond, so that nothing waits for it, and returns the
// failure of its disk.
func (d *localDisk) aborted(limit time.Duration) error {
	failure := unresponsive(fmt.Sprintf("the root's disk has failed: its block server, process %d, which serves all reads and writes of %s,",
		d.served.Server, d.served.Device), limit)
	if _, err := abortDisk.Call(context.Background(), d.keeper, d.served); err != nil {
		return errors.Join(failure, err)
	}
	return failure
}

// watch waits until the disk fails.
func (d *localDisk) watch(limit time.Duration) {
	defer close(d.failed)
	select {
	case <-d.silent:
		d.failure = d.aborted(limit)
	case <-d.Client.Failed():
		failure, err := d.Client.Failure(context.Background()) // it is known by now
		if failure != nil {
			err = failure
		}
		d.failure = fmt.Errorf("the root's disk has failed: %w", err)
	case <-d.Lost():
		d.failure = fmt.Errorf("the root's disk is lost: %w", lazydisk.ErrServerLost)
		if d.served.process().Runs() { // it has read nothing for too long
			d.failure = d.aborted(limit)
		}
	}
}

func (d *localDisk) Record() DiskRecord { return d.served }

func (d *localDisk) Device() DevicePath { return d.served.Device }

func (d *localDisk) Failed() <-chan struct{} { return d.failed }

// Failure implements DirectDisk. A program can report an I/O error before the block server's message
// about its reason has arrived, so the server is asked.
func (d *localDisk) Failure(ctx context.Context) error {
	select {
	case <-d.failed:
		return d.failure
	default:
	}
	if failure, err := d.Client.Failure(ctx); failure == nil && err == nil {
		return nil
	}
	select {
	case <-d.failed:
		return d.failure
	case <-ctx.Done():
		return nil // it is not known to have failed
	}
}

var detachDisk = chroot.NewOperation("detach disk", func(ctx context.Context, name string) (none, error) {
	server, ok := servers.Load(name)
	if !ok {
		return false, fmt.Errorf("cannot detach %s: %w", name, lazydisk.ErrServerLost)
	}
	return false, server.(*lazydisk.Server).Detach(ctx)
})

func (d *localDisk) Detach(ctx context.Context) error {
	_, err := detachDisk.Call(ctx, d.keeper, d.served.Name)
	return err
}

var findDisk = chroot.NewOperation("find disk", func(_ context.Context, name string) (string, error) {
	return lazydisk.Device(name)
})

func (l local) FindDisk(ctx context.Context, name string) (DevicePath, error) {
	if err := l.keeper.Revive(ctx); err != nil {
		return "", err
	}
	device, err := findDisk.Call(ctx, l.keeper, name)
	return DevicePath(device), err
}

// process returns the block server's process.
func (r DiskRecord) process() lazydisk.Process {
	return lazydisk.Process{PID: r.Server, Since: r.Since, Boot: r.Boot}
}

var abortDisk = chroot.NewOperation("abort disk", func(_ context.Context, r DiskRecord) (none, error) {
	if server, ok := servers.Load(r.Name); ok {
		return false, server.(*lazydisk.Server).Abort()
	}
	return false, r.process().Kill()
})

func (l local) AbortDisk(ctx context.Context, r DiskRecord) error {
	if err := l.keeper.Revive(ctx); err != nil {
		return err
	}
	_, err := abortDisk.Call(ctx, l.keeper, r)
	return err
}

var closeDisk = chroot.NewOperation("close disk", func(ctx context.Context, r DiskRecord) (none, error) {
	if server, ok := servers.LoadAndDelete(r.Name); ok {
		_ = server.(*lazydisk.Server).Abort() // the content is not needed any more
		if err := server.(*lazydisk.Server).Close(); err != nil {
			return false, err
		}
	}
	ctx, stop := context.WithTimeout(ctx, longestRelease)
	defer stop()
	return false, errors.Join(r.process().Kill(), lazydisk.Release(ctx, r.Name, string(r.Device)))
})

// longestRelease is how long a device may be in use after nothing on it is mounted: a program of the
// host can have opened it.
const longestRelease = 20 * time.Second

func (l local) CloseDisk(ctx context.Context, r DiskRecord) error {
	if d, ok := clients.LoadAndDelete(r.Name); ok {
		defer d.(*localDisk).Close()
	}
	if err := l.keeper.Revive(ctx); err != nil {
		return err
	}
	_, err := closeDisk.Call(ctx, l.keeper, r)
	return err
}
