package acceptance

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nobody is a user without rights.
const nobody = 65534

// underway is a build that has reached its last provisioner.
type underway struct {
	*box
	cmd *exec.Cmd
	out *syncedText
	// mount is its mount_path.
	mount string
	// over is closed when Packer has ended, and ended is then how; of builds that
	// somebody else waits for.
	over  chan struct{}
	ended error
}

// begin starts to build a template with the given provisioners.
func (b *box) begin(f flavor, provisioners ...map[string]any) *underway {
	b.t.Helper()
	u := &underway{box: b, out: &syncedText{}, mount: filepath.Join(b.dir, "mnt")}
	u.cmd = b.command(context.Background(), "build", "-color=false",
		b.template(f.basic(map[string]any{"mount_path": u.mount}), provisioners...))
	u.cmd.Stdout, u.cmd.Stderr, u.cmd.WaitDelay = u.out, u.out, time.Second
	if err := u.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	return u
}

// until waits for something, and ends the test when it does not come.
func (u *underway) until(limit time.Duration, what string, is func() bool) {
	u.t.Helper()
	for begun := time.Now(); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > limit {
			_ = u.cmd.Process.Kill()
			_ = u.cmd.Wait()
			u.t.Fatalf("not %s within %v:\n%s", what, limit, u.out)
		}
	}
}

// process finds the build's process with these first arguments.
func (u *underway) process(program, verb string) (pid int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		dir := filepath.Dir(file)
		args := strings.Split(read(file), "\x00")
		if len(args) > 1 && strings.HasPrefix(filepath.Base(args[0]), program) && args[1] == verb &&
			strings.Contains(read(filepath.Join(dir, "environ")), u.marker+"\x00") {
			pid, _ = strconv.Atoi(filepath.Base(dir))
			return pid
		}
	}
	return 0
}

// inside counts the processes in the build's chroot.
func (u *underway) inside() (n int) {
	links, _ := filepath.Glob("/proc/[0-9]*/root")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, u.mount) {
			n++
		}
	}
	return n
}

func (u *underway) mounted() bool { return strings.Contains(read("/proc/self/mountinfo"), u.mount) }

// left reports whether nothing runs in the chroot, nothing is mounted, and the directory
// that was made for the mount is gone.
func (u *underway) left() bool {
	_, err := os.Stat(u.mount)
	return u.inside() == 0 && !u.mounted() && err != nil
}

// TestPluginKilled: nothing runs in the chroot, and nothing is mounted.
func TestPluginKilled(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		u := b.begin(f, shell("(setsid sleep 1000 &) ; trap '' HUP INT TERM; sleep 1000 & sleep 1000"))
		u.until(deadline, "at work", func() bool { return u.inside() >= 4 })
		plugin := u.process("packer-plugin-"+f.name, "start")
		if plugin == 0 {
			t.Error("the plugin is not found")
		}
		b.must(syscall.Kill(plugin, syscall.SIGKILL))
		u.until(deadline, "left", u.left)
		if err := u.cmd.Wait(); err == nil {
			t.Errorf("packer ended well:\n%s", u.out)
		}
		b.emptyTmp()
		b.reaped(f, before) // what the keeper does not do: it knows nothing of the cloud
	})
}

// TestKeeperKilled: the build fails, says why, and undoes everything.
func TestKeeperKilled(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		for name, provisioner := range map[string]func(started string) map[string]any{
			"in a command": func(string) map[string]any { return shell("(setsid sleep 1000 &) ; sleep 1000") },
			"beside the chroot": func(started string) map[string]any {
				return map[string]any{"type": "shell-local", "inline": []string{"while [ -e " + started + " ]; do sleep 0.1; done"}}
			},
		} {
			t.Run(name, func(t *testing.T) {
				b := newBox(t)
				before := b.inventory()
				started := filepath.Join(b.dir, "started")
				u := b.begin(f, map[string]any{"type": "shell-local", "inline": []string{"touch " + started}}, provisioner(started))
				u.until(deadline, "at work", func() bool { _, err := os.Stat(started); return err == nil })
				keeper := u.process("packer-plugin-"+f.name, "keep-chroot")
				if keeper == 0 {
					t.Error("the keeper is not found")
				}
				if name == "in a command" {
					u.until(deadline, "at work", func() bool { return u.inside() >= 3 })
				}
				b.must(syscall.Kill(keeper, syscall.SIGKILL))
				failed := make(chan error, 1)
				go func() { failed <- u.cmd.Wait() }()
				select {
				case err := <-failed:
					if err == nil {
						t.Errorf("packer ended well:\n%s", u.out)
					}
				case <-time.After(deadline):
					_ = u.cmd.Process.Kill()
					t.Errorf("the build goes on:\n%s", <-failed)
				}
				if !strings.Contains(flat(u.out.String()), "the keeper, which has the build's mounts, is gone") {
					t.Errorf("it does not say why:\n%s", u.out)
				}
				// Packer ends the shell of a shell-local, not what that started
				b.must(os.Remove(started))
				u.until(deadline, "ended", func() bool { return len(processesWith(b.marker)) == 0 })
				b.clean()
				b.unchanged(before)
			})
		}
	})
}

// asNobody is packer as a user without rights, in a box that this user may use.
func (b *box) asNobody(args ...string) *exec.Cmd {
	b.t.Helper()
	for _, dir := range []string{programs.plugins, b.dir} {
		for ; dir != filepath.Dir(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
			b.must(os.Chmod(dir, 0o755))
		}
	}
	for _, dir := range []string{"tmp", "state", "home"} {
		b.must(os.Chown(filepath.Join(b.dir, dir), nobody, nobody))
	}
	cmd := b.command(context.Background(), args...)
	// bin/packer may be a link into a home that only root may enter
	if target, err := filepath.EvalSymlinks(programs.packer); err == nil {
		cmd.Path = filepath.Join(b.dir, "packer")
		b.must(run("cp", target, cmd.Path))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

// sudoers lets nobody become root for the time of a test.
func sudoers(t *testing.T) {
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

// TestSudo builds as a user who is not root.
func TestSudo(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		sudoers(t)
		b := newBox(t)
		up, down := b.write("up", "uploaded\n"), filepath.Join(b.dir, "home", "down")
		tree := b.write("tree/sub/file", "in a directory\n")
		downDir := filepath.Join(b.dir, "home", "downdir") + "/"
		template := b.template(f.basic(map[string]any{
			"command_wrapper":     "sudo {{.Command}}",
			"pre_mount_commands":  []string{"blockdev --getsize64 {{.Device}}"},
			"post_mount_commands": []string{"mkdir {{.MountPath}}/from-the-host"},
		}),
			shell("id -u > /root/uid", `printf '%s' "$PACKER_BUILD_TEST" > /root/env`, "echo '$HOME `id`' > /root/quoted"),
			map[string]any{"type": "file", "source": up, "destination": "/root/up"},
			map[string]any{"type": "file", "source": filepath.Dir(filepath.Dir(tree)), "destination": "/root"},
			map[string]any{"type": "file", "direction": "download", "source": "/root/uid", "destination": down},
			map[string]any{"type": "file", "direction": "download", "source": "/root/tree/", "destination": downDir},
		)
		out, err := b.asNobody("build", "-color=false", template).CombinedOutput()
		if err != nil {
			t.Fatalf("packer build: %v\n%s", err, out)
		}
		b.clean()
		disk := b.disk(b.made().ID)
		for path, want := range map[string]string{
			"/root/uid": "0\n", "/root/up": "uploaded\n", "/root/quoted": "$HOME `id`\n", "/root/tree/sub/file": "in a directory\n",
			"/root/env": strings.TrimPrefix(b.marker, "PACKER_BUILD_TEST="),
		} {
			if got := b.content(disk, path); got != want {
				t.Errorf("%s holds %q, want %q", path, got, want)
			}
		}
		if stat := b.debugfs(disk, 1<<20, "stat /from-the-host"); !strings.Contains(stat, "Type: directory") {
			t.Errorf("the post-mount command made nothing:\n%s", stat)
		}
		for path, want := range map[string]string{down: "0\n", downDir + "sub/file": "in a directory\n"} {
			info, err := os.Stat(path)
			if err != nil || read(path) != want || info.Sys().(*syscall.Stat_t).Uid != nobody {
				t.Errorf("%s is %q of %+v, %v", path, read(path), info, err)
			}
		}
	})
}

// TestWrapperThatPrintsSecrets: the wrapper runs before the build reads its keys, and the
// error that repeats its output has none of them.
func TestWrapperThatPrintsSecrets(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		out := b.fails(b.template(f.basic(o{"command_wrapper": "env; exit 3; {{.Command}}"})), "exit status 3")
		if !strings.Contains(out, "SECRET_ACCESS_KEY=<sensitive>") && !strings.Contains(out, "OSC_SECRET_KEY=<sensitive>") {
			t.Errorf("no secret was printed and hidden:\n%s", out)
		}
		for _, line := range strings.Split(out, "\n") {
			if name, value, ok := strings.Cut(line, "="); ok && strings.Contains(name, "SECRET") && value != "<sensitive>" {
				t.Errorf("the output has the secret %s", name)
			}
		}
		b.clean()
	})
}

// TestWrapperWithoutRoot: nothing is asked of the cloud.
func TestWrapperWithoutRoot(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		for wrapper, says := range map[string]string{
			"env WRAPPED=yes {{.Command}}":   "gives the rights of user 65534",
			"sudo --bogus-flag {{.Command}}": "ended before it reported: exit status 1",
		} {
			b := newBox(t)
			b.calls()
			out, err := b.asNobody("build", "-color=false", b.template(f.basic(map[string]any{"command_wrapper": wrapper}))).CombinedOutput()
			if err == nil || !strings.Contains(flat(string(out)), says) || !strings.Contains(string(out), "command_wrapper") {
				t.Errorf("%q: %v:\n%s", wrapper, err, out)
			}
			if calls := b.calls(); len(calls) != 0 {
				t.Errorf("the cloud was called: %v", calls)
			}
			b.clean()
		}
	})
}
