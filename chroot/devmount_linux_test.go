package chroot_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// TestDevOfAnEmptyRoot checks that programs of the host can unpack a root into which the
// default mounts have been made. They change /dev as they like, the host's /dev stays as it
// is, and commands in the root get the host's.
func TestDevOfAnEmptyRoot(t *testing.T) {
	path := filepath.Join(stage(t), "root")
	m := mount(t, start(t, nil), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: path, Options: []string{"size=64m,mode=755"}})
	dev := fakeDev(t, "pts", "shm", "mapper")
	if err := os.Symlink("/proc/self/fd", filepath.Join(dev, "fd")); err != nil {
		t.Fatal(err)
	}
	before := nodesIn(t, dev)
	if failed := mountDev(t, m, dev); len(failed) > 0 {
		t.Fatalf("mounting: %v", failed)
	}
	if got := host(t, "find", path+"/dev", "-xdev", "-mindepth", "1", "-maxdepth", "1", "-printf", "%P %M %l\n"); strings.Count(got, "\n") != 4 ||
		!strings.Contains(got, "null crw-r--r--") || !strings.Contains(got, "fd lrwxrwxrwx /proc/self/fd") || !strings.Contains(got, "mapper drwxr-xr-x") {
		t.Errorf("before the root is unpacked, its /dev holds\n%s", got)
	}
	for _, line := range []string{
		"echo x > dev/null", "touch -d 2001-01-01 dev && chown 7 dev && chmod 700 dev", "rm dev/null && mknod dev/null c 1 5",
		"mkdir dev/block && ln -s x dev/link", "mount -t tmpfs own dev/mapper",
	} {
		host(t, "sh", "-c", "cd "+path+" && "+line)
	}
	if status, err := m.Run(t.Context(), chroot.Command{Line: "true"}); err == nil {
		t.Errorf("a root without a shell ran a command, status %d", status)
	}
	host(t, "rm", path+"/dev/null") // furnish creates it
	furnish(t, path)
	write(t, path+"/dev/shm/of-the-host", "x", 0o644)
	sh(t, m, "echo x > /dev/null && ! busybox mknod /dev/new c 1 3 && ! test -e /dev/block && ! test -e /dev/shm/of-the-host && test -c /dev/pts/ptmx")
	if err := unix.Mknod(filepath.Join(dev, "later"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	sh(t, m, "test -c /dev/later")
	if err := os.Remove(filepath.Join(dev, "later")); err != nil {
		t.Fatal(err)
	}
	if after := nodesIn(t, dev); after != before {
		t.Errorf("the host's /dev holds\n%s, and held\n%s", after, before)
	}
}
