package rendezvous

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/command"
)

// program is the started program: the keeper itself, or the host's shell with the user's
// wrapper, which starts it.
type program struct {
	cmd    *exec.Cmd
	line   string
	output *tail
	// ended is closed when it has ended, with the reason in err.
	ended chan struct{}
	err   error
}

// start runs this program again, in the wrapper if there is one. It stays in this session
// and process group, so that sudo finds the terminal that it knows.
func (l Launcher) start(inv invitation) (*program, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &program{line: "without command_wrapper", output: &tail{}, ended: make(chan struct{})}
	p.cmd = &exec.Cmd{Path: self, Args: []string{self, Arg, inv.arg()}}
	if l.Host.HasWrapper() {
		line, err := l.Host.Wrap(command.Quote(self) + " " + Arg + " " + inv.arg())
		if err != nil {
			return nil, err
		}
		p.cmd = command.HostShell(line)
		p.cmd.Env = withoutInvoker(os.Environ())
		p.line = fmt.Sprintf("with command_wrapper as %q", strings.ReplaceAll(line, inv.arg(), "…"))
	}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.WaitDelay = p.output, p.output, time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the keeper: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop ends a program from which no keeper came.
func (p *program) stop() {
	_ = p.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(time.Second):
		_ = p.cmd.Process.Kill()
	}
}

// exit returns how the program ended, as the end of a sentence. It waits a moment for
// that, and returns nothing if the program still runs.
func (p *program) exit() string {
	select {
	case <-p.ended:
	case <-time.After(time.Second):
		return ""
	}
	how := ""
	if p.err != nil {
		how = ": " + p.err.Error()
	}
	if output := p.output.String(); output != "" {
		how += ": " + output
	}
	return how
}

// tail logs a program's output, and keeps the end of it.
type tail struct {
	mu   sync.Mutex
	last []byte
	// cut reports whether there was more before.
	cut bool
}

// tailSize is enough for the message that a program ends with.
const tailSize = 2 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	log.Printf("the keeper says: %s", bytes.TrimSpace(p))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p...)
	if over := len(t.last) - tailSize; over > 0 {
		t.last, t.cut = t.last[over:], true
	}
	return len(p), nil
}

// String returns the end of the output. It leaves out a line that was cut or, if there is
// only one, a word that was: the end of a secret would not be recognized.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.cut {
		return string(bytes.TrimSpace(t.last))
	}
	_, whole, found := bytes.Cut(t.last, []byte("\n"))
	if whole = bytes.TrimSpace(whole); !found || len(whole) == 0 {
		_, whole, _ = bytes.Cut(t.last, []byte(" "))
	}
	return "… " + string(bytes.TrimSpace(whole))
}
