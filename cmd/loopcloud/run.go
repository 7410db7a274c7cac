//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// The exit statuses of a command that could not be run, as in shells.
const (
	statusNotRunnable = 126
	statusNotFound    = 127
)

// run runs a command with a cloud of its own.
func (p *program) run(ctx context.Context, args []string) (err error) {
	var cloud cloudFlags
	flags := newFlags("run")
	cloud.register(flags)
	command, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(command) == 0 {
		return misused("run: no COMMAND to run: loopcloud run [options] -- COMMAND…")
	}
	if err := cloud.addKeysOf(p.env); err != nil {
		return err
	}
	if len(cloud.keys) == 0 {
		cloud.keys = []state.Key{ownKey}
	}
	key := cloud.keys[0]
	cloud.keys = append(cloud.keys, printedKey)
	if cloud.dir == "" {
		dir, err := os.MkdirTemp("", "loopcloud-*")
		if err != nil {
			return fmt.Errorf("cannot make a directory for the cloud: %w", err)
		}
		cloud.dir = dir
		defer func() { err = errors.Join(err, remove.All(dir)) }()
	}
	return p.runBeside(ctx, cloud.options(), key, command)
}

// runBeside serves a cloud while the command runs. It returns the command's exit status or the
// error of the cloud.
func (p *program) runBeside(ctx context.Context, o loopcloud.Options, key state.Key, command []string) error {
	// From here on signals are passed to the command: this process stays to clean up.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)

	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("cannot listen on a free port: %w", err)
	}
	s, err := loopcloud.New(o)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- s.Serve(serving, l) }()
	token, _ := s.Token()
	env := environment(p.env, "http://"+l.Addr().String(), s.Cloud().DefaultRegion(), token, key)
	commandErr := p.command(ctx, command, env, signals)
	stop()
	if err := errors.Join(<-served, s.Close()); err != nil {
		fmt.Fprintf(p.stderr, "loopcloud: %v\n", err)
		if commandErr == nil {
			return statusError(statusFailed)
		}
	}
	return commandErr
}

// command runs the command to its end. The error is its exit status, if that is not 0.
func (p *program) command(ctx context.Context, command, env []string, signals <-chan os.Signal) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, p.stdout, p.stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(p.stderr, "loopcloud: cannot run the command: %v\n", err)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return statusError(statusNotFound)
		}
		return statusError(statusNotRunnable)
	}
	ended := make(chan struct{})
	go forward(signals, cmd.Process, ended)
	err := cmd.Wait()
	close(ended)
	return statusOf(cmd.ProcessState, err)
}

// statusOf returns the exit status as a shell does: for a process that a signal ended, 128 and
// the signal's number.
func statusOf(ps *os.ProcessState, err error) error {
	ws, ok := ps.Sys().(syscall.WaitStatus)
	switch {
	case err == nil:
		return nil
	case ok && ws.Signaled():
		return statusError(128 + int(ws.Signal()))
	case ok && ws.ExitStatus() != 0:
		return statusError(ws.ExitStatus())
	}
	return fmt.Errorf("cannot wait for the command: %w", err)
}

// forward passes signals on, except those typed at a terminal: the terminal sends these to the
// command too, and many programs treat a second interrupt differently.
func forward(signals <-chan os.Signal, to *os.Process, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case s := <-signals:
			if typed := s == syscall.SIGINT || s == syscall.SIGQUIT; typed && inForeground() {
				continue
			}
			_ = to.Signal(s) // an error means that it has ended, which Wait reports
		}
	}
}

// inForeground reports whether this process group has the terminal.
func inForeground() bool {
	group, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// pointers returns the environment variables that direct the clients of both clouds to an
// endpoint.
func pointers(endpoint, region, token string, key state.Key) map[string]string {
	return map[string]string{
		"LOOPCLOUD_ENDPOINT": endpoint,
		tokenVariable:        token,

		"AWS_ENDPOINT_URL":                  endpoint,
		"AWS_ENDPOINT_URL_EC2":              endpoint,
		"AWS_ENDPOINT_URL_EBS":              endpoint,
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint,
		"AWS_REGION":                        region,
		"AWS_DEFAULT_REGION":                region,
		"AWS_ACCESS_KEY_ID":                 key.ID,
		"AWS_SECRET_ACCESS_KEY":             key.Secret,

		"OSC_ENDPOINT_API":      endpoint + "/api/v1",
		"OSC_METADATA_ENDPOINT": endpoint,
		"OSC_REGION":            region,
		"OSC_ACCESS_KEY":        key.ID,
		"OSC_SECRET_KEY":        key.Secret,
	}
}

// elsewhere are variables that would direct clients to another endpoint, or that hold other keys.
var elsewhere = []string{
	keyVariable,
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_EC2_METADATA_DISABLED",
	"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT",
	"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "OSC_PROFILE",
	"OSC_CONFIG_FILE", "OSC_X509_CLIENT_CERT", "OSC_X509_CLIENT_KEY",
}

// environment returns an environment that directs the clients of both clouds to the endpoint,
// without proxies.
func environment(env []string, endpoint, region, token string, key state.Key) []string {
	set := pointers(endpoint, region, token, key)
	var out []string
	proxies := map[string]string{"NO_PROXY": "", "no_proxy": ""}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if _, ours := proxies[name]; ours {
			proxies[name] = value
			continue
		}
		if _, ours := set[name]; !ours && !slices.Contains(elsewhere, name) {
			out = append(out, entry)
		}
	}
	for name, value := range proxies {
		set[name] = strings.TrimPrefix(value+",127.0.0.1", ",")
	}
	for name, value := range set {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}
