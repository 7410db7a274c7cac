//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/signal"
	"syscall"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// defaultListen is where a cloud is that was not told otherwise.
const defaultListen = "127.0.0.1:4600"

// serve runs a cloud until it is told to stop.
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
	fmt.Fprintf(p.stderr, "loopcloud: listening on http://%s\n", l.Addr())
	return errors.Join(s.Serve(ctx, l), s.Close())
}
