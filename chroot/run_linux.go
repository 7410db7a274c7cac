package chroot

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// shell is the shell of the host for the user's commands, and that of an image for
// its provisioners'.
const shell = "/bin/sh"

// Run implements Root. The command gets the part of the keeper's environment that
// environment selects, and runs in the root's namespaces. A signal that ended it is
// reported on Stderr. Streams that are files are the command's own; others are pumped
// through pipes.
func (m *Mounted) Run(ctx context.Context, c Command) (int, error) {
	if err := m.visible(); err != nil {
		return 0, fmt.Errorf("cannot run %s in %s: %w", shell, m.path, err)
	}
	if err := m.mountPostponed(); err != nil {
		return 0, err
	}
	if err := m.supplyNames(ctx); err != nil {
		return 0, err
	}
	p := process{cmd: m.command(c.Line), stdin: c.Stdin, stdout: c.Stdout, stderr: c.Stderr, within: m.namespaces}
	p.otherwise = func() { killInside(m.real) }
	p.kill = p.otherwise
	if group, err := m.keeper.newGroup(); err == nil {
		p.group, p.kill = group, func() { group.kill(lastBreath) }
		defer m.keeper.done(m, group)
	}
	status, err := p.run(ctx)
	if err != nil {
		return 0, fmt.Errorf("cannot run %s in %s: %w", shell, m.path, err)
	}
	return status, nil
}

// command is a shell of the image.
func (m *Mounted) command(line string) *exec.Cmd {
	return &exec.Cmd{
		Path: shell, Args: []string{shell, "-c", line}, Dir: "/", Env: append(environment(m.keeper.environ(), m.pass), m.env...),
		SysProcAttr: &syscall.SysProcAttr{Chroot: m.real},
	}
}

// hostShell runs a line in the host's shell.
func hostShell(line string) *exec.Cmd {
	return &exec.Cmd{Path: shell, Args: []string{shell, "-c", line}, Env: os.Environ()}
}

// hostCommands runs commands of the user on the host.
type hostCommands struct {
	// wrapper is nil where commands are run as they are.
	wrapper func(string) (string, error)
}

// wrap puts a command into the wrapper.
func (h hostCommands) wrap(command string) (string, error) {
	if h.wrapper == nil {
		return command, nil
	}
	wrapped, err := h.wrapper(command)
	if err != nil {
		return "", fmt.Errorf("command_wrapper: %w", err)
	}
	return wrapped, nil
}

// Shell has the host's shell run a command in the user's wrapper, and calls out
// with every line of its output. A status other than 0 is an error. A cancelled
// ctx kills the command and everything in its process group.
func (h hostCommands) Shell(ctx context.Context, command string, out func(line string)) error {
	wrapped, err := h.wrap(command)
	if err != nil {
		return err
	}
	lines := &lineWriter{out: out}
	p := process{cmd: hostShell(wrapped), stdout: lines, stderr: lines}
	status, err := p.run(ctx)
	lines.flush()
	if err != nil {
		return fmt.Errorf("cannot run %q: %w", command, err)
	}
	if status != 0 {
		return fmt.Errorf("%q failed with status %d", command, status)
	}
	return nil
}

// lineWriter cuts output into lines.
type lineWriter struct {
	out  func(string)
	rest []byte
}

// longest is what a line without an end is cut at.
const longest = 64 << 10

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok {
			break
		}
		w.tell(line)
		w.rest = rest
	}
	if len(w.rest) > longest {
		w.flush()
	}
	return len(p), nil
}

// flush tells what has no end of line yet.
func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.tell(w.rest)
	}
	w.rest = nil
}

func (w *lineWriter) tell(line []byte) {
	if w.out != nil {
		w.out(strings.TrimRight(string(line), "\r"))
	}
}
