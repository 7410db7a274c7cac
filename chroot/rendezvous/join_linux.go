package rendezvous

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/wire"
	"github.com/packer-chroot/packer-plugin-chroot/safedir"
)

// Join connects a keeper to the plugin that started it, with its second argument. It
// returns the connection and the plugin's greeting.
func Join(arg string) (conn *wire.Conn, greeting []byte, err error) {
	inv, err := readInvitation(arg)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", Arg, err)
	}
	conn, err = inv.dial()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot connect to the plugin: %w", err)
	}
	if err := conn.Send(wire.Frame{Kind: wire.Call, Body: []byte(inv.secret)}); err != nil {
		return nil, nil, err
	}
	f, err := conn.Receive()
	if errors.Is(err, io.EOF) {
		return nil, nil, errors.New("the plugin does not want this keeper")
	}
	return conn, f.Body, err
}

// dial connects to the plugin that wrote the invitation.
func (i invitation) dial() (*wire.Conn, error) {
	if err := i.genuine(); err != nil {
		return nil, err
	}
	safedir.Trust(i.uid)
	dir, err := safedir.Open(i.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	socket, err := net.DialUnix("unix", nil, socketIn(dir.Fd()))
	if err != nil {
		return nil, err
	}
	conn := wire.NewConn(socket)
	peer, err := conn.Peer()
	if err == nil && peer.Uid != i.uid {
		err = fmt.Errorf("a process of user %d is at the socket, and user %d started this keeper", peer.Uid, i.uid)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
