package builder_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// screen is a Packer UI for tests. It records the output and the questions. Each question gets the next answer. Without
// one, Ask waits for ever, or fails if mute is set.
type screen struct {
	packersdk.Ui
	mu      sync.Mutex
	lines   []string
	asked   []string
	answers []string
	// onAsk is called when the user is asked and has no answer.
	onAsk func()
	// mute makes questions fail at once, as without a terminal.
	mute bool
	// onMute is called before that.
	onMute func()
}

func (s *screen) Say(line string)   { s.write("say " + line) }
func (s *screen) Error(line string) { s.write("error " + line) }

func (s *screen) write(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func (s *screen) Ask(question string) (string, error) {
	s.mu.Lock()
	s.asked = append(s.asked, question)
	if len(s.answers) > 0 {
		answer := s.answers[0]
		s.answers = s.answers[1:]
		s.mu.Unlock()
		return answer, nil
	}
	s.mu.Unlock()
	if s.mute {
		if s.onMute != nil {
			s.onMute()
		}
		return "", errors.New("no terminal")
	}
	if s.onAsk != nil {
		s.onAsk()
	}
	select {} // the user is away
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// hookFunc is Packer's side of provisioning.
type hookFunc func(ctx context.Context, name string, comm packersdk.Communicator, data map[string]any) error

func (f hookFunc) Run(ctx context.Context, name string, _ packersdk.Ui, comm packersdk.Communicator, data any) error {
	return f(ctx, name, comm, data.(map[string]any))
}

// noProvisioner is a template without provisioners.
func noProvisioner(context.Context, string, packersdk.Communicator, map[string]any) error { return nil }

// root is a chroot.Root that records its calls.
type root struct {
	mu    sync.Mutex
	calls []string
	files map[string]string
	run   func(context.Context, chroot.Command) (int, error)
	// upload is called first if it is not nil.
	upload func() error
}

func (r *root) Path() string { return "/mnt/xvdf" }

func (r *root) note(format string, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
	return nil
}

func (r *root) Run(ctx context.Context, c chroot.Command) (int, error) {
	_ = r.note("run %s", c.Line)
	if r.run == nil {
		return 0, nil
	}
	return r.run(ctx, c)
}

func (r *root) Upload(_ context.Context, dst string, src io.Reader, file chroot.NewFile) error {
	content, err := io.ReadAll(src)
	if err != nil {
		return err
	}
	if r.upload != nil {
		if err := r.upload(); err != nil {
			return err
		}
	}
	return r.note("upload %s %s %o %s", dst, file.Name, file.Mode, content)
}

func (r *root) UploadDir(_ context.Context, dst, src string, exclude []string) error {
	return r.note("uploaddir %s from %s without %v", dst, src, exclude)
}

func (r *root) Download(_ context.Context, src string, dst io.Writer) error {
	content, ok := r.files[src]
	if !ok {
		return os.ErrNotExist
	}
	_, err := io.WriteString(dst, content)
	return err
}

func (r *root) DownloadDir(_ context.Context, src, dst string, exclude []string) error {
	return r.note("downloaddir %s to %s without %v", src, dst, exclude)
}

// facts describe the host and region of the fake builds.
var facts = bake.Facts{
	Host: bake.Host{ID: "i-1", Region: "eu-west-2", Zone: "eu-west-2a"},
	Source: &bake.Image{
		ID: "ami-1", Name: "debian", Owner: "123", OwnerName: "friends", Created: "2020-01-01",
		Tags: map[string]string{"Release": "12", "Trap": "{{user `secret`}}"},
	},
}

// anyMachine is for builds that do nothing on the host.
func anyMachine(context.Context, func(string) (string, error)) (bake.Machine, error) {
	return idle{}, nil
}

// idle is a machine that is not used.
type idle struct{ bake.Machine }

func (idle) Close() error { return nil }

// build runs a job with the given function as its build.
func build(ctx context.Context, t *testing.T, ui *screen, hook hookFunc, job builder.Job,
	act func(context.Context, bake.Plan, bake.Reporter) error,
) (packersdk.Artifact, error) {
	t.Helper()
	job.Host = builder.Host{GOOS: "linux", Machine: anyMachine}
	job.Host.Bake = func(ctx context.Context, _ bake.Cloud, _ bake.Machine, plan bake.Plan, report bake.Reporter) (bake.Result, error) {
		if err := act(ctx, plan, report); err != nil {
			return bake.Result{}, err
		}
		return bake.Result{
			Products: []bake.Product{{Region: facts.Host.Region, Image: "ami-2", Snapshots: []bake.SnapshotID{"snap-2"}}}, Source: facts.Source,
		}, nil
	}
	return builder.Run(ctx, ui, hook, job)
}

// job is a job of the kind with the given options.
func job(t *testing.T, options map[string]any) builder.Job {
	t.Helper()
	o, errs := decode(t, options)
	if len(errs) > 0 {
		t.Fatalf("the options are wrong: %v", errs)
	}
	return o.job()
}

// provisioning is an act that only provisions.
func provisioning(r chroot.Root) func(context.Context, bake.Plan, bake.Reporter) error {
	return func(ctx context.Context, plan bake.Plan, _ bake.Reporter) error {
		err := plan.Provision(ctx, bake.Workplace{Facts: facts, Root: r, Device: "/dev/xvdf"})
		if err != nil && plan.KeepOnError(err) {
			return fmt.Errorf("kept: %w", err)
		}
		return err
	}
}

func mustContain(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
}

func equal[T any](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// lockedBuffer is a buffer that a command may write to from its own goroutine.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
