//go:build !linux

package lazydisk

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// Server is a block server. Lazy disks need Linux; on other systems none can be started.
type Server struct{}

// Disk is a disk whose source and block server belong to one process.
type Disk struct {
	*Server
	*Client
}

// ErrServerLost is wrapped by errors about a block server that has ended.
var ErrServerLost = errors.New("the block server of the disk has ended")

// Main does nothing: this system is not supported.
func Main() {}

// SocketPair fails: this system is not supported.
func SocketPair() (server, client *os.File, err error) { return nil, nil, errors.ErrUnsupported }

// Start fails: this system is not supported.
func Start(context.Context, Options, *os.File) (*Server, error) { return nil, errors.ErrUnsupported }

// Open fails: this system is not supported.
func Open(context.Context, block.Source, Options) (*Disk, error) { return nil, errors.ErrUnsupported }

// Connect returns the client of an end of SocketPair, which it closes.
func Connect(clientEnd *os.File, source block.Source) (*Client, error) {
	defer clientEnd.Close()
	conn, err := net.FileConn(clientEnd)
	if err != nil {
		return nil, err
	}
	return NewClient(conn, source), nil
}

// Release fails: this system is not supported.
func Release(context.Context, string, string) error { return errors.ErrUnsupported }

// Device fails: this system is not supported.
func Device(string) (string, error) { return "", errors.ErrUnsupported }

// Process is the process of a block server. It can be stored.
type Process struct {
	PID   int
	Since uint64
	Boot  string
}

// ProcessOf fails: this system is not supported.
func ProcessOf(int) (Process, error) { return Process{}, errors.ErrUnsupported }

// Kill does nothing: there are no block servers.
func (Process) Kill() error { return nil }

// Check fails: this system is not supported.
func Check() error { return errors.ErrUnsupported }

// Name returns "".
func (*Server) Name() string { return "" }

// Device returns "".
func (*Server) Device() string { return "" }

// PID returns 0.
func (*Server) PID() int { return 0 }

// Done returns nil.
func (*Server) Done() <-chan struct{} { return nil }

// Failed returns nil.
func (*Server) Failed() <-chan struct{} { return nil }

// Detach fails: this system is not supported.
func (*Server) Detach(context.Context) error { return errors.ErrUnsupported }

// Abort fails: this system is not supported.
func (*Server) Abort() error { return errors.ErrUnsupported }

// Close fails: this system is not supported.
func (*Server) Close() error { return errors.ErrUnsupported }

// Failed returns a channel that is closed when a read or a write has failed for good.
func (d *Disk) Failed() <-chan struct{} { return d.Client.Failed() }

// Close closes the client.
func (d *Disk) Close() error {
	d.Client.Close()
	return nil
}
