package chroot_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// hostsResolvConf returns the content that CopyIn copies for /etc/resolv.conf.
func hostsResolvConf(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/etc/resolv.conf"); err != nil {
		t.Fatalf("this host has no /etc/resolv.conf: %v", err)
	}
}

// TestResolvConfAfterRelink checks that later commands resolve names after a package has
// replaced /etc/resolv.conf by a link to a file that a daemon would create, and that the image
// keeps only the link.
func TestResolvConfAfterRelink(t *testing.T) {
	hostsResolvConf(t)
	for name, relink := range map[string]string{
		"relative":  "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
		"absolute":  "rm /etc/resolv.conf; ln -s /run/NetworkManager/resolv.conf /etc/resolv.conf",
		"two links": "ln -sf names /etc/resolv.conf; ln -s ../run/x/resolv.conf /etc/names",
	} {
		t.Run(name, func(t *testing.T) {
			m := tiny(t, nil)
			write(t, m.Path()+"/etc/resolv.conf", "nameserver 192.0.2.1\n", 0o644)
			if err := m.CopyIn(t.Context(), "/etc/resolv.conf"); err != nil {
				t.Fatal(err)
			}
			supplied := read(t, m.Path()+"/etc/resolv.conf")
			sh(t, m, "mkdir /run; "+relink)
			target, err := os.Readlink(m.Path() + "/etc/resolv.conf")
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // and once more after the target was removed
				if got := sh(t, m, "cat /etc/resolv.conf; rm $(readlink -f /etc/resolv.conf)"); got != supplied {
					t.Errorf("a later command reads %q", got)
				}
			}
			sh(t, m, "true")
			if err := m.PutBack(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, _ := os.Readlink(m.Path() + "/etc/resolv.conf"); got != target {
				t.Errorf("the link leads to %q and not to %q", got, target)
			}
			if got := sh(t, m, "find /run"); got != "/run\n" {
				t.Errorf("/run holds %q", got)
			}
		})
	}
}

// TestResolvConfThatMustNotChange checks that a path that is not a dangling link of a copied
// file is left alone.
func TestResolvConfThatMustNotChange(t *testing.T) {
	hostsResolvConf(t)
	for name, tt := range map[string]struct {
		copied       bool
		change, want string
	}{
		"not copied":  {false, "ln -sf /run/none /etc/resolv.conf", "-> /run/none\n"},
		"removed":     {true, "rm /etc/resolv.conf", "no\n"},
		"a loop":      {true, "ln -sf resolv.conf /etc/resolv.conf", "-> resolv.conf\n"},
		"no place":    {true, "touch /run/f; ln -sf /run/f/resolv.conf /etc/resolv.conf", "-> /run/f/resolv.conf\n"},
		"out of root": {true, "ln -sf ../../../../run/up/resolv.conf /etc/resolv.conf", "-> ../../../../run/up/resolv.conf\nnames\n"},
	} {
		t.Run(name, func(t *testing.T) {
			m := tiny(t, nil)
			if tt.copied {
				if err := m.CopyIn(t.Context(), "/etc/resolv.conf"); err != nil {
					t.Fatal(err)
				}
			}
			sh(t, m, "mkdir /run; "+tt.change)
			got := sh(t, m, `if [ -L /etc/resolv.conf ]; then echo "-> $(readlink /etc/resolv.conf)"; else echo no; fi; [ ! -e /etc/resolv.conf ] || echo names`)
			if got != tt.want {
				t.Errorf("it says %q and not %q", got, tt.want)
			}
			if err := m.PutBack(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestParallelCommandsAfterRelink runs commands at the same time, each of which finds
// the dangling link.
func TestParallelCommandsAfterRelink(t *testing.T) {
	hostsResolvConf(t)
	m := tiny(t, nil)
	if err := m.CopyIn(t.Context(), "/etc/resolv.conf"); err != nil {
		t.Fatal(err)
	}
	sh(t, m, "ln -sf /run/a/b/resolv.conf /etc/resolv.conf")
	const commands = 8
	failed := make(chan string, commands)
	for range commands {
		go func() {
			var out bytes.Buffer
			status, err := m.Run(t.Context(), chroot.Command{Line: "cat /etc/resolv.conf", Stdout: &out, Stderr: &out})
			if err != nil || status != 0 {
				failed <- out.String()
				return
			}
			failed <- ""
		}()
	}
	for range commands {
		if why := <-failed; why != "" {
			t.Error(strings.TrimSpace(why))
		}
	}
	if err := m.PutBack(t.Context()); err != nil || exists(m.Path()+"/run/a") {
		t.Errorf("%v, and /run/a is there: %v", err, exists(m.Path()+"/run/a"))
	}
}

// TestCreatedMountPointsAreRemoved checks that mount points that were created in the image are
// removed if they are empty.
func TestCreatedMountPointsAreRemoved(t *testing.T) {
	dir := stage(t)
	k := start(t, nil)
	spec := chroot.MountSpec{Device: loop(t, disk(t, 64, "mkfs.ext4", "-q")), Path: dir + "/root"}
	m := mount(t, k, spec)
	furnish(t, m.Path())
	write(t, dir+"/file", "of the host", 0o644)
	for _, submount := range []chroot.Submount{
		{Type: "tmpfs", Source: "tmpfs", Target: "/srv/deep/mount", Temporary: true},
		{Type: "bind", Source: dir + "/file", Target: "/etc/bound", Temporary: true},
		{Type: "tmpfs", Source: "tmpfs", Target: "/used/below", Temporary: true},
		{Type: "tmpfs", Source: "tmpfs", Target: "/there", Temporary: true},
		{Type: "tmpfs", Source: "tmpfs", Target: "/sys", Temporary: true},
		{Type: "tmpfs", Source: "tmpfs", Target: "/data"},
	} {
		if submount.Target == "/there" {
			sh(t, m, "mkdir /there")
		}
		if err := m.MountBelow(t.Context(), submount); err != nil {
			t.Fatal(err)
		}
	}
	sh(t, m, "echo kept > /used/file; echo gone > /srv/deep/mount/file")
	if err := k.Leave(t.Context(), m.Path()); err != nil {
		t.Fatal(err)
	}
	again := mount(t, k, spec)
	for path, want := range map[string]bool{"/srv": true, "/srv/deep": false, "/sys": true, "/data": true, "/etc/bound": false, "/used/file": true, "/used/below": false, "/there": true} {
		if exists(again.Path()+path) != want {
			t.Errorf("%s is there: %v", path, !want)
		}
	}
}
