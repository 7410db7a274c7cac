package faults

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// cancel is the point at which a build receives Ctrl-C: while a call is held before or after its
// effect, or while a command of the template runs on the host.
type cancel struct {
	point
	// when is "before" or "after" the effect, or empty.
	when string
	// step is the running option or provisioner, in place of a call.
	step string
}

func (c cancel) String() string {
	if c.step != "" {
		return c.step
	}
	return c.point.String() + ", " + c.when
}

// steps are the options and provisioners that run while no call is made, each with the resource that is undone first.
var steps = map[string]string{
	"pre_mount_commands":   "attachment of vol-",
	"post_mount_commands":  "mount of /dev/",
	"provisioner":          "mount of /dev/",
	"shell-local":          "mount of /dev/",
	"pre_unmount_commands": "mount of /dev/",
}

// created names the resource that must be undone if the build is cancelled after the effect of a call.
var created = map[string]string{
	"CreateVolume": "volume", "CreateTags": "volume", "AttachVolume": "attachment of vol-", "LinkVolume": "attachment of vol-",
	"CreateSnapshot": "snapshot", "StartSnapshot": "snapshot", "RegisterImage": "image", "CreateImage": "image",
}

// template returns a template that reaches the cancelled step, and the file that the step creates.
func (c cancel) template(b *harness.Box, f harness.Flavor) (template, started string) {
	started = filepath.Join(b.Dir, "started")
	wait := "touch " + started + "; sleep 1000"
	switch c.step {
	case "":
		return b.Template(f.Basic(nil), harness.Shell("true")), started
	case "provisioner":
		return b.Template(f.Basic(nil), map[string]any{"type": "shell-local", "inline": []string{"touch " + started}}, harness.Shell("(setsid sleep 1000 &); sleep 1000")), started
	case "shell-local":
		return b.Template(f.Basic(nil), map[string]any{"type": "shell-local", "inline": []string{"touch " + started + "; exec sleep 1000"}}), started
	}
	return b.Template(f.Basic(map[string]any{c.step: []string{wait}}), harness.Shell("true")), started
}

// interrupted is a build that has reached the point at which it receives Ctrl-C.
type interrupted struct {
	*harness.Box
	cmd *exec.Cmd
	out *bytes.Buffer
	end context.CancelFunc
}

// comeTo begins a build and returns it when it reaches the point of the cancel, or nil if it has ended before.
func comeTo(b *harness.Box, f harness.Flavor, c cancel) *interrupted {
	b.Helper()
	b.ForgetBlocks()
	if c.step == "" {
		rule := c.here()
		rule["hold"] = c.when
		b.Control(http.MethodPost, "faults", rule, nil)
	}
	template, started := c.template(b, f)
	_ = os.Remove(started)
	ctx, end := context.WithTimeout(context.Background(), harness.Deadline)
	i := &interrupted{Box: b, cmd: b.Command(ctx, "build", "-color=false", template), out: &bytes.Buffer{}, end: end}
	i.cmd.Stdout, i.cmd.Stderr, i.cmd.WaitDelay = i.out, i.out, 5*time.Second
	i.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	b.Must(i.cmd.Start())
	for begun := time.Now(); time.Since(begun) < harness.Deadline; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(started); err == nil {
			time.Sleep(200 * time.Millisecond) // what comes after the file is at work by now
			return i
		}
		var held []harness.Call
		if b.Control(http.MethodGet, "held", nil, &held); len(held) > 0 {
			return i
		}
		if ended(i.cmd.Process.Pid) {
			break
		}
	}
	_ = i.wait()
	return nil
}

// ended reports whether a child process has ended and has not been waited for.
func ended(pid int) bool {
	_, state, _ := strings.Cut(harness.Read(fmt.Sprintf("/proc/%d/stat", pid)), ") ")
	return state == "" || state[0] == 'Z'
}

// interrupt sends SIGINT to the process group, as Ctrl-C in a terminal does.
func (i *interrupted) interrupt() {
	i.Helper()
	i.Must(syscall.Kill(-i.cmd.Process.Pid, syscall.SIGINT))
}

// wait waits for the end of packer.
func (i *interrupted) wait() error {
	defer i.end()
	return i.cmd.Wait()
}

// cancels returns all points at which a build can be cancelled.
func cancels(b *harness.Box, f harness.Flavor) []cancel {
	b.Helper()
	var all []cancel
	for _, step := range slices.Sorted(maps.Keys(steps)) {
		all = append(all, cancel{step: step})
	}
	for _, p := range points(b, f) {
		for _, when := range []string{"before", "after"} {
			all = append(all, cancel{point: p, when: when})
		}
	}
	return all
}

// shareOfCancels returns all steps, which are first in the list, and a share of the other cancels.
func shareOfCancels(all []cancel, one int) []cancel {
	return append(all[:len(steps):len(steps)], share(all[len(steps):], one)...)
}

// atCancels begins builds up to each point of a share of the cancels, and calls a function there. A point
// that the build does not reach is counted as missed.
func atCancels(t *testing.T, f harness.Flavor, one int, counts *faultCount, act func(*harness.Box, []string, cancel, *interrupted)) {
	t.Helper()
	sideBySide(t, f, shareOfCancels(cancels(harness.New(t, f.Host()...), f), one), cancel.String, func(b *harness.Box, before []string, c cancel) {
		for range tries {
			if i := comeTo(b, f, c); i != nil {
				act(b, before, c, i)
				return
			}
			b.GoOn()
			checkOutcome(b, before, "", true, "")
		}
		counts.add(c.kind(), missed)
	})
}

// TestCancelAnywhere presses Ctrl-C once at every point. The build must undo everything and list it.
func TestCancelAnywhere(t *testing.T) {
	harness.Each(t, harness.Covered(), func(t *testing.T, f harness.Flavor) {
		counts := countCancels("Ctrl-C, once (a build that succeeded had its image already): " + f.String())
		atCancels(t, f, 9, counts, func(b *harness.Box, before []string, c cancel, i *interrupted) {
			i.interrupt()
			if c.when == "after" {
				time.Sleep(50 * time.Millisecond) // the plugin has gone from the call, or is about to
			}
			b.GoOn()
			err := i.wait()
			out := harness.Flat(i.out.String())
			counts.add(c.kind(), map[bool]int{true: succeeded, false: failedClearly}[err == nil])
			if want := c.undone(f); err == nil && c.step != "" || want != "" && err != nil && !strings.Contains(out, "undone: "+want) {
				b.Errorf("packer ended with %v, and does not say that it undid the %s", err, want)
			}
			gone(b)
			if c.action == "DeleteTags" && err != nil { // of a direct build that has succeeded: it is too late
				b.Remove(b.Made().ID)
			}
			checkOutcome(b, before, out, err == nil, "(?i)cancel")
		})
		counts.print(t)
	})
}

// countCancels returns a table with a row for each kind of cancel.
func countCancels(title string) *faultCount {
	counts := newCount(title)
	for _, step := range slices.Sorted(maps.Keys(steps)) {
		counts.order = append(counts.order, cancel{step: step}.kind())
	}
	counts.order = append(counts.order, cancel{when: "before"}.kind(), cancel{when: "after"}.kind())
	return counts
}

// kind returns the row of the table in which the cancel is counted.
func (c cancel) kind() string {
	if c.step != "" {
		return "in " + c.step
	}
	return c.when + " a call's effect"
}

// undone returns the resource that must be undone, or "" if it is not known.
func (c cancel) undone(f harness.Flavor) string {
	if c.step != "" && f.Direct {
		return "snapshot snap-" // it is started first, and undone first
	}
	if c.step != "" {
		return steps[c.step]
	}
	if c.when == "after" {
		return created[c.action]
	}
	return ""
}

// gone waits for the end of all processes of the box's builds. A process that a provisioner started outside of the
// chroot is no child of the plugin.
func gone(b *harness.Box) {
	b.Helper()
	for begun := time.Now(); len(harness.ProcessesWith(b.Marker)) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > harness.Deadline {
			b.Fatalf("still running: %v", harness.ProcessesWith(b.Marker))
		}
	}
}

// TestCancelTwiceAnywhere presses Ctrl-C twice, which ends packer and its plugins at once. The command reap must clean
// up.
func TestCancelTwiceAnywhere(t *testing.T) {
	harness.Each(t, harness.Covered(), func(t *testing.T, f harness.Flavor) {
		counts := countCancels("Ctrl-C, twice, and then reap: " + f.String())
		atCancels(t, f, 11, counts, func(b *harness.Box, before []string, c cancel, i *interrupted) {
			i.interrupt()
			time.Sleep(30 * time.Millisecond) // two at once are one
			i.interrupt()
			_ = i.wait() // however packer ends: it tells nothing of the image then
			b.GoOn()
			gone(b)
			emptied(b, "tmp") // packer's own, which it has had no time for
			reapedAll(b, f)
			ok := len(b.Images()) > 1
			counts.add(c.kind(), map[bool]int{true: succeeded, false: failedClearly}[ok])
			checkOutcome(b, before, harness.Flat(i.out.String()), ok, "")
		})
		counts.print(t)
	})
}

// emptied removes the content of a directory of the box.
func emptied(b *harness.Box, dir string) {
	b.Helper()
	b.Must(remove.All(filepath.Join(b.Dir, dir)))
	b.Must(os.Mkdir(filepath.Join(b.Dir, dir), 0o700))
}
