package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Underway is a build that has reached its last provisioner.
type Underway struct {
	*Box
	Cmd *exec.Cmd
	Out *SyncedText
	// Mount is its mount_path.
	Mount string
	// Over is closed when Packer has ended. Ended is then its error.
	Over  chan struct{}
	Ended error
}

// Begin starts to build a template with the given provisioners.
func (b *Box) Begin(f Flavor, provisioners ...map[string]any) *Underway {
	b.Helper()
	u := &Underway{Box: b, Out: &SyncedText{}, Mount: filepath.Join(b.Dir, "mnt")}
	u.Cmd = b.Command(context.Background(), "build", "-color=false",
		b.Template(f.Basic(map[string]any{"mount_path": u.Mount}), provisioners...))
	u.Cmd.Stdout, u.Cmd.Stderr, u.Cmd.WaitDelay = u.Out, u.Out, time.Second
	if err := u.Cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return u
}

// Until waits for something, and ends the test when it does not come.
func (u *Underway) Until(limit time.Duration, what string, is func() bool) {
	u.Helper()
	for begun := time.Now(); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > limit {
			_ = u.Cmd.Process.Kill()
			_ = u.Cmd.Wait()
			u.Fatalf("not %s within %v:\n%s", what, limit, u.Out)
		}
	}
}

// Process finds the build's process with these first arguments.
func (u *Underway) Process(program, verb string) (pid int) {
	for _, pid := range allPids() {
		args := strings.Split(Read(fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00")
		if len(args) > 1 && strings.HasPrefix(filepath.Base(args[0]), program) && args[1] == verb && isWith(pid, u.Marker) {
			return pid
		}
	}
	return 0
}

// ServeDisk is the first argument of a block server; the second one is the name of its disk.
const ServeDisk = "serve-lazy-disk"

// Disks returns the names of the direct disks that the build's processes serve.
func (u *Underway) Disks() (names []string) {
	for _, pid := range PidsWith(u.Marker) {
		if args := strings.Split(Read(fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00"); len(args) > 2 && args[1] == ServeDisk {
			names = append(names, args[2])
		}
	}
	return names
}

// Inside counts the processes in the build's chroot.
func (u *Underway) Inside() (n int) {
	for _, pid := range allPids() {
		if target, err := os.Readlink(fmt.Sprintf("/proc/%d/root", pid)); err == nil && strings.HasPrefix(target, u.Mount) {
			n++
		}
	}
	return n
}

func (u *Underway) mounted() bool { return strings.Contains(Read("/proc/self/mountinfo"), u.Mount) }

// Left reports whether the root was left: nothing runs in the chroot, nothing is mounted, and the directory
// that was created for the mount is removed.
func (u *Underway) Left() bool {
	_, err := os.Stat(u.Mount)
	return u.Inside() == 0 && !u.mounted() && err != nil
}

// Further targets.
const (
	KillKeeper Target = "keeper"
	KillPacker Target = "Packer"
	// KillServer is the block server of a direct build.
	KillServer Target = "block server"
)

// KillOnly kills processes of the build.
func (u *Underway) KillOnly(f Flavor, target Target) {
	u.Helper()
	switch target {
	case KillKeeper, KillServer:
		u.Signal(f, target, syscall.SIGKILL)
	case KillPacker:
		for _, pid := range PidsWith(u.Marker) {
			exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
			if IsPacker(exe) {
				u.signal(pid, syscall.SIGKILL)
			}
		}
	default:
		u.kill(f, target)
	}
}

// IsPacker reports whether a program is Packer itself, which is cached by another name.
func IsPacker(exe string) bool {
	name := filepath.Base(exe)
	return strings.HasPrefix(name, "packer") && !strings.HasPrefix(name, "packer-plugin-")
}

// Signal sends a signal to the keeper or to the block server.
func (u *Underway) Signal(f Flavor, target Target, signal syscall.Signal) {
	u.Helper()
	verb := map[Target]string{KillKeeper: "keep-chroot", KillServer: ServeDisk}[target]
	u.signal(u.Process("packer-plugin-"+f.Name, verb), signal)
}

func (u *Underway) signal(pid int, signal syscall.Signal) {
	u.Helper()
	if pid == 0 {
		u.Error("there is no process to kill")
		return
	}
	if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		u.Error(err)
	}
}

// SyncedText collects the output of a running process.
type SyncedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *SyncedText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *SyncedText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// Moment is the point at which a build is killed: at a call, before or after its effect, or in
// its provisioner if there is no action.
type Moment struct {
	// action is as EC2 calls it.
	action string
	when   string
}

// Before is the moment before a call of EC2's action has its effect.
func Before(action string) Moment { return Moment{action: action, when: "before"} }

// After is the moment after a call of EC2's action has had its effect.
func After(action string) Moment { return Moment{action: action, when: "after"} }

func (m Moment) String() string { return strings.TrimSpace(m.when + " " + m.action) }

// Provisioning is the moment at which everything is attached, mounted and in use.
var Provisioning = Moment{when: "provisioning"}

// Target names the processes of a build that are killed.
type Target string

const (
	// KillPlugin is the plugin alone.
	KillPlugin Target = "plugin"
	// KillPluginAndKeeper is the plugin with its keeper.
	KillPluginAndKeeper Target = "plugin and keeper"
	// KillEverything is each process of the build.
	KillEverything Target = "everybody"
)

// KillAt begins a build and kills it at a moment. Processes in the chroot survive, and a keeper that survives is about
// to leave.
func (b *Box) KillAt(f Flavor, m Moment, target Target) {
	b.Helper()
	started := filepath.Join(b.Dir, "started")
	_ = os.Remove(started)
	steps := []map[string]any{{"type": "shell-local", "inline": []string{"touch " + started}}}
	if m == Provisioning {
		steps = append(steps, Shell("(setsid sleep 1000 &) ; sleep 1000"))
	} else {
		b.Control(http.MethodPost, "faults", map[string]any{"action": f.Action(m.action), "hold": m.when, "times": 1}, nil)
	}
	u := b.Begin(f, steps...)
	if m == Provisioning {
		u.Until(Deadline, "at work", func() bool { return u.Inside() >= 3 })
	} else {
		var held []struct{ Action string }
		b.Control(http.MethodGet, "held?wait=60s", nil, &held)
		if len(held) != 1 {
			_ = u.Cmd.Process.Kill()
			b.Fatalf("the build does not come to %v: %v\n%s", m, u.Cmd.Wait(), u.Out)
		}
	}
	u.kill(f, target)
	_ = u.Cmd.Wait() // it was killed, or tells that its plugin was
	b.Control(http.MethodDelete, "faults", nil, nil)
	b.Control(http.MethodDelete, "held", nil, nil)
	b.EmptyTmp()
}

// kill ends processes of the build with SIGKILL, all at once. The plugin's keeper is
// stopped before, if it is to be killed: it must not begin to leave.
func (u *Underway) kill(f Flavor, target Target) {
	u.Helper()
	plugin, keeper := u.Process("packer-plugin-"+f.Name, "start"), u.Process("packer-plugin-"+f.Name, "keep-chroot")
	pids := []int{plugin, keeper}
	switch target {
	case KillPlugin:
		pids = pids[:1]
	case KillEverything:
		pids = append(pids, PidsWith(u.Marker)...)
	case KillPluginAndKeeper:
	}
	if slices.Contains(pids, 0) {
		_ = u.Cmd.Process.Kill()
		u.Fatalf("plugin %d, keeper %d", plugin, keeper)
	}
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, pid := range pids {
			if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				u.Error(err)
			}
		}
	}
}
