package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// A moment is where a build is killed: at a call of the cloud, before or after that
// has had its effect, or in its provisioner if there is no action.
type moment struct {
	// action is as EC2 calls it.
	action string
	when   string
}

func (m moment) String() string { return strings.TrimSpace(m.when + " " + m.action) }

// provisioning is the moment in which everything is attached, mounted and in use.
var provisioning = moment{when: "provisioning"}

// oapiNames are the actions that Outscale's API calls otherwise.
var oapiNames = map[string]string{"AttachVolume": "LinkVolume", "DetachVolume": "UnlinkVolume", "RegisterImage": "CreateImage"}

// nameOf is an action in the flavor's own words.
func (f flavor) nameOf(action string) string {
	if name, ok := oapiNames[action]; ok && f.name == "osc-chroot" {
		return name
	}
	return action
}

// killed says who is killed: the plugin alone, or its keeper, Packer and all others of
// the build as well.
type killed string

const (
	thePlugin killed = "plugin"
	theKeeper killed = "plugin and keeper"
	everybody killed = "everybody"
)

// killAt begins a build, and kills it at a moment. What ran in the chroot runs on, and
// a keeper that lives is about to leave.
func (b *box) killAt(f flavor, m moment, whom killed) {
	b.t.Helper()
	started := filepath.Join(b.dir, "started")
	_ = os.Remove(started)
	steps := []map[string]any{{"type": "shell-local", "inline": []string{"touch " + started}}}
	if m == provisioning {
		steps = append(steps, shell("(setsid sleep 1000 &) ; sleep 1000"))
	} else {
		b.control(http.MethodPost, "faults", map[string]any{"action": f.nameOf(m.action), "hold": m.when, "times": 1}, nil)
	}
	u := b.begin(f, steps...)
	if m == provisioning {
		u.until(deadline, "at work", func() bool { return u.inside() >= 3 })
	} else {
		var held []struct{ Action string }
		b.control(http.MethodGet, "held?wait=60s", nil, &held)
		if len(held) != 1 {
			_ = u.cmd.Process.Kill()
			b.t.Fatalf("the build does not come to %v: %v\n%s", m, u.cmd.Wait(), u.out)
		}
	}
	u.kill(f, whom)
	_ = u.cmd.Wait() // it was killed, or tells that its plugin was
	b.control(http.MethodDelete, "faults", nil, nil)
	b.control(http.MethodDelete, "held", nil, nil)
	b.emptyTmp()
}

// emptyTmp removes the temporary files of a Packer that was killed. The plugin's are not
// Packer's.
func (b *box) emptyTmp() {
	b.t.Helper()
	files, _ := filepath.Glob(filepath.Join(b.dir, "tmp", "*"))
	for _, file := range files {
		if !slices.Contains(b.keepersTmp(), file) {
			b.must(remove.All(file))
		}
	}
}

// keepersTmp are the directories of keepers' sockets.
func (b *box) keepersTmp() []string {
	dirs, _ := filepath.Glob(filepath.Join(b.dir, "tmp", "packer-chroot-*"))
	return dirs
}

// kill ends processes of the build with SIGKILL, all at once. The plugin's keeper is
// stopped before, if it is to be killed: it must not begin to leave.
func (u *underway) kill(f flavor, whom killed) {
	u.t.Helper()
	plugin, keeper := u.process("packer-plugin-"+f.name, "start"), u.process("packer-plugin-"+f.name, "keep-chroot")
	pids := []int{plugin, keeper}
	switch whom {
	case thePlugin:
		pids = pids[:1]
	case everybody:
		pids = append(pids, pidsWith(u.marker)...)
	case theKeeper:
	}
	if slices.Contains(pids, 0) {
		_ = u.cmd.Process.Kill()
		u.t.Fatalf("plugin %d, keeper %d", plugin, keeper)
	}
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, pid := range pids {
			if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				u.t.Error(err)
			}
		}
	}
}

// pidsWith finds the processes that have the entry in their environment.
func pidsWith(entry string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		if strings.Contains("\x00"+read(file), "\x00"+entry+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// remains is what the command reap tells of a build.
type remains struct {
	Build, Program, Region, Fate, Problem string
	Undone, Pending                       []string
}

// reap runs the plugin's command, and answers what it tells and its exit status.
func (b *box) reap(f flavor, args ...string) (all []remains, status int) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(programs.loopcloud), "packer-plugin-"+f.name), append([]string{"reap", "--json"}, args...)...)
	cmd.Env = b.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	if err := json.Unmarshal(out, &all); err != nil {
		b.t.Fatalf("reap says %q, and %s", out, &stderr)
	}
	return all, cmd.ProcessState.ExitCode()
}

// reaped cleans up after one killed build, and expects the box to be as before.
func (b *box) reaped(f flavor, before []string) {
	b.t.Helper()
	all, status := b.reap(f)
	if status != 0 || len(all) != 1 || all[0].Fate != "removed" || all[0].Program != f.name {
		b.t.Errorf("status %d, %+v", status, all)
	}
	b.unchanged(before)
	b.clean()
	if _, err := os.Stat(filepath.Join(b.dir, "mnt")); err == nil {
		b.t.Error("the mount point is left")
	}
	if all, status := b.reap(f); status != 0 || len(all) != 0 {
		b.t.Errorf("the second time: status %d, %+v", status, all)
	}
}

// TestKilledIsReaped kills builds at some of their moments, and cleans up.
func TestKilledIsReaped(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		for _, test := range []struct {
			moment
			killed
		}{
			{moment{"CreateVolume", "before"}, thePlugin},
			{moment{"CreateVolume", "after"}, everybody},
			{moment{"AttachVolume", "before"}, everybody},
			{moment{"AttachVolume", "after"}, theKeeper},
			{provisioning, thePlugin},
			{provisioning, theKeeper},
			{provisioning, everybody},
			{moment{"CreateSnapshot", "after"}, thePlugin},
			{moment{"DetachVolume", "before"}, everybody},
			{moment{"RegisterImage", "before"}, everybody},
			{moment{"RegisterImage", "after"}, theKeeper},
		} {
			t.Run(fmt.Sprintf("%v, %s", test.moment, test.killed), func(t *testing.T) {
				outer := b.t
				b.t = t
				defer func() { b.t = outer }()
				b.killAt(f, test.moment, test.killed)
				b.reaped(f, before)
			})
		}
	})
}

// TestReapDryRun tells what would be done, and changes nothing.
func TestReapDryRun(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		b.killAt(f, provisioning, everybody)
		left := b.inventory()
		all, status := b.reap(f, "--dry-run")
		if status != 1 || len(all) != 1 || all[0].Fate != "due" || len(all[0].Undone) > 0 {
			t.Fatalf("status %d, %+v", status, all)
		}
		for i, part := range []string{"mount of /dev/", "attachment of vol-", "reservation of /dev/", "volume vol-"} {
			if !strings.Contains(all[0].Pending[i], part) {
				t.Errorf("what is %d to go is %q, not %q", i+1, all[0].Pending[i], part)
			}
		}
		b.unchanged(left)
		if !strings.Contains(read("/proc/self/mountinfo"), filepath.Join(b.dir, "mnt")) {
			t.Error("the root is not mounted any more")
		}
		b.reaped(f, before)
	})
}

// TestNextBuildReaps: what a killed build has left goes with the next build, though
// it has the mount path that this one wants.
func TestNextBuildReaps(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		b.killAt(f, provisioning, everybody)
		out := b.build(b.template(f.basic(map[string]any{"mount_path": filepath.Join(b.dir, "mnt")}), shell("true")))
		if !strings.Contains(out, "killed build") {
			t.Errorf("the build does not tell:\n%s", out)
		}
		b.remove(b.made().ID)
		b.unchanged(before)
	})
}

// TestReapOnAnotherPort: a cloud that is started again elsewhere is still the same.
func TestReapOnAnotherPort(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		b.killAt(f, moment{"AttachVolume", "before"}, everybody)
		endpoint := b.endpoint
		b.stop()
		hold, err := net.Listen("tcp", strings.TrimPrefix(endpoint, "http://")) // so that it gets another port
		b.must(err)
		defer hold.Close()
		b.serve()
		b.env = b.environment(b.described(everything))
		all, status := b.reap(f)
		if status != 0 || len(all) != 1 || all[0].Fate != "removed" {
			t.Errorf("status %d, %+v", status, all)
		}
		b.unchanged(before)
	})
}

// TestReapForgets: the journal of a cloud that is no more can be removed.
func TestReapForgets(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		b.killAt(f, moment{"CreateVolume", "before"}, everybody)
		all, status := b.reap(f, "--dry-run")
		if status != 1 || len(all) != 1 || all[0].Fate != "due" {
			t.Fatalf("status %d, %+v", status, all)
		}
		all, status = b.reap(f, "--forget", all[0].Build)
		if status != 0 || len(all) != 1 || all[0].Fate != "forgotten" || len(all[0].Pending) != 1 {
			t.Errorf("status %d, %+v", status, all)
		}
		if all, status = b.reap(f); status != 0 || len(all) > 0 {
			t.Errorf("then: status %d, %+v", status, all)
		}
		b.unchanged(before)
	})
}

// TestReapLeavesTheLiving: a build next door goes on.
func TestReapLeavesTheLiving(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		started, done := filepath.Join(b.dir, "started"), filepath.Join(b.dir, "done")
		u := b.begin(f,
			map[string]any{"type": "shell-local", "inline": []string{"touch " + started + "; while [ ! -e " + done + " ]; do sleep 0.1; done"}},
			shell("echo alive > /root/alive"))
		u.until(deadline, "at work", func() bool { _, err := os.Stat(started); return err == nil })
		for _, args := range [][]string{nil, {"--dry-run"}} {
			if all, status := b.reap(f, args...); status != 0 || len(all) != 1 || all[0].Fate != "living" {
				t.Errorf("%v: status %d, %+v", args, status, all)
			}
		}
		b.must(os.WriteFile(done, nil, 0o600))
		if err := u.cmd.Wait(); err != nil {
			t.Fatalf("packer build: %v\n%s", err, u.out)
		}
		b.clean()
		made := b.made().ID
		if got := b.content(b.disk(made), "/root/alive"); got != "alive\n" {
			t.Errorf("the image holds %q", got)
		}
		b.remove(made)
		b.unchanged(before)
	})
}
