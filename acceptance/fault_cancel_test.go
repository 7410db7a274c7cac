package acceptance

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

	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// A cancel is where a build gets Ctrl-C: while a call of the cloud is held before or
// after its effect, or while something that the template says is at work on the host.
type cancel struct {
	point
	// when is "before" or "after" the effect, or empty.
	when string
	// step is what is at work in place of a call.
	step string
}

func (c cancel) String() string {
	if c.step != "" {
		return c.step
	}
	return c.point.String() + ", " + c.when
}

// steps are what a template can have at work when nothing is asked of the cloud, and
// what is undone first then.
var steps = map[string]string{
	"pre_mount_commands":   "attachment of vol-",
	"post_mount_commands":  "mount of /dev/",
	"provisioner":          "mount of /dev/",
	"shell-local":          "mount of /dev/",
	"pre_unmount_commands": "mount of /dev/",
}

// created says what must be undone if the build is cancelled after the effect of a
// call.
var created = map[string]string{
	"CreateVolume": "volume", "CreateTags": "volume", "AttachVolume": "attachment of vol-", "LinkVolume": "attachment of vol-",
	"CreateSnapshot": "snapshot", "RegisterImage": "image", "CreateImage": "image",
}

// template is one that comes to what is to be cancelled. What is at work there tells
// of it by a file.
func (c cancel) template(b *box, f flavor) (template, started string) {
	started = filepath.Join(b.dir, "started")
	wait := "touch " + started + "; sleep 1000"
	switch c.step {
	case "":
		return b.template(f.basic(nil), shell("true")), started
	case "provisioner":
		return b.template(f.basic(nil), map[string]any{"type": "shell-local", "inline": []string{"touch " + started}}, shell("(setsid sleep 1000 &); sleep 1000")), started
	case "shell-local":
		return b.template(f.basic(nil), map[string]any{"type": "shell-local", "inline": []string{"touch " + started + "; exec sleep 1000"}}), started
	}
	return b.template(f.basic(map[string]any{c.step: []string{wait}}), shell("true")), started
}

// An interrupted build is one that has come to where it gets Ctrl-C.
type interrupted struct {
	*box
	cmd *exec.Cmd
	out *bytes.Buffer
	end context.CancelFunc
}

// comeTo begins a build, and answers it when it is where it is to be cancelled; nil if
// it has ended without.
func (b *box) comeTo(f flavor, c cancel) *interrupted {
	b.t.Helper()
	if c.step == "" {
		rule := c.here()
		rule["hold"] = c.when
		b.control(http.MethodPost, "faults", rule, nil)
	}
	template, started := c.template(b, f)
	_ = os.Remove(started)
	ctx, end := context.WithTimeout(context.Background(), deadline)
	i := &interrupted{box: b, cmd: b.command(ctx, "build", "-color=false", template), out: &bytes.Buffer{}, end: end}
	i.cmd.Stdout, i.cmd.Stderr, i.cmd.WaitDelay = i.out, i.out, 5*time.Second
	i.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	b.must(i.cmd.Start())
	for begun := time.Now(); time.Since(begun) < deadline; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(started); err == nil {
			time.Sleep(200 * time.Millisecond) // what comes after the file is at work by now
			return i
		}
		var held []call
		if b.control(http.MethodGet, "held", nil, &held); len(held) > 0 {
			return i
		}
		if ended(i.cmd.Process.Pid) {
			break
		}
	}
	_ = i.wait()
	return nil
}

// ended tells whether a child has ended, and nobody has waited for it yet.
func ended(pid int) bool {
	_, state, _ := strings.Cut(read(fmt.Sprintf("/proc/%d/stat", pid)), ") ")
	return state == "" || state[0] == 'Z'
}

// strike does what Ctrl-C in a terminal does.
func (i *interrupted) strike() {
	i.t.Helper()
	i.must(syscall.Kill(-i.cmd.Process.Pid, syscall.SIGINT))
}

// wait waits for the end of packer.
func (i *interrupted) wait() error {
	defer i.end()
	return i.cmd.Wait()
}

// goOn lets the cloud answer.
func (b *box) goOn() {
	b.t.Helper()
	b.control(http.MethodDelete, "faults", nil, nil)
	b.control(http.MethodDelete, "held", nil, nil)
}

// cancels are all the places where a build can be cancelled.
func (b *box) cancels(f flavor) []cancel {
	b.t.Helper()
	var all []cancel
	for _, step := range slices.Sorted(maps.Keys(steps)) {
		all = append(all, cancel{step: step})
	}
	for _, p := range b.points(f) {
		for _, when := range []string{"before", "after"} {
			all = append(all, cancel{point: p, when: when})
		}
	}
	return all
}

// steps come first, and are done every time.
func shareOfCancels(all []cancel, one int) []cancel {
	return append(all[:len(steps):len(steps)], share(all[len(steps):], one)...)
}

// atCancels has a build come to each point of a share of them, and acts there. A point
// that the build does not come to is counted as missed.
func atCancels(t *testing.T, f flavor, one int, counts *faultCount, act func(*box, []string, cancel, *interrupted)) {
	t.Helper()
	sideBySide(t, shareOfCancels(newBox(t).cancels(f), one), cancel.String, func(b *box, before []string, c cancel) {
		for range tries {
			if i := b.comeTo(f, c); i != nil {
				act(b, before, c, i)
				return
			}
			b.goOn()
			b.as(before, "", true, "")
		}
		counts.add(c.kind(), missed)
	})
}

// TestCancelAnywhere has Ctrl-C pressed once at every point: everything is undone, and
// the build says what.
func TestCancelAnywhere(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		counts := countCancels("Ctrl-C, once (what succeeded had its image by then): " + f.name)
		atCancels(t, f, 5, counts, func(b *box, before []string, c cancel, i *interrupted) {
			i.strike()
			if c.when == "after" {
				time.Sleep(50 * time.Millisecond) // the plugin has gone from the call, or is about to
			}
			b.goOn()
			err := i.wait()
			out := flat(i.out.String())
			counts.add(c.kind(), map[bool]int{true: succeeded, false: failedClearly}[err == nil])
			if want := c.undone(); err == nil && c.step != "" || want != "" && err != nil && !strings.Contains(out, "undone: "+want) {
				b.t.Errorf("packer ended with %v, and does not say that it undid the %s", err, want)
			}
			b.gone()
			b.as(before, out, err == nil, "(?i)cancel")
		})
		counts.print(t)
	})
}

// countCancels counts the builds of each kind of cancel.
func countCancels(title string) *faultCount {
	counts := newCount(title)
	for _, step := range slices.Sorted(maps.Keys(steps)) {
		counts.order = append(counts.order, cancel{step: step}.kind())
	}
	counts.order = append(counts.order, cancel{when: "before"}.kind(), cancel{when: "after"}.kind())
	return counts
}

// kind is what is counted together.
func (c cancel) kind() string {
	if c.step != "" {
		return "in " + c.step
	}
	return c.when + " a call's effect"
}

// undone is what must be undone, if it can be told.
func (c cancel) undone() string {
	if c.step != "" {
		return steps[c.step]
	}
	if c.when == "after" {
		return created[c.action]
	}
	return ""
}

// gone waits for the end of every process of the box's builds: what a provisioner has
// started beside the chroot is no child of the plugin's.
func (b *box) gone() {
	b.t.Helper()
	for begun := time.Now(); len(processesWith(b.marker)) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > deadline {
			b.t.Fatalf("still running: %v", processesWith(b.marker))
		}
	}
}

// TestCancelTwiceAnywhere has Ctrl-C pressed again at once, which makes packer end, and
// its plugins with it, whatever they are doing: what is left then, the command reap
// cleans up.
func TestCancelTwiceAnywhere(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		counts := countCancels("Ctrl-C, twice, and then reap: " + f.name)
		atCancels(t, f, 7, counts, func(b *box, before []string, c cancel, i *interrupted) {
			i.strike()
			time.Sleep(30 * time.Millisecond) // two at once are one
			i.strike()
			_ = i.wait() // however packer ends: it tells nothing of the image then
			b.goOn()
			b.gone()
			b.emptied("tmp") // packer's own, which it has had no time for
			b.reapedAll(f)
			ok := len(b.images()) > 1
			counts.add(c.kind(), map[bool]int{true: succeeded, false: failedClearly}[ok])
			b.as(before, flat(i.out.String()), ok, "")
		})
		counts.print(t)
	})
}

// emptied removes what is in a directory of the box.
func (b *box) emptied(dir string) {
	b.t.Helper()
	b.must(remove.All(filepath.Join(b.dir, dir)))
	b.must(os.Mkdir(filepath.Join(b.dir, dir), 0o700))
}
