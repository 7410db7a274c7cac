package lazydisk

import (
	"context"
	"net"
	"os"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// Disk is a disk whose source and block server belong to one process.
type Disk struct {
	*Server
	*Client
}

// Open starts a disk. A nil source is an empty disk.
func Open(ctx context.Context, source block.Source, o Options) (*Disk, error) {
	o.Empty = source == nil
	serverEnd, clientEnd, err := SocketPair()
	if err != nil {
		return nil, err
	}
	client, err := Connect(clientEnd, source) //nolint:contextcheck // it outlives the start of the disk
	if err != nil {
		serverEnd.Close()
		return nil, err
	}
	server, err := Start(ctx, o, serverEnd)
	if err != nil {
		client.Close()
		return nil, err
	}
	return &Disk{server, client}, nil
}

// Connect returns the client of an end of SocketPair, which it closes.
func Connect(clientEnd *os.File, source block.Source) (*Client, error) {
	defer clientEnd.Close()
	conn, err := net.FileConn(clientEnd)
	if err != nil {
		return nil, err
	}
	return NewClient(conn, source), nil
}

// Failed returns a channel that is closed when a read or a write has failed for good.
func (d *Disk) Failed() <-chan struct{} { return d.Client.Failed() }

// Close ends the block server and the client.
func (d *Disk) Close() error {
	err := d.Server.Close()
	d.Client.Close()
	return err
}
