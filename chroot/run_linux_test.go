package chroot_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// wrappers are ways to run commands that must make no difference.
var wrappers = map[string]func(string) (string, error){
	"none":         nil,
	"the default":  func(command string) (string, error) { return command, nil },
	"env":          func(command string) (string, error) { return "env WRAPPED=1 " + command, nil },
	"a shell":      func(command string) (string, error) { return `/bin/sh -c "` + command + `"`, nil },
	"quoted twice": func(command string) (string, error) { return `/bin/sh -c "/bin/sh -c '` + command + `'"`, nil },
}

// everyWay runs a test in this process, and through a keeper's process under every
// wrapper.
func everyWay(t *testing.T, test func(t *testing.T, m chroot.Root)) {
	t.Helper()
	t.Run("in this process", func(t *testing.T) { test(t, tiny(t, nil)) })
	for name, wrapper := range wrappers {
		t.Run(name, func(t *testing.T) { test(t, far(t, wrapper)) })
	}
}

func TestRunIsInside(t *testing.T) {
	everyWay(t, func(t *testing.T, m chroot.Root) {
		write(t, m.Path()+"/etc/marker", "inside\n", 0o644)
		if got := sh(t, m, "cat /etc/marker; echo $PWD $HOME $USER"); got != "inside\n/ /root root\n" {
			t.Errorf("printed %q", got)
		}
	})
}

// TestRunIsByteForByte passes text to the image's shell that a shell of the host would
// expand.
func TestRunIsByteForByte(t *testing.T) {
	t.Setenv("HOSTS", "of the host")
	line := "printf '%s|' \"$0\" 'single $HOSTS `id`' \"double \\\" \\$x\" back\\\\slash \\\n  continued 'new\nline' é\xff '{{.Command}}' %s \t tab; X='a  b'; echo \"$X\" # comment"
	want := "/bin/sh|single $HOSTS `id`|double \" $x|back\\slash|continued|new\nline|é\xff|{{.Command}}|%s|tab|a  b\n"
	everyWay(t, func(t *testing.T, m chroot.Root) {
		if got := sh(t, m, line); got != want {
			t.Errorf("printed\n%q, want\n%q", got, want)
		}
	})
}

func TestRunStreams(t *testing.T) {
	everyWay(t, func(t *testing.T, m chroot.Root) {
		var out, errs bytes.Buffer
		status, err := m.Run(t.Context(), chroot.Command{Line: "cat; echo wrong >&2; exit 7", Stdin: strings.NewReader("from stdin"), Stdout: &out, Stderr: &errs})
		if status != 7 || err != nil || out.String() != "from stdin" || errs.String() != "wrong\n" {
			t.Errorf("status %d, %v, out %q, err %q", status, err, &out, &errs)
		}
	})
}

func TestRunWithoutStreams(t *testing.T) {
	m := tiny(t, nil)
	if status, err := m.Run(t.Context(), chroot.Command{Line: "cat && echo x && exit 3"}); status != 3 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
}

func TestRunMuchOutput(t *testing.T) {
	m := tiny(t, nil)
	if got := sh(t, m, "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done"); len(got) != 220000 {
		t.Errorf("%d bytes arrived", len(got))
	}
}

// failing is a writer that always fails.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestRunOutlivesItsReader(t *testing.T) {
	m := tiny(t, nil)
	status, err := m.Run(t.Context(), chroot.Command{Line: "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done; exit 5", Stdout: failing{}})
	if status != 5 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
}

func TestRunReportsSignals(t *testing.T) {
	everyWay(t, func(t *testing.T, m chroot.Root) {
		var errs bytes.Buffer
		status, err := m.Run(t.Context(), chroot.Command{Line: "kill -TERM $$", Stderr: &errs})
		if status != 143 || err != nil || errs.Len() == 0 {
			t.Errorf("status %d, %v, told %q", status, err, &errs)
		}
	})
}

// TestRunEnvironment checks the variables that a command gets from the host.
func TestRunEnvironment(t *testing.T) {
	for name, value := range map[string]string{"http_proxy": "http://proxy:3128", "AWS_SECRET_ACCESS_KEY": "secret", "PATH": os.Getenv("PATH") + ":/host/bin"} {
		t.Setenv(name, value)
	}
	everyWay(t, func(t *testing.T, m chroot.Root) {
		got := "\n" + sh(t, m, "env")
		for _, entry := range []string{"http_proxy=http://proxy:3128", "HOME=/root", "USER=root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} {
			if !strings.Contains(got, "\n"+entry+"\n") {
				t.Errorf("%s is missing in %s", entry, got)
			}
		}
		for _, name := range []string{"AWS_SECRET_ACCESS_KEY", "/host/bin"} {
			if strings.Contains(got, name) {
				t.Errorf("%s is in %s", name, got)
			}
		}
	})
}

func TestRunWithoutAShell(t *testing.T) {
	everyWay(t, func(t *testing.T, m chroot.Root) {
		if err := os.Remove(m.Path() + "/bin/sh"); err != nil {
			t.Fatal(err)
		}
		_, err := m.Run(t.Context(), chroot.Command{Line: "true"})
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v", err)
		}
		says(t, err, "/bin/sh", m.Path())
	})
}

// processesIn lists the processes whose root is the path.
func processesIn(t *testing.T, root string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/root")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == root {
			found = append(found, link)
		}
	}
	return found
}

// TestRunCancelled starts processes that try to escape in every way.
func TestRunCancelled(t *testing.T) {
	everyWay(t, func(t *testing.T, m chroot.Root) {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the user has thought better of it")
		ready := &notice{waitFor: "ready", do: func() { cancel(why) }}
		_, err := m.Run(ctx, chroot.Command{
			Line:   "sleep 1000 & setsid sleep 1000 & (setsid setsid sh -c 'sleep 1000; true' &) ; trap '' TERM INT HUP; echo ready; sleep 1000",
			Stdout: ready,
		})
		if !errors.Is(err, why) {
			t.Errorf("error %v", err)
		}
		if left := processesIn(t, m.Path()); len(left) > 0 {
			t.Errorf("still there: %q", left)
		}
	})
}

// notice does something once a text is written.
type notice struct {
	waitFor string
	do      func()
	seen    bytes.Buffer
}

func (n *notice) Write(p []byte) (int, error) {
	n.seen.Write(p)
	if strings.Contains(n.seen.String(), n.waitFor) {
		n.do()
	}
	return len(p), nil
}

func TestRunCancelledBefore(t *testing.T) {
	m := tiny(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Run(ctx, chroot.Command{Line: "touch /tmp/ran"}); !errors.Is(err, context.Canceled) || exists(m.Path()+"/tmp/ran") {
		t.Errorf("error %v", err)
	}
}

// TestRunDoesNotWaitForDaemons leaves one that holds the output open.
func TestRunDoesNotWaitForDaemons(t *testing.T) {
	m := tiny(t, nil)
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	status, err := m.Run(ctx, chroot.Command{Line: "sleep 1000 & echo started $!", Stdout: &out, Stderr: &out})
	if status != 0 || err != nil || !strings.HasPrefix(out.String(), "started ") {
		t.Errorf("status %d, %v, printed %q", status, err, &out)
	}
	if left := processesIn(t, m.Path()); len(left) != 1 {
		t.Errorf("the daemon is not left alone: %q", left)
	}
	sh(t, m, "kill -KILL "+strings.TrimSpace(strings.TrimPrefix(out.String(), "started ")))
}
