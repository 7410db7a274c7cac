package chroot_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

func TestMain(m *testing.M) {
	maybeHold()
	chroot.MaybeRunKeeper() // keepers are this program again
	maybeBuild()
	os.Exit(m.Run())
}

// stage returns a directory for a test's mounts, all of which must be unmounted at its end.
func stage(t testing.TB) string {
	t.Helper()
	testroot.Need(t, "mounting")
	dir := testdir.New(t)
	t.Cleanup(func() {
		for _, path := range mountsBelow(t, dir) {
			t.Errorf("%s is still mounted", path)
		}
		for range 10 { // so that the directory can be removed
			for _, path := range mountsBelow(t, dir) {
				_ = unix.Unmount(path, unix.MNT_DETACH)
			}
		}
	})
	return dir
}

func mountsBelow(t testing.TB, dir string) []string {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, m := range mounts {
		paths = append(paths, m.Mountpoint)
	}
	return paths
}

// start returns a keeper with a short time limit for roots in use.
func start(t testing.TB, wrapper func(string) (string, error)) *chroot.Keeper {
	t.Helper()
	testroot.Need(t, "mounting")
	k, err := chroot.Start(chroot.Options{Wrapper: wrapper, Busy: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// mount mounts a root for a test, which leaves it at its end.
func mount(t testing.TB, k *chroot.Keeper, spec chroot.MountSpec) *chroot.MountedRoot {
	t.Helper()
	m, err := k.Mount(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Leave(context.Background(), spec.Path); err != nil {
			t.Error(err)
		}
	})
	return m
}

// tiny is a root on a tmpfs: a shell and its tools.
func tiny(t testing.TB, wrapper func(string) (string, error)) *chroot.MountedRoot {
	t.Helper()
	path := filepath.Join(stage(t), "root")
	m := mount(t, start(t, wrapper), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: path, Options: []string{"size=64m,mode=755"}})
	furnish(t, path)
	return m
}

// furnish puts busybox into a root.
func furnish(t testing.TB, root string) {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("%v (Debian's package busybox-static has it)", err)
	}
	for _, dir := range []string{"bin", "etc", "tmp", "root", "proc", "dev"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "bin/busybox"), string(busybox), 0o755)
	if err := unix.Mknod(filepath.Join(root, "dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"sh", "cat", "echo", "kill", "ls", "printf", "setsid", "sleep", "stat", "touch", "env", "id", "true", "ln", "rm", "mv", "mkdir", "readlink", "find"} {
		link(t, "busybox", filepath.Join(root, "bin", tool))
	}
}

func write(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// sh runs a line in a root and returns its output; it must succeed.
func sh(t testing.TB, m chroot.Root, line string) string {
	t.Helper()
	var out bytes.Buffer
	status, err := m.Run(t.Context(), chroot.Command{Line: line, Stdout: &out, Stderr: &out})
	if err != nil || status != 0 {
		t.Fatalf("%s: status %d, %v\n%s", line, status, err, &out)
	}
	return out.String()
}

// host runs a command of the host.
func host(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// disk makes a file with a file system.
func disk(t testing.TB, mib int64, mkfs ...string) string {
	t.Helper()
	file := filepath.Join(testdir.New(t), "disk")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(mib << 20); err != nil {
		t.Fatal(err)
	}
	if len(mkfs) > 0 {
		host(t, mkfs[0], append(mkfs[1:], file)...)
	}
	return file
}

// loop makes a block device of a file. Partitions that a killed test has left on a detached loop device appear again with
// the next file, so they are removed.
func loop(t testing.TB, file string) string {
	t.Helper()
	testroot.Need(t, "mounting")
	device := host(t, "losetup", "--find", "--show", file)
	_ = exec.Command("partx", "--delete", device).Run() // fails if there are none
	t.Cleanup(func() { host(t, "losetup", "--detach", device) })
	return device
}

// says fails the test unless the error says all of it.
func says(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}
