package command

import (
	"io"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// quietAfter is how long output must pause, after a command has ended, before it counts as
// complete although other processes, such as a daemon, hold it open.
const quietAfter = time.Second

// Streams are the standard streams of a command. A stream that is an *os.File is the
// command's own; others are copied through pipes. Nil is no input, or output that is
// discarded.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Pipes connects a command to its streams.
type Pipes struct {
	// stdin, stdout and stderr are the command's ends; stdin is nil without input.
	stdin, stdout, stderr *os.File
	// own are the command's ends that were opened for it.
	own []*os.File
	// feed is this process's end of the input, if it is a pipe.
	feed  *os.File
	pumps []*pump
}

// Connect opens the streams. They are files, so that exec.Cmd.Wait waits for the process
// alone.
func (s Streams) Connect() (*Pipes, error) {
	p := &Pipes{}
	if err := p.input(s.Stdin); err != nil {
		return nil, err
	}
	var err error
	if p.stdout, err = p.output(s.Stdout); err != nil {
		p.Finish()
		return nil, err
	}
	if p.stderr = p.stdout; same(s.Stdout, s.Stderr) {
		return p, nil
	}
	if p.stderr, err = p.output(s.Stderr); err != nil {
		p.Finish()
		return nil, err
	}
	return p, nil
}

// Files returns the command's ends, each once: input if there is any, output, and errors if
// they go elsewhere.
func (p *Pipes) Files() []*os.File {
	var files []*os.File
	for _, file := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if file != nil && !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	return files
}

// HasInput reports whether the command has input.
func (p *Pipes) HasInput() bool { return p.stdin != nil }

// Split reports whether errors go to a stream of their own.
func (p *Pipes) Split() bool { return p.stderr != p.stdout }

// attach gives the streams to a command.
func (p *Pipes) attach(cmd *exec.Cmd) {
	if p.stdin != nil { // a nil *os.File is not a nil io.Reader
		cmd.Stdin = p.stdin
	}
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
}

// same reports whether two writers are one, which then gets everything in order and never
// from two goroutines.
func same(a, b io.Writer) (equal bool) {
	defer func() { _ = recover() }() // values that cannot be compared are not the same
	return a == b
}

// input feeds the command's input. The feeding is not waited for: nobody can interrupt a
// reader.
func (p *Pipes) input(src io.Reader) error {
	if src == nil {
		return nil
	}
	if file, ok := src.(*os.File); ok {
		p.stdin = file
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	p.stdin, p.own, p.feed = r, append(p.own, r), w
	go func() {
		_, _ = io.Copy(w, src)
		w.Close()
	}()
	return nil
}

// output returns the file that the command writes to: dst itself, or a pipe to it.
func (p *Pipes) output(dst io.Writer) (*os.File, error) {
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
	p.own, p.pumps = append(p.own, w), append(p.pumps, pump)
	go pump.run(dst)
	return w, nil
}

// started closes the command's ends, once it has them or never will.
func (p *Pipes) started() {
	for _, f := range p.own {
		f.Close()
	}
	p.own = nil
}

// Finish closes the streams after everything that was written has been read.
func (p *Pipes) Finish() { p.close(finishing) }

// Drop closes the streams at once.
func (p *Pipes) Drop() { p.close(dropped) }

func (p *Pipes) close(state int32) {
	p.started()
	if p.feed != nil {
		p.feed.Close()
	}
	for _, pump := range p.pumps {
		pump.end(state)
	}
}

// The states of a pump.
const (
	// finishing reads on until all writers are gone or quiet.
	finishing = iota + 1
	// dropped reads no more.
	dropped
)

// pump copies a command's output.
type pump struct {
	src   *os.File
	state atomic.Int32
	done  chan struct{}
}

// run copies until all writers are gone or, once finishing, until they are quiet. A
// writer that fails does not stop the command, which would die of it.
func (p *pump) run(dst io.Writer) {
	defer close(p.done)
	buffer := make([]byte, 32<<10)
	var limit time.Time
	for {
		switch {
		case p.state.Load() == dropped:
			return
		case p.state.Load() == finishing && limit.IsZero():
			limit = time.Now().Add(KillTimeout)
		case !limit.IsZero() && time.Now().After(limit):
			p.rest(dst, buffer)
			return
		}
		if !limit.IsZero() {
			_ = p.src.SetReadDeadline(time.Now().Add(quietAfter))
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

// rest copies the bytes that are in the pipe now, for a daemon that is never quiet.
func (p *pump) rest(dst io.Writer, buffer []byte) {
	size, err := unix.IoctlGetInt(int(p.src.Fd()), unix.TIOCINQ)
	if err == nil {
		_, _ = io.CopyBuffer(dst, io.LimitReader(p.src, int64(size)), buffer)
	}
}

// end sets the state, and waits until run has returned.
func (p *pump) end(state int32) {
	p.state.Store(state)
	wake := time.Now()
	if state == finishing {
		wake = wake.Add(quietAfter)
	}
	_ = p.src.SetReadDeadline(wake)
	<-p.done
	p.src.Close()
}
