package acceptance

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSecretsStayInside looks for the secret key in all that a build with every log
// leaves, and in what can be seen of it while it runs: its journal, the arguments of its
// processes, its files.
func TestSecretsStayInside(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		logs := filepath.Join(b.dir, "logs")
		b.must(os.Mkdir(logs, 0o700))
		b.env = append(b.env, "PACKER_LOG=1", "PACKER_LOG_PATH="+filepath.Join(logs, "packer.log"))
		started, done := filepath.Join(b.dir, "started"), filepath.Join(b.dir, "done")
		b.control(http.MethodPost, "faults", map[string]any{"action": f.nameOf("CreateVolume"), "times": 1, "status": 503, "code": "Unavailable"}, nil)
		u := b.begin(f,
			map[string]any{"type": "shell-local", "inline": []string{"touch " + started + "; while [ ! -e " + done + " ]; do sleep 0.1; done"}},
			shell("true"))
		u.until(time.Minute, "at work", func() bool { _, err := os.Stat(started); return err == nil })
		for _, pid := range pidsWith(b.marker) {
			// the environment is the user's own, and may hold them
			if line := read(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.Contains(line, secret) {
				t.Errorf("in the arguments of process %d: %q", pid, line)
			}
		}
		if journals := b.leaks(filepath.Join(b.dir, "state")); journals == 0 {
			t.Error("there is no journal to look at")
		}
		b.leaks(filepath.Join(b.dir, "tmp"))
		b.must(os.WriteFile(done, nil, 0o600))
		if err := u.cmd.Wait(); err != nil {
			t.Fatalf("packer build: %v\n%s", err, u.out)
		}
		if strings.Contains(u.out.String(), secret) {
			t.Errorf("printed:\n%s", u.out)
		}
		if b.leaks(logs) == 0 {
			t.Error("there is no log to look at")
		}
	})
}

// leaks fails the test if a file below the directory holds the secret key, and answers
// how many files it has looked into.
func (b *box) leaks(dir string) (files int) {
	b.t.Helper()
	b.must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(secret)) {
			b.t.Errorf("%s holds the secret key", path)
		}
		files++
		return err
	}))
	return files
}
