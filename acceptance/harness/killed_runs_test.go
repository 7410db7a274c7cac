package harness

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// killedRun is in the environment of a test process that is to be killed.
const killedRun = "ACCEPTANCE_KILLED_RUN"

// TestKilledRunIsSwept kills a test process that has a volume attached and mounted.
func TestKilledRunIsSwept(t *testing.T) {
	NeedRoot(t)
	if os.Getenv(killedRun) != "" {
		leaveAttached(t)
		return
	}
	self, err := os.Executable()
	Must(t, err)
	cmd := exec.Command(self, "-test.run", "^TestKilledRunIsSwept$")
	cmd.Env = append(os.Environ(), killedRun+"=yes", "TMPDIR="+runsDir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	Must(t, err)
	Must(t, cmd.Start())
	var run, node string
	for lines := bufio.NewScanner(out); node == "" && lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) == 3 && f[0] == "attached" {
			run, node = f[1], f[2]
		}
	}
	Must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if node == "" || len(LoopsOf(run)) == 0 || !Exists(node) {
		t.Fatalf("the killed process left nothing in %q: node %q, loop devices %v", run, node, LoopsOf(run))
	}
	Must(t, sweepKilledRuns(runsDir))
	if left := leftOnHost(run, nil); len(LoopsOf(run)) > 0 || len(mountsOf(run)) > 0 || Exists(node) || Exists(run) {
		t.Errorf("left: %q; node %s: %t, directory %s: %t", left, node, Exists(node), run, Exists(run))
	}
}

// leaveAttached attaches and mounts a volume, says so, and waits for its end.
func leaveAttached(t *testing.T) {
	t.Helper()
	b := New(t)
	node := b.Attach(b.CreateVolume(1, ""))
	mount := filepath.Join(b.Dir, "mnt")
	b.Sh("mkfs.ext4 -q " + node + "; mkdir " + mount + "; mount " + node + " " + mount)
	_, _ = os.Stdout.WriteString("attached " + os.Getenv("TMPDIR") + " " + node + "\n")
	select {}
}
