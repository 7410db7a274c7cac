//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// defaultListen is the default address of a cloud.
const defaultListen = "127.0.0.1:4600"

// serve serves a cloud until it is stopped.
func (p *program) serve(ctx context.Context, args []string) error {
	var cloud cloudFlags
	fs := newFlags("serve")
	cloud.register(fs)
	listen := fs.String("listen", defaultListen, "")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return misused("serve: %q is no option", rest[0])
	}
	if cloud.dir == "" {
		return misused("serve: --dir is needed: where everything is kept")
	}
	if err := cloud.addKeysOf(p.env); err != nil {
		return err
	}
	if len(cloud.keys) == 0 {
		cloud.keys = []state.Key{ownKey, printedKey}
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *listen)
	if err != nil {
		return fmt.Errorf("cannot listen for --listen %s: %w", *listen, err)
	}
	s, err := loopcloud.New(cloud.options())
	if err != nil {
		return errors.Join(err, l.Close())
	}
	closeHosts, err := p.serveHosts(ctx, s, cloud.hosts)
	if err != nil {
		return errors.Join(err, l.Close(), s.Close())
	}
	p.sayToken(s)
	fmt.Fprintf(p.stderr, "loopcloud: listening on http://%s\n", l.Addr())
	err = s.Serve(ctx, l)
	closeHosts()
	return errors.Join(err, s.Close())
}

// sayToken prints the file of the control token. It prints the token itself on a terminal only: a
// log may be readable for others.
func (p *program) sayToken(s *loopcloud.Server) {
	token, file := s.Token()
	fmt.Fprintf(p.stderr, "loopcloud: the control token is in %s\n", file)
	if _, err := unix.IoctlGetTermios(int(p.stderr.Fd()), unix.TCGETS); err == nil {
		fmt.Fprintf(p.stderr, "loopcloud: %s=%s\n", tokenVariable, token)
	}
}

// serveHosts serves the metadata of the second host and the following ones, each on its own port.
func (p *program) serveHosts(ctx context.Context, s *loopcloud.Server, hosts int) (closeAll func(), err error) {
	var servers []*http.Server
	closeAll = func() {
		for _, server := range servers {
			server.Close()
		}
	}
	for host := 1; host < hosts; host++ {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			closeAll()
			return nil, fmt.Errorf("cannot listen for the metadata of host %d: %w", host+1, err)
		}
		server := &http.Server{Handler: s.Metadata(host), ReadHeaderTimeout: time.Minute}
		servers = append(servers, server)
		go func() { _ = server.Serve(l) }() // it ends when it is closed
		fmt.Fprintf(p.stderr, "loopcloud: metadata of host %d on http://%s\n", host+1, l.Addr())
	}
	return closeAll, nil
}
