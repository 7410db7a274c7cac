//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// build is one run of Packer.
type build struct {
	*runner
	template
	// log is the name of the file for its output.
	log    string
	output output
	killed bool
}

// artifact is an image in a region.
type artifact struct{ region, id string }

// run runs Packer and passes interrupts on to it.
func (b *build) run(ctx context.Context) error {
	file, err := os.Create(filepath.Join(b.dir, b.log))
	if err != nil {
		return err
	}
	defer file.Close()
	cmd := exec.CommandContext(ctx, b.packer, "build", "-color=false", "-only="+b.builder+"."+b.name, ".")
	cmd.Dir = b.templates
	cmd.Env = b.environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C reaches it through this program
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 15 * time.Minute
	b.output.until, b.output.to = b.kill, file
	b.output.found = func() {
		b.killed = true
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	}
	cmd.Stdout, cmd.Stderr = &b.output, &b.output
	err = cmd.Run()
	if b.killed && ctx.Err() == nil {
		return b.reaped(ctx, file)
	}
	return err
}

// reaped undoes the killed build. It returns an error if a volume of the build remains.
func (b *build) reaped(ctx context.Context, log *os.File) error {
	if err := b.reap(ctx, log); err != nil {
		return err
	}
	left, err := b.cloud.tagged(ctx, b.id)
	for _, t := range left {
		if t.kind == "volume" {
			err = errors.Join(err, fmt.Errorf("reap left %s", t))
		}
	}
	return err
}

// environ returns the environment of Packer: each REAL_X sets the variable x.
func (b *build) environ() []string {
	env := append(os.Environ(),
		"PACKER_CHROOT_STATE_DIR="+filepath.Join(b.dir, "state"), "PKR_VAR_run="+b.id, "PKR_VAR_region="+b.region,
		"PKR_VAR_budget_key="+b.budgetKey, "PKR_VAR_budget_value="+b.budget,
	)
	for _, entry := range os.Environ() {
		if rest, ok := strings.CutPrefix(entry, "REAL_"); ok {
			name, value, _ := strings.Cut(rest, "=")
			env = append(env, "PKR_VAR_"+strings.ToLower(name)+"="+value)
		}
	}
	return env
}

// verdict returns an error unless the build ended as its template expects.
func (b *build) verdict(err error) error {
	said := flat(b.output.String())
	switch {
	case b.kill != "" && !b.killed:
		return fmt.Errorf("the build ended before it said %q: %w", b.kill, errors.Join(err, errors.New("see "+b.log)))
	case b.fails != "" && err == nil:
		return fmt.Errorf("the build succeeded, and should have failed with %q", b.fails)
	case b.fails != "" && !strings.Contains(said, flat(b.fails)):
		return fmt.Errorf("the build failed without %q: see %s", b.fails, b.log)
	case b.fails == "" && err != nil:
		return fmt.Errorf("%w: see %s", err, b.log)
	}
	for _, text := range b.lacks {
		if strings.Contains(said, flat(text)) {
			return fmt.Errorf("the output has %q: see %s", text, b.log)
		}
	}
	for _, text := range b.says {
		if !strings.Contains(said, flat(text)) {
			return fmt.Errorf("the output lacks %q: see %s", text, b.log)
		}
	}
	return nil
}

// artifactLine matches an image in the last lines of Packer's output.
var artifactLine = regexp.MustCompile(`(?m)^\s*([a-z]+-[a-z0-9-]+): (ami-[0-9a-f]+)\s*$`)

// artifacts returns the images of the build.
func (b *build) artifacts() []artifact {
	var all []artifact
	for _, m := range artifactLine.FindAllStringSubmatch(b.output.String(), -1) {
		all = append(all, artifact{m[1], m[2]})
	}
	return all
}

// flat returns a text in lower case and with single spaces.
func flat(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }

// output stores the output, copies it to a writer, and calls found when it contains until.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	to    io.Writer
	until string
	found func()
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	if o.until != "" && bytes.Contains(o.text.Bytes(), []byte(o.until)) {
		o.until = ""
		o.found()
	}
	return o.to.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
