package chroot

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/command"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/holders"
)

// Run implements Root. The command gets the part of the keeper's environment that
// environment selects, and runs in the root's namespaces. A signal that ended it is
// reported on Stderr. Streams that are files are the command's own; others are pumped
// through pipes.
func (m *MountedRoot) Run(ctx context.Context, c Command) (int, error) {
	if err := m.visible(); err != nil {
		return 0, fmt.Errorf("cannot run %s in %s: %w", command.Shell, m.path, err)
	}
	if err := m.mountPostponed(); err != nil {
		return 0, err
	}
	if err := m.supplyNames(ctx); err != nil {
		return 0, err
	}
	p := command.Process{
		Cmd: m.command(c.Line), Namespaces: m.namespaces, KillOutside: func() { holders.KillInside(m.real) },
		Streams: command.Streams{Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr},
	}
	p.Kill = p.KillOutside
	if group, err := m.keeper.newGroup(); err == nil {
		p.Group, p.Kill = group, func() { group.Kill(command.KillTimeout) }
		defer m.keeper.release(m, group)
	}
	status, err := p.Run(ctx)
	if err != nil {
		return 0, fmt.Errorf("cannot run %s in %s: %w", command.Shell, m.path, err)
	}
	return status, nil
}

// command returns a shell of the image that runs a line.
func (m *MountedRoot) command(line string) *exec.Cmd {
	return &exec.Cmd{
		Path: command.Shell, Args: []string{command.Shell, "-c", line}, Dir: "/", Env: append(environment(m.keeper.environ(), m.pass), m.env...),
		SysProcAttr: &syscall.SysProcAttr{Chroot: m.real},
	}
}

// Shell has the host's shell run a command in the user's wrapper, and calls out with every
// line of its output. A status other than 0 is an error. A cancelled ctx kills the command
// and everything in its process group.
func (k *Keeper) Shell(ctx context.Context, command string, out func(line string)) error {
	return k.host.Run(ctx, command, out)
}
