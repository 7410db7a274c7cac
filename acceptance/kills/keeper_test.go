package kills

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// TestPluginKilled checks that nothing runs in the chroot, and nothing is mounted, after the
// plugin was killed.
func TestPluginKilled(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		u := b.Begin(f, harness.Shell("(setsid sleep 1000 &) ; trap '' HUP INT TERM; sleep 1000 & sleep 1000"))
		u.Until(harness.Deadline, "at work", func() bool { return u.Inside() >= 4 })
		plugin := u.Process("packer-plugin-"+f.Name, "start")
		if plugin == 0 {
			t.Error("the plugin is not found")
		}
		b.Must(syscall.Kill(plugin, syscall.SIGKILL))
		u.Until(harness.Deadline, "left", u.Left)
		if err := u.Cmd.Wait(); err == nil {
			t.Errorf("packer ended well:\n%s", u.Out)
		}
		b.EmptyTmp()
		b.Reaped(f, before) // what the keeper does not do: it knows nothing of the cloud
	})
}

// TestKeeperKilled checks that the build fails with the cause, and undoes everything, if the
// keeper is killed.
func TestKeeperKilled(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		for name, provisioner := range map[string]func(started string) map[string]any{
			"in a command": func(string) map[string]any { return harness.Shell("(setsid sleep 1000 &) ; sleep 1000") },
			"beside the chroot": func(started string) map[string]any {
				return map[string]any{"type": "shell-local", "inline": []string{"while [ -e " + started + " ]; do sleep 0.1; done"}}
			},
		} {
			t.Run(name, func(t *testing.T) {
				b := harness.New(t)
				before := b.Inventory()
				started := filepath.Join(b.Dir, "started")
				u := b.Begin(f, map[string]any{"type": "shell-local", "inline": []string{"touch " + started}}, provisioner(started))
				u.Until(harness.Deadline, "at work", func() bool { _, err := os.Stat(started); return err == nil })
				keeper := u.Process("packer-plugin-"+f.Name, "keep-chroot")
				if keeper == 0 {
					t.Error("the keeper is not found")
				}
				if name == "in a command" {
					u.Until(harness.Deadline, "at work", func() bool { return u.Inside() >= 3 })
				}
				b.Must(syscall.Kill(keeper, syscall.SIGKILL))
				failed := make(chan error, 1)
				go func() { failed <- u.Cmd.Wait() }()
				select {
				case err := <-failed:
					if err == nil {
						t.Errorf("packer ended well:\n%s", u.Out)
					}
				case <-time.After(harness.Deadline):
					_ = u.Cmd.Process.Kill()
					t.Errorf("the build goes on:\n%s", <-failed)
				}
				if !strings.Contains(harness.Flat(u.Out.String()), "the keeper, which has the build's mounts, is gone") {
					t.Errorf("it does not say why:\n%s", u.Out)
				}
				// Packer ends the shell of a shell-local, but not the shell's children
				b.Must(os.Remove(started))
				u.Until(harness.Deadline, "ended", func() bool { return len(harness.ProcessesWith(b.Marker)) == 0 })
				b.Clean()
				b.Unchanged(before)
			})
		}
	})
}

// TestSudo builds as a user without root's rights, by sudo.
func TestSudo(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		harness.Sudoers(t)
		b := harness.New(t)
		up, down := b.Write("up", "uploaded\n"), filepath.Join(b.Dir, "home", "down")
		tree := b.Write("tree/sub/file", "in a directory\n")
		downDir := filepath.Join(b.Dir, "home", "downdir") + "/"
		template := b.Template(f.Basic(map[string]any{
			"command_wrapper":     "sudo {{.Command}}",
			"pre_mount_commands":  []string{"blockdev --getsize64 {{.Device}}"},
			"post_mount_commands": []string{"mkdir {{.MountPath}}/from-the-host"},
		}),
			harness.Shell("id -u > /root/uid", `printf '%s' "$PACKER_BUILD_TEST" > /root/env`, "echo '$HOME `id`' > /root/quoted"),
			map[string]any{"type": "file", "source": up, "destination": "/root/up"},
			map[string]any{"type": "file", "source": filepath.Dir(filepath.Dir(tree)), "destination": "/root"},
			map[string]any{"type": "file", "direction": "download", "source": "/root/uid", "destination": down},
			map[string]any{"type": "file", "direction": "download", "source": "/root/tree/", "destination": downDir},
		)
		out, err := b.AsNobody("build", "-color=false", template).CombinedOutput()
		if err != nil {
			t.Fatalf("packer build: %v\n%s", err, out)
		}
		b.Clean()
		disk := b.Disk(b.Made().ID)
		for path, want := range map[string]string{
			"/root/uid": "0\n", "/root/up": "uploaded\n", "/root/quoted": "$HOME `id`\n", "/root/tree/sub/file": "in a directory\n",
			"/root/env": strings.TrimPrefix(b.Marker, "PACKER_BUILD_TEST="),
		} {
			if got := b.Content(disk, path); got != want {
				t.Errorf("%s holds %q, want %q", path, got, want)
			}
		}
		if stat := b.Debugfs(disk, 1<<20, "stat /from-the-host"); !strings.Contains(stat, "Type: directory") {
			t.Errorf("the post-mount command made nothing:\n%s", stat)
		}
		for path, want := range map[string]string{down: "0\n", downDir + "sub/file": "in a directory\n"} {
			info, err := os.Stat(path)
			if err != nil || harness.Read(path) != want || info.Sys().(*syscall.Stat_t).Uid != harness.Nobody {
				t.Errorf("%s is %q of %+v, %v", path, harness.Read(path), info, err)
			}
		}
	})
}

// TestWrapperThatPrintsSecrets checks that the wrapper runs before the build reads its keys,
// and that the error with the wrapper's output contains none of them.
func TestWrapperThatPrintsSecrets(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		out := b.Fails(b.Template(f.Basic(harness.O{"command_wrapper": "env; exit 3; {{.Command}}"})), "exit status 3")
		if !strings.Contains(out, "SECRET_ACCESS_KEY=<sensitive>") && !strings.Contains(out, "OSC_SECRET_KEY=<sensitive>") {
			t.Errorf("no secret was printed and hidden:\n%s", out)
		}
		for _, line := range strings.Split(out, "\n") {
			if name, value, ok := strings.Cut(line, "="); ok && strings.Contains(name, "SECRET") && value != "<sensitive>" {
				t.Errorf("the output has the secret %s", name)
			}
		}
		b.Clean()
	})
}

// TestWrapperWithoutRoot checks that no request is sent to the cloud if the wrapper does not
// run commands as root.
func TestWrapperWithoutRoot(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		for wrapper, says := range map[string]string{
			"env WRAPPED=yes {{.Command}}":   "gives the rights of user 65534",
			"sudo --bogus-flag {{.Command}}": "ended before it reported: exit status 1",
		} {
			b := harness.New(t)
			b.Calls()
			out, err := b.AsNobody("build", "-color=false", b.Template(f.Basic(map[string]any{"command_wrapper": wrapper}))).CombinedOutput()
			if err == nil || !strings.Contains(harness.Flat(string(out)), says) || !strings.Contains(string(out), "command_wrapper") {
				t.Errorf("%q: %v:\n%s", wrapper, err, out)
			}
			if calls := b.Calls(); len(calls) != 0 {
				t.Errorf("the cloud was called: %v", calls)
			}
			b.Clean()
		}
	})
}
