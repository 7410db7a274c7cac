package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Shell returns a shell provisioner.
func Shell(inline ...string) map[string]any {
	return map[string]any{"type": "shell", "inline": inline}
}

// ToJSON returns a value as JSON.
func ToJSON(v any) string {
	raw, _ := json.Marshal(v)
	return string(raw)
}

// Deadline is the limit of every wait of a test. It is long, because the machine may be busy.
const Deadline = 5 * time.Minute

// Command returns packer with the environment of the box. The end of ctx sends SIGINT; EndKilled ends a packer that
// goes on.
func (b *Box) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, Programs.Packer, args...)
	cmd.Env = withOnePlugin(b.Env, args)
	cmd.Dir = b.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// withOnePlugin returns an environment in which packer finds a single plugin if the template, its last argument, names
// one of the builders only. Packer verifies the checksum of each plugin that it finds, and starts it twice, before a build.
func withOnePlugin(env, args []string) []string {
	both := slices.Index(env, "PACKER_PLUGIN_PATH="+Programs.Plugins)
	template := Read(args[len(args)-1])
	named := slices.DeleteFunc(slices.Clone(Flavors), func(f Flavor) bool { return !strings.Contains(template, f.Name) })
	if both < 0 || len(named) != 1 {
		return env
	}
	env = slices.Clone(env)
	env[both] = "PACKER_PLUGIN_PATH=" + Programs.Only(named[0])
	return env
}

// Packer runs packer and returns its output. A build that needs one certain device name is repeated while another test
// process has that name; a process that was killed has it no longer after sweepKilledRuns.
func (b *Box) Packer(args ...string) (string, error) {
	b.Helper()
	for begun := time.Now(); ; time.Sleep(2 * time.Second) {
		out, err := b.packerOnce(args...)
		if err == nil || !nameInUse.MatchString(Flat(out)) || time.Since(begun) > Deadline {
			return out, err
		}
		b.Must(sweepKilledRuns(runsDir))
	}
}

// nameInUse matches the error of a build if its only device name is in use.
var nameInUse = regexp.MustCompile(`no device name is free on this host: tried \[\S+\],|device_path: \S+ is taken`)

func (b *Box) packerOnce(args ...string) (string, error) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Deadline)
	defer cancel()
	cmd := b.Command(ctx, args...)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		b.Errorf("packer %s has not ended in time", strings.Join(args, " "))
		b.EndKilled(cmd)
	}
	return string(out), err
}

// EndKilled kills a packer that SIGINT did not end, and reaps, so that later tests find the host as it was.
func (b *Box) EndKilled(cmd *exec.Cmd) {
	b.Helper()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	for _, f := range Flavors {
		if all, status := b.Reap(f); status != 0 || len(all) > 0 {
			b.Logf("reap: status %d, %+v", status, all)
		}
	}
}

// Template writes a JSON template with one builder and its provisioners, and returns its path.
func (b *Box) Template(builder map[string]any, provisioners ...map[string]any) string {
	b.Helper()
	content, err := json.MarshalIndent(map[string]any{
		"builders":     []any{builder},
		"provisioners": append([]map[string]any{}, provisioners...),
	}, "", "  ")
	if err != nil {
		b.Fatal(err)
	}
	return b.Write("template.json", string(content))
}

// Build builds a template that must succeed, and checks that nothing is left.
func (b *Box) Build(template string, args ...string) string {
	b.Helper()
	out, err := b.Packer(append(append([]string{"build", "-color=false"}, args...), template)...)
	if err != nil {
		b.Fatalf("packer build: %v\n%s\nloopcloud said:\n%s", err, out, b.Output)
	}
	b.Clean()
	return out
}

// Fails builds a template that must fail with all of the texts in its output, and checks that nothing is left.
func (b *Box) Fails(template string, texts ...string) string {
	b.Helper()
	out, err := b.Packer("build", "-color=false", template)
	if err == nil {
		b.Errorf("packer build succeeded, and should have said %q:\n%s", texts, out)
	}
	for _, text := range texts {
		if !strings.Contains(strings.ToLower(Flat(out)), strings.ToLower(Flat(text))) {
			b.Errorf("packer build should have said %q:\n%s", text, out)
		}
	}
	b.Clean()
	return out
}

// Flat removes the line breaks and indentation of Packer's output.
func Flat(s string) string { return strings.Join(strings.Fields(s), " ") }

// Nobody is the ID of a user without rights.
const Nobody = 65534

// AsNobody returns packer as a user without rights, with access to the box.
func (b *Box) AsNobody(args ...string) *exec.Cmd {
	b.Helper()
	for _, dir := range []string{Programs.Plugins, b.Dir} {
		for ; dir != filepath.Dir(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
			b.Must(os.Chmod(dir, 0o755))
		}
	}
	for _, dir := range []string{"tmp", "state", "home"} {
		b.Must(os.Chown(filepath.Join(b.Dir, dir), Nobody, Nobody))
	}
	cmd := b.Command(context.Background(), args...)
	// bin/packer may be a link into a home that only root may enter
	if target, err := filepath.EvalSymlinks(Programs.Packer); err == nil {
		cmd.Path = filepath.Join(b.Dir, "packer")
		b.Must(Run("cp", target, cmd.Path))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: Nobody, Gid: Nobody}}
	return cmd
}

// Sudoers lets the user nobody become root for the time of a test.
func Sudoers(t *testing.T) {
	t.Helper()
	path := fmt.Sprintf("/etc/sudoers.d/packer-chroot-%d-%s", os.Getpid(), regexp.MustCompile(`\W`).ReplaceAllString(t.Name(), "-"))
	if err := os.WriteFile(path, []byte("nobody ALL=(root) NOPASSWD: ALL\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	})
}

// Says fails the test unless the output of a build has all parts.
func (b *Box) Says(output string, parts ...string) {
	b.Helper()
	for _, part := range parts {
		if !strings.Contains(Flat(output), part) {
			b.Errorf("the output does not say %q:\n%s", part, output)
		}
	}
}

// remains is an entry of the output of the command reap.
type remains struct {
	Build, Program, Region, Fate, Problem string
	Undone, Pending                       []string
}

// Reap runs the plugin's command reap, and returns its output and exit status.
func (b *Box) Reap(f Flavor, args ...string) (all []remains, status int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, Programs.Plugin(f), append([]string{"reap", "--json"}, args...)...)
	cmd.Env = b.Env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		b.Fatal(err)
	}
	if err := json.Unmarshal(out, &all); err != nil {
		b.Fatalf("reap says %q, and %s", out, &stderr)
	}
	return all, cmd.ProcessState.ExitCode()
}

// Reaped cleans up after one killed build, and expects the box to be as before.
func (b *Box) Reaped(f Flavor, before []string) {
	b.Helper()
	all, status := b.Reap(f)
	if status != 0 || len(all) != 1 || all[0].Fate != "removed" || all[0].Program != f.Name {
		b.Errorf("status %d, %+v", status, all)
	}
	b.Unchanged(before)
	b.Clean()
	if _, err := os.Stat(filepath.Join(b.Dir, "mnt")); err == nil {
		b.Error("the mount point is left")
	}
	if all, status := b.Reap(f); status != 0 || len(all) != 0 {
		b.Errorf("the second time: status %d, %+v", status, all)
	}
}

// O is an object of a template, or of a fault rule.
type O = map[string]any
