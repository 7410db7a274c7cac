package build

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// terminal runs packer on a terminal, the only place where it asks questions, and types each answer after its question.
func terminal(b *harness.Box, args string, questions, answers []string) (string, error) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, "script", "-qec", "exec "+harness.Programs.Packer+" "+args, "/dev/null")
	cmd.Env, cmd.Dir = b.Env, b.Dir
	keys, err := cmd.StdinPipe()
	b.Must(err)
	defer keys.Close()
	typist := &typist{keys: keys, questions: questions, answers: answers}
	cmd.Stdout, cmd.Stderr = typist, typist
	err = cmd.Run()
	return typist.said.String(), err
}

// typist waits for each question in Packer's output and types its answer.
type typist struct {
	keys               io.Writer
	questions, answers []string
	said               strings.Builder
	read               int
}

func (t *typist) Write(p []byte) (int, error) {
	t.said.Write(p)
	if len(t.questions) == 0 {
		return len(p), nil
	}
	if i := strings.Index(t.said.String()[t.read:], t.questions[0]); i >= 0 {
		t.read += i + len(t.questions[0])
		_, _ = io.WriteString(t.keys, t.answers[0]+"\r") // a terminal's Enter
		t.questions, t.answers = t.questions[1:], t.answers[1:]
	}
	return len(p), nil
}

// TestOnErrorAsk gives each possible answer.
func TestOnErrorAsk(t *testing.T) {
	const question = "Clean up and exit"
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		failing := b.Template(f.Basic(nil), harness.Shell("exit 5"))
		out, err := terminal(b, "build -color=false -on-error=ask "+failing, []string{question, question}, []string{"what?", "c"})
		if err == nil || !strings.Contains(out, `Not an answer: "what?"`) || !strings.Contains(harness.Flat(out), "undone: mount of") {
			t.Errorf("clean up: %v\n%s", err, out)
		}
		b.Clean()
		b.Unchanged(before)

		out, err = terminal(b, "build -color=false -on-error=ask "+failing, []string{question}, []string{"a"})
		if err == nil {
			t.Errorf("abort succeeded:\n%s", out)
		}
		followAdvice(b, out)

		mark := filepath.Join(b.Dir, "tried")
		retrying := b.Template(f.Basic(nil), map[string]any{"type": "shell-local", "inline": []string{"test -e " + mark + " || { touch " + mark + "; exit 6; }"}})
		if out, err := terminal(b, "build -color=false -on-error=ask "+retrying, []string{question}, []string{"r"}); err != nil {
			t.Errorf("retry: %v\n%s", err, out)
		}
		b.Clean()
		b.Made()
	})
}

var (
	lookAdvice   = regexp.MustCompile(`To look at the root: sudo (chroot \S+ /bin/sh)`)
	removeAdvice = regexp.MustCompile(`run: sudo (umount -R \S+); detach volume (vol-[0-9a-f]+) from (i-[0-9a-f]+) \(/dev/\w+\); delete volume (vol-[0-9a-f]+)`)
)

// followAdvice runs the clean-up commands that a build with -on-error=abort prints. Nothing must remain.
func followAdvice(b *harness.Box, out string) {
	b.Helper()
	look, undo := lookAdvice.FindStringSubmatch(harness.Flat(out)), removeAdvice.FindStringSubmatch(harness.Flat(out))
	if look == nil || undo == nil {
		b.Fatalf("no advice how to look and how to remove:\n%s", out)
	}
	if got := b.Sh("echo 'echo in $(cat /etc/hostname)' | " + look[1]); got != "in busybox\n" {
		b.Errorf("a look shows %q", got)
	}
	b.Sh(undo[1])
	if undo[2] != undo[4] {
		b.Errorf("%s is to be detached, and %s deleted", undo[2], undo[4])
	}
	b.Detach(undo[2])
	b.Reservations.Remove()
	_ = os.Remove(strings.Fields(undo[1])[2]) // the mount path, if the build made it
}

// TestOnErrorKeepsEverything checks that abort and run-cleanup-provisioner keep all resources,
// and that only the latter runs the error-cleanup-provisioner.
func TestOnErrorKeepsEverything(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		for policy, cleaned := range map[string]string{"abort": "", "run-cleanup-provisioner": "cleaned\n"} {
			b := harness.New(t)
			template := b.Write("template.json", fmt.Sprintf(`{"builders": [%s], "provisioners": [{"type": "shell", "inline": ["exit 3"]}],
				"error-cleanup-provisioner": {"type": "shell-local", "inline": ["echo cleaned > %s/cleaned"]}}`, harness.ToJSON(f.Basic(nil)), b.Dir))
			out, err := b.Packer("build", "-color=false", "-on-error="+policy, template)
			if err == nil {
				t.Errorf("%s: the build succeeded:\n%s", policy, out)
			}
			if got := harness.Read(filepath.Join(b.Dir, "cleaned")); got != cleaned {
				t.Errorf("%s: the cleanup provisioner wrote %q, want %q", policy, got, cleaned)
			}
			followAdvice(b, out)
		}
	})
}
