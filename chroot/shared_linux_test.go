package chroot_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// fakeDev is a file system that stands for the host's /dev, so that no test can damage
// the real one. It has the node null and the directories.
func fakeDev(t *testing.T, dirs ...string) string {
	t.Helper()
	dir := stage(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOEXEC, "size=1m,mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	for _, name := range dirs {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// mountDev makes the default mounts below /dev, with another directory as the host's
// /dev. It returns the errors by their targets.
func mountDev(t *testing.T, m *chroot.MountedRoot, dev string) map[string]error {
	t.Helper()
	failed := map[string]error{}
	for _, mount := range chroot.DefaultMounts() {
		if mount.Target == "/dev" {
			mount.Source = dev
		} else if !strings.HasPrefix(mount.Target, "/dev/") {
			continue
		}
		if err := m.MountBelow(t.Context(), mount); err != nil {
			failed[mount.Target] = err
		}
	}
	return failed
}

// nodesIn returns the entries of a directory, with modes.
func nodesIn(t *testing.T, dir string) string {
	t.Helper()
	return host(t, "find", dir, "-printf", "%P %M %U %G\n")
}

// TestDevIsTheHostsAndReadOnly changes the chroot's /dev in every way that a provisioner
// could.
func TestDevIsTheHostsAndReadOnly(t *testing.T) {
	m, dev := tiny(t, nil), fakeDev(t, "pts", "shm")
	before := nodesIn(t, dev)
	if failed := mountDev(t, m, dev); len(failed) > 0 {
		t.Fatalf("mounting: %v", failed)
	}
	if options := host(t, "findmnt", "-no", "OPTIONS", m.Path()+"/dev"); !strings.Contains(options, "ro,") || !strings.Contains(options, "noexec") {
		t.Errorf("mounted with %s: read-only and with what the host's mount has is right", options)
	}
	for _, line := range []string{
		"rm -rf /dev/null /dev/pts /dev/shm", "mknod /dev/new c 1 3", "chmod 600 /dev/null", "chown 7 /dev/null",
		"ln -s null /dev/link", "mv /dev/null /dev/other", "mkdir /dev/dir", "touch /dev/file",
	} {
		sh(t, m, "! busybox "+line)
	}
	sh(t, m, "echo x > /dev/null && echo x >> /dev/null && cat /dev/null")
	write(t, m.Path()+"/etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1234:1234::/:/bin/sh\n", 0o644)
	sh(t, m, "busybox su app -c 'echo x > /dev/shm/of-a-user' && cat /dev/shm/of-a-user")
	if after := nodesIn(t, dev); after != before {
		t.Errorf("the host's /dev holds\n%s, and held\n%s", after, before)
	}
	if err := os.Remove(m.Path() + "/dev/null"); !errors.Is(err, unix.EROFS) {
		t.Errorf("a host process that removes below the root: %v", err)
	}
}

// TestDevWithoutDirectoriesToMountOn checks that nothing is created in the host's /dev.
func TestDevWithoutDirectoriesToMountOn(t *testing.T) {
	m, dev := tiny(t, nil), fakeDev(t)
	before, failed := nodesIn(t, dev), mountDev(t, m, dev)
	for _, target := range []string{"/dev/pts", "/dev/shm"} {
		if err := failed[target]; !errors.Is(err, chroot.ErrNoMountPoint) {
			t.Errorf("%s: error %v", target, err)
		} else {
			says(t, err, target, m.Path(), "no directory to mount it on")
		}
	}
	if after := nodesIn(t, dev); len(failed) != 2 || after != before {
		t.Errorf("failed: %v; the host's /dev holds\n%s", failed, after)
	}
}

// TestBindMountsAreAsConfigured checks that a bind mount without options is writable.
func TestBindMountsAreAsConfigured(t *testing.T) {
	m, dev := tiny(t, nil), fakeDev(t)
	if err := m.MountBelow(t.Context(), chroot.Submount{Type: "bind", Source: dev, Target: "/dev"}); err != nil {
		t.Fatal(err)
	}
	sh(t, m, "touch /dev/written && busybox mknod /dev/node c 1 3")
	if !exists(filepath.Join(dev, "written")) || !exists(filepath.Join(dev, "node")) {
		t.Error("it is not there on the host")
	}
}

// TestCommandsShareNamespaces checks that the commands of a root share their host name and IPC
// with each other only, and that no thread of this process enters their namespaces.
func TestCommandsShareNamespaces(t *testing.T) {
	before, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	namespaces := "for n in uts ipc; do busybox readlink /proc/self/ns/$n; done"
	everyWay(t, func(t *testing.T, r chroot.Root) {
		m, ok := r.(interface {
			MountBelow(context.Context, chroot.Submount) error
		})
		if !ok {
			t.Fatalf("a %T mounts nothing", r)
		}
		if err := m.MountBelow(t.Context(), chroot.Submount{Type: "proc", Source: "proc", Target: "/proc"}); err != nil {
			t.Fatal(err)
		}
		if got := sh(t, r, "busybox hostname"); got != before+"\n" {
			t.Errorf("the host name begins as %q, want %q", got, before)
		}
		first := sh(t, r, namespaces+"; busybox hostname changed-by-the-image")
		if second := sh(t, r, namespaces); second != first {
			t.Errorf("two commands are in the namespaces\n%sand\n%s", first, second)
		}
		if got := sh(t, r, "busybox hostname; cat /proc/sys/kernel/hostname"); got != "changed-by-the-image\nchanged-by-the-image\n" {
			t.Errorf("the next command has the host name %q", got)
		}
		for _, kind := range []string{"uts", "ipc"} {
			own, err := os.Readlink("/proc/self/ns/" + kind)
			if err != nil || strings.Contains(first, own) {
				t.Errorf("commands are in the host's %s, %v", own, err)
			}
			tasks, err := filepath.Glob("/proc/self/task/*/ns/" + kind)
			for _, task := range tasks {
				eventually(t, task+" ended or in "+own, func() bool {
					there, err := os.Readlink(task) // a thread that has begun to end is there for a while
					return err != nil || there == own
				})
			}
			if err != nil || len(tasks) == 0 {
				t.Errorf("no threads, %v", err)
			}
		}
	})
	if after, err := os.Hostname(); after != before || err != nil {
		t.Errorf("the host is named %q, and was %q; its name is restored: %v", after, before, unix.Sethostname([]byte(before)))
	}
}
