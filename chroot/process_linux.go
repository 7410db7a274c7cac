package chroot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// quiet is how long output is still read when a command has ended and others,
	// such as a daemon that it started, hold on to its output.
	quiet = time.Second
	// lastBreath is how long a killed process may take to end.
	lastBreath = 10 * time.Second
)

// process is a command in a session of its own.
type process struct {
	cmd            *exec.Cmd
	stdin          io.Reader
	stdout, stderr io.Writer
	// kill ends what has left the process group; it may be nil.
	kill func()
	// group is the cgroup to start it in; it may be nil. Where it cannot be started
	// in one, otherwise is what kills.
	group     *group
	otherwise func()
	// within are the namespaces to start it in; nil means this process's own.
	within *namespaces
}

// run runs the process and answers its exit status, which is 128+n after signal n,
// as shells have it. A cancelled ctx kills the process and everything in its group.
//
// run does not wait for others that have the output open: a command that leaves a
// daemon behind has ended all the same.
func (p *process) run(ctx context.Context) (int, error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	pipes, err := p.connect()
	if err != nil {
		return 0, err
	}
	err = p.within.do(p.start)
	pipes.started()
	if err == nil {
		err = p.wait(ctx)
	}
	pipes.finish()
	return p.status(err)
}

// start starts the process, in its group where the kernel can do that: not before
// Linux 5.7, nor where something forbids clone3(2) or the group, or has removed it.
// Each kernel has an error of its own for that. An error of the process itself comes
// again without the group.
func (p *process) start() error {
	if p.cmd.SysProcAttr == nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	attr := p.cmd.SysProcAttr
	attr.Setsid = true
	if p.group == nil {
		return p.cmd.Start()
	}
	attr.UseCgroupFD, attr.CgroupFD = true, int(p.group.dir.Fd())
	if err := p.cmd.Start(); err == nil {
		return nil
	}
	attr.UseCgroupFD = false
	p.cmd = &exec.Cmd{
		Path: p.cmd.Path, Args: p.cmd.Args, Dir: p.cmd.Dir, Env: p.cmd.Env, SysProcAttr: attr,
		Stdin: p.cmd.Stdin, Stdout: p.cmd.Stdout, Stderr: p.cmd.Stderr,
	}
	p.kill = p.otherwise
	return p.cmd.Start()
}

// wait waits for the end, of its own accord or of ctx's.
func (p *process) wait(ctx context.Context) error {
	var exit error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		exit = p.cmd.Wait()
	}()
	select {
	case <-ended:
		return exit
	case <-ctx.Done():
	}
	p.end()
	select {
	case <-ended:
		return context.Cause(ctx)
	case <-time.After(lastBreath):
		return fmt.Errorf("%w, and process %d does not end", context.Cause(ctx), p.cmd.Process.Pid)
	}
}

// end kills the whole group at once, and what has left it.
func (p *process) end() {
	_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
	if p.kill != nil {
		p.kill()
	}
}

// status is the exit status, if that is all that an error of wait tells.
func (p *process) status(err error) (int, error) {
	var exit *exec.ExitError
	if err == nil || !errors.As(err, &exit) {
		return 0, err
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return exit.ExitCode(), nil
	}
	if p.stderr != nil {
		fmt.Fprintf(p.stderr, "the command was ended by signal %d (%s)\n", status.Signal(), status.Signal())
	}
	return 128 + int(status.Signal()), nil
}

// pipes are what connects a process to its readers and writers.
type pipes struct {
	// childs are the process's own ends.
	childs []*os.File
	pumps  []*pump
	stdin  *os.File
}

// connect gives the process its standard streams. They are files, so that Wait
// waits for the process alone.
func (p *process) connect() (*pipes, error) {
	c := &pipes{}
	if err := c.input(p); err != nil {
		return nil, err
	}
	out, err := c.output(p.stdout)
	if err != nil {
		c.finish()
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if same(p.stdout, p.stderr) {
		return c, nil
	}
	if p.cmd.Stderr, err = c.output(p.stderr); err != nil {
		c.finish()
		return nil, err
	}
	return c, nil
}

// streams are the connected process's own ends, each once.
func (p *process) streams() []*os.File {
	var files []*os.File
	for _, end := range []any{p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr} {
		if file, ok := end.(*os.File); ok && !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	return files
}

// same says whether two writers are one, which then gets everything in order and
// never from two goroutines.
func same(a, b io.Writer) (equal bool) {
	defer func() { _ = recover() }() // what cannot be compared is not the same
	return a == b
}

// input feeds stdin. The feeding is not waited for: nobody can interrupt a reader.
func (c *pipes) input(p *process) error {
	if p.stdin == nil {
		return nil
	}
	if file, ok := p.stdin.(*os.File); ok {
		p.cmd.Stdin = file
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	p.cmd.Stdin = r
	c.childs, c.stdin = append(c.childs, r), w
	go func() {
		_, _ = io.Copy(w, p.stdin)
		w.Close()
	}()
	return nil
}

// output is where a process writes for dst: a file itself, or a pipe to it.
func (c *pipes) output(dst io.Writer) (*os.File, error) {
	if file, ok := dst.(*os.File); ok {
		return file, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if dst == nil {
		dst = io.Discard
	}
	pump := &pump{src: r, done: make(chan struct{})}
	c.childs, c.pumps = append(c.childs, w), append(c.pumps, pump)
	go pump.run(dst)
	return w, nil
}

// started closes what the process has now, or never will.
func (c *pipes) started() {
	for _, f := range c.childs {
		f.Close()
	}
	c.childs = nil
}

// finish ends the connection once everything that was written has been read.
func (c *pipes) finish() { c.end(ending) }

// drop ends the connection at once.
func (c *pipes) drop() { c.end(dropped) }

func (c *pipes) end(how int32) {
	c.started()
	if c.stdin != nil {
		c.stdin.Close()
	}
	for _, p := range c.pumps {
		p.end(how)
	}
}

// The states of a pump.
const (
	// ending reads on until all writers are gone or quiet.
	ending = iota + 1
	// dropped reads no more.
	dropped
)

// pump copies what a process writes.
type pump struct {
	src   *os.File
	state atomic.Int32
	done  chan struct{}
}

// run copies until all writers are gone or, once ending, until they are quiet. A
// reader that fails does not stop the process, which would die of it.
func (p *pump) run(dst io.Writer) {
	defer close(p.done)
	buffer := make([]byte, 32<<10)
	var limit time.Time
	for {
		switch {
		case p.state.Load() == dropped:
			return
		case p.state.Load() == ending && limit.IsZero():
			limit = time.Now().Add(lastBreath)
		case !limit.IsZero() && time.Now().After(limit):
			p.rest(dst, buffer)
			return
		}
		if !limit.IsZero() {
			_ = p.src.SetReadDeadline(time.Now().Add(quiet))
		}
		n, err := p.src.Read(buffer)
		if n > 0 {
			if _, err := dst.Write(buffer[:n]); err != nil {
				dst = io.Discard
			}
		}
		if err != nil {
			return
		}
	}
}

// rest copies what is in the pipe by now, for a daemon that never is quiet.
func (p *pump) rest(dst io.Writer, buffer []byte) {
	size, err := unix.IoctlGetInt(int(p.src.Fd()), unix.TIOCINQ)
	if err == nil {
		_, _ = io.CopyBuffer(dst, io.LimitReader(p.src, int64(size)), buffer)
	}
}

func (p *pump) end(how int32) {
	p.state.Store(how)
	wake := time.Now()
	if how == ending {
		wake = wake.Add(quiet)
	}
	_ = p.src.SetReadDeadline(wake)
	<-p.done
	p.src.Close()
}
