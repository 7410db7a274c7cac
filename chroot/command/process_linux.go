package command

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/cgroup"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/namespace"
)

// KillTimeout is how long a killed process may take to end.
const KillTimeout = 10 * time.Second

// Process is a program in a session of its own.
type Process struct {
	Cmd *exec.Cmd
	Streams
	// Kill kills the processes that have left the process group; it may be nil.
	Kill func()
	// Group is the cgroup in which the process is started; it may be nil. If it cannot be
	// started there, KillOutside takes the place of Kill.
	Group       *cgroup.Group
	KillOutside func()
	// Namespaces are those in which the process is started; nil means this process's own.
	Namespaces *namespace.Set
}

// Run runs the process and returns its exit status, which is 128+n after signal n, as in a
// shell. A cancelled ctx kills the process and everything in its process group.
//
// Run does not wait for other processes that have the output open: a command that leaves a
// daemon behind has ended.
func (p *Process) Run(ctx context.Context) (int, error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	pipes, err := p.Connect()
	if err != nil {
		return 0, err
	}
	pipes.attach(p.Cmd)
	err = p.Namespaces.Do(p.start)
	pipes.started()
	if err == nil {
		err = p.wait(ctx)
	}
	pipes.Finish()
	return p.status(err)
}

// start starts the process, in its cgroup if the kernel can do that: not before Linux 5.7,
// nor if the cgroup was removed, or it or clone3(2) is forbidden. Each kernel has an error
// of its own for that. An error of the process itself comes again without the cgroup.
func (p *Process) start() error {
	if p.Cmd.SysProcAttr == nil {
		p.Cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	attr := p.Cmd.SysProcAttr
	attr.Setsid = true
	if p.Group == nil {
		return p.Cmd.Start()
	}
	attr.UseCgroupFD, attr.CgroupFD = true, p.Group.FD()
	if err := p.Cmd.Start(); err == nil {
		return nil
	}
	attr.UseCgroupFD = false
	p.Cmd = &exec.Cmd{
		Path: p.Cmd.Path, Args: p.Cmd.Args, Dir: p.Cmd.Dir, Env: p.Cmd.Env, SysProcAttr: attr,
		Stdin: p.Cmd.Stdin, Stdout: p.Cmd.Stdout, Stderr: p.Cmd.Stderr,
	}
	p.Kill = p.KillOutside
	return p.Cmd.Start()
}

// wait waits until the process ends, by itself or because ctx ends.
func (p *Process) wait(ctx context.Context) error {
	var exit error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		exit = p.Cmd.Wait()
	}()
	select {
	case <-ended:
		return exit
	case <-ctx.Done():
	}
	p.kill()
	select {
	case <-ended:
		return context.Cause(ctx)
	case <-time.After(KillTimeout):
		return fmt.Errorf("%w, and process %d does not end", context.Cause(ctx), p.Cmd.Process.Pid)
	}
}

// kill kills the process group, and the processes that have left it.
func (p *Process) kill() {
	_ = unix.Kill(-p.Cmd.Process.Pid, unix.SIGKILL)
	if p.Kill != nil {
		p.Kill()
	}
}

// status returns the exit status if an error of wait holds nothing else.
func (p *Process) status(err error) (int, error) {
	var exit *exec.ExitError
	if err == nil || !errors.As(err, &exit) {
		return 0, err
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return exit.ExitCode(), nil
	}
	if p.Stderr != nil {
		fmt.Fprintf(p.Stderr, "the command was ended by signal %d (%s)\n", status.Signal(), status.Signal())
	}
	return 128 + int(status.Signal()), nil
}
