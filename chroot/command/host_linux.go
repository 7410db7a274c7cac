package command

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Shell is the shell of the host, and of an image.
const Shell = "/bin/sh"

// HostShell returns a command that runs a line in the host's shell.
func HostShell(line string) *exec.Cmd {
	return &exec.Cmd{Path: Shell, Args: []string{Shell, "-c", line}, Env: os.Environ()}
}

// Host runs the user's commands on the host, in the command_wrapper.
type Host struct {
	// wrapper is nil if it changes nothing.
	wrapper func(string) (string, error)
}

// NewHost returns a Host with a command_wrapper; nil is none. It tries the wrapper, and
// drops one that changes nothing, such as the default.
func NewHost(wrapper func(command string) (string, error)) (Host, error) {
	if wrapper == nil {
		return Host{}, nil
	}
	const probe = "true"
	wrapped, err := wrapper(probe)
	if err != nil {
		return Host{}, fmt.Errorf("command_wrapper: %w", err)
	}
	if wrapped == probe {
		return Host{}, nil
	}
	return Host{wrapper}, nil
}

// HasWrapper reports whether there is a wrapper that changes commands.
func (h Host) HasWrapper() bool { return h.wrapper != nil }

// Wrap returns a command in the wrapper.
func (h Host) Wrap(command string) (string, error) {
	if h.wrapper == nil {
		return command, nil
	}
	wrapped, err := h.wrapper(command)
	if err != nil {
		return "", fmt.Errorf("command_wrapper: %w", err)
	}
	return wrapped, nil
}

// Run runs a command in the host's shell and the wrapper, and calls out with every line of
// its output. A status other than 0 is an error. A cancelled ctx kills the command and
// everything in its process group.
func (h Host) Run(ctx context.Context, command string, out func(line string)) error {
	wrapped, err := h.Wrap(command)
	if err != nil {
		return err
	}
	lines := &lineWriter{out: out}
	p := Process{Cmd: HostShell(wrapped), Streams: Streams{Stdout: lines, Stderr: lines}}
	status, err := p.Run(ctx)
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

// maxLine is the length at which a line without an end is cut.
const maxLine = 64 << 10

// Write implements io.Writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok {
			break
		}
		w.emit(line)
		w.rest = rest
	}
	if len(w.rest) > maxLine {
		w.flush()
	}
	return len(p), nil
}

// flush emits a line that has no end yet.
func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.emit(w.rest)
	}
	w.rest = nil
}

func (w *lineWriter) emit(line []byte) {
	if w.out != nil {
		w.out(strings.TrimRight(string(line), "\r"))
	}
}
