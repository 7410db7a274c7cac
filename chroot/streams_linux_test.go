package chroot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// counter counts the written bytes, and verifies that they are zero.
type counter struct {
	n     int64
	wrong bool
}

var zeroes = make([]byte, 1<<20)

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	c.wrong = c.wrong || !bytes.Equal(p, zeroes[:len(p)])
	return len(p), nil
}

// peak is the most memory that a process ever had, in bytes.
func peak(t *testing.T, pid int) int64 {
	t.Helper()
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(read(t, fmt.Sprintf("/proc/%d/status", pid)))
	if found == nil {
		t.Fatal("no VmHWM")
	}
	kib, err := strconv.ParseInt(found[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// TestRunGigabytes streams more than either process may buffer, in both directions.
func TestRunGigabytes(t *testing.T) {
	const size, bound = 2 << 30, 100 << 20
	c := launch(t, nil)
	m := farAt(t, c, filepath.Join(stage(t), "root"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	out, in := &counter{}, io.LimitReader(zero{}, size)
	status, err := m.Run(t.Context(), chroot.Command{Line: "exec cat", Stdin: in, Stdout: out})
	if status != 0 || err != nil || out.n != size || out.wrong {
		t.Errorf("status %d, %v, %d bytes, wrong: %v", status, err, out.n, out.wrong)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.Sys) - int64(before.Sys); grown > bound {
		t.Errorf("this process took %d bytes", grown)
	}
	if most := peak(t, c.PID()); most > bound {
		t.Errorf("the keeper took %d bytes", most)
	}
}

// zero is an endless source.
type zero struct{}

func (zero) Read(p []byte) (int, error) { return copy(p, zeroes), nil }

// gate is a writer that blocks until it is opened.
type gate struct {
	open chan struct{}
	seen bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.seen.Write(p)
}

// TestSlowReaderHoldsUpNobody has a command wait for its reader while others work.
func TestSlowReaderHoldsUpNobody(t *testing.T) {
	m := far(t, nil)
	slow := &gate{open: make(chan struct{})}
	done := make(chan error, 1)
	const lines = 30000
	go func() {
		status, err := m.Run(context.Background(), chroot.Command{Line: "i=0; while [ $i -lt 30000 ]; do echo line; i=$((i+1)); done", Stdout: slow})
		done <- errors.Join(err, map[bool]error{true: errors.New("it failed")}[status != 0])
	}()
	for range 5 {
		if got := sh(t, m, "echo quick"); got != "quick\n" {
			t.Errorf("printed %q", got)
		}
		if err := m.Upload(t.Context(), "/tmp/beside", strings.NewReader("content"), chroot.NewFile{Mode: 0o600}); err != nil {
			t.Error(err)
		}
	}
	close(slow.open)
	if err := <-done; err != nil || slow.seen.String() != strings.Repeat("line\n", lines) {
		t.Errorf("%v, and %d bytes", err, slow.seen.Len())
	}
}

func TestManyAtOnce(t *testing.T) {
	m := far(t, nil)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			path, want := fmt.Sprintf("/tmp/f%d", i), strings.Repeat(strconv.Itoa(i), 100_000)
			if err := m.Upload(t.Context(), path, strings.NewReader(want), chroot.NewFile{Mode: 0o640}); err != nil {
				t.Error(err)
			}
			var ran, got bytes.Buffer
			status, err := m.Run(t.Context(), chroot.Command{Line: "cat " + path, Stdout: &ran})
			if err := errors.Join(err, m.Download(t.Context(), path, &got)); err != nil || status != 0 {
				t.Errorf("status %d, %v", status, err)
			}
			if ran.String() != want || got.String() != want {
				t.Errorf("%s came back as %d and %d bytes", path, ran.Len(), got.Len())
			}
		})
	}
	all.Wait()
}

// TestBothOutputsInOrder checks that one writer gets both outputs in the order in which they
// were written.
func TestBothOutputsInOrder(t *testing.T) {
	everyWay(t, func(t *testing.T, m chroot.Root) {
		var both bytes.Buffer
		status, err := m.Run(t.Context(), chroot.Command{Line: "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done", Stdout: &both, Stderr: &both})
		if want := "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nout 4\nerr 4\nout 5\nerr 5\n"; both.String() != want || status != 0 || err != nil {
			t.Errorf("printed %q, %d, %v", &both, status, err)
		}
	})
}

// TestUploadWhoseSourceFails must not pass for a shorter file.
func TestUploadWhoseSourceFails(t *testing.T) {
	m := far(t, nil)
	broken := errors.New("the source is broken")
	err := m.Upload(t.Context(), "/tmp/half", io.MultiReader(strings.NewReader("half"), failingReader{broken}), chroot.NewFile{Mode: 0o644})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestUploadCancelled(t *testing.T) {
	m := far(t, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	source, never := io.Pipe()
	defer never.Close()
	go func() {
		_, _ = never.Write([]byte("begun"))
		cancel(why)
	}()
	if err := m.Upload(ctx, "/tmp/begun", source, chroot.NewFile{Mode: 0o644}); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

func TestDownloadWhoseReaderFails(t *testing.T) {
	m := far(t, nil)
	if err := m.Download(t.Context(), "/bin/busybox", failing{}); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("error %v", err)
	}
}

func TestDirectoriesThroughTheKeeper(t *testing.T) {
	m := far(t, nil)
	src, dst := testdir.New(t), testdir.New(t)
	write(t, filepath.Join(src, "sub/a file"), "content", 0o640)
	t.Chdir(filepath.Dir(src)) // a path of this process's directory, not of the keeper's
	if err := m.UploadDir(t.Context(), "/tmp/up", filepath.Base(src)+"/", nil); err != nil {
		t.Fatal(err)
	}
	if err := m.DownloadDir(t.Context(), "/tmp/up/", dst, nil); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(dst, "sub/a file")); got != "content" {
		t.Errorf("came back as %q", got)
	}
}

// TestCancelSparesOthers checks that a process that an earlier command has left behind goes on
// when a later command is cancelled, if the kernel can distinguish them.
func TestCancelSparesOthers(t *testing.T) {
	if _, err := os.Stat("/proc/self/cgroup"); err != nil || !strings.Contains(read(t, "/proc/self/mountinfo"), " - cgroup2 ") {
		t.Skip("no cgroup v2")
	}
	everyWay(t, func(t *testing.T, m chroot.Root) {
		sh(t, m, "setsid sleep 1000 >/dev/null 2>&1 &")
		ctx, cancel := context.WithCancel(t.Context())
		ready := &notice{waitFor: "ready", do: cancel}
		_, err := m.Run(ctx, chroot.Command{Line: "(setsid setsid sleep 1000 &) ; echo ready; sleep 1000", Stdout: ready})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if left := processesIn(t, m.Path()); len(left) != 1 {
			t.Errorf("left are %q, and it should be the one of before", left)
		}
		endInside(t, m.Path())
	})
}

// endInside ends the processes in a root.
func endInside(t *testing.T, root string) {
	t.Helper()
	for _, link := range processesIn(t, root) {
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
}

// BenchmarkRun measures the round trip of a command, in this process and through a
// keeper: the difference is the cost of the keeper.
func BenchmarkRun(b *testing.B) {
	for name, root := range map[string]func(testing.TB) chroot.Root{
		"in-this-process": func(t testing.TB) chroot.Root { return tiny(t, nil) },
		"keeper":          func(t testing.TB) chroot.Root { return far(t, nil) },
	} {
		b.Run(name, func(b *testing.B) { benchRun(b, root) })
	}
}

func benchRun(b *testing.B, root func(testing.TB) chroot.Root) {
	m := root(b)
	for b.Loop() {
		if status, err := m.Run(b.Context(), chroot.Command{Line: "true"}); status != 0 || err != nil {
			b.Fatalf("status %d, %v", status, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/command")
}
