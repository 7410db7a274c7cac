package chroot_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// below mounts a disk, or a subvolume of one, in a root.
func below(t *testing.T, m *chroot.MountedRoot, device, kind, target string, options ...string) {
	t.Helper()
	err := m.MountBelow(t.Context(), chroot.Submount{Type: kind, Source: device, Target: target, Options: options, OfDisk: true})
	if err != nil {
		t.Fatal(err)
	}
}

func TestIsMounted(t *testing.T) {
	k, dir := start(t, nil), stage(t)
	m := mount(t, k, chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: filepath.Join(dir, "root")})
	below(t, m, "tmpfs", "tmpfs", "/var")
	for to, path := range map[string]string{"/var": "link", "/": "top", "/link/../..": "up", "loop": "loop", dir: "out"} {
		link(t, to, filepath.Join(m.Path(), path))
	}
	for path, want := range map[string]bool{
		"/var": true, "var/": true, "/link": true, "/": true, "/top": true, "/up": true, "/link/lib": false,
		"/var/none": false, "/loop": false, "/out": false, "/\x00": false,
	} {
		if got, err := m.IsMounted(t.Context(), path); got != want || err != nil {
			t.Errorf("%q: %v, %v", path, got, err)
		}
	}
}

// TestMountBelowASharedTree checks that a tree of the host that the user has bound into the
// root gets no mount on the host.
func TestMountBelowASharedTree(t *testing.T) {
	k, dir := start(t, nil), stage(t)
	m := mount(t, k, chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: filepath.Join(dir, "root")})
	shared := filepath.Join(dir, "shared")
	for _, path := range []string{shared, m.Path() + "/srv"} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	host(t, "mount", "--bind", shared, shared)
	defer unix.Unmount(shared, 0)
	host(t, "mount", "--make-shared", shared)
	host(t, "mount", "--bind", shared, m.Path()+"/srv")
	below(t, m, "tmpfs", "tmpfs", "/srv/cache")
	if got := mountsBelow(t, shared); len(got) != 1 {
		t.Errorf("mounted on the host: %q", got)
	}
}

// TestLeaveAdditionalFileSystems checks that file systems below the root are released with it,
// whatever holds them.
func TestLeaveAdditionalFileSystems(t *testing.T) {
	k, log, _ := cage(t)
	root, second := loop(t, disk(t, 128, "mkfs.btrfs", "-q")), loop(t, disk(t, 16, "mkfs.ext4", "-q"))
	third := loop(t, disk(t, 16, "mkfs.ext4", "-q"))
	spec := chroot.MountSpec{Device: root, Path: filepath.Join(stage(t), "root")}
	m := mount(t, k, spec)
	host(t, "btrfs", "-q", "subvolume", "create", m.Path()+"/home")
	furnish(t, m.Path())
	below(t, m, root, "btrfs", "/srv/home", "subvol=home")
	below(t, m, second, "ext4", "/var")
	below(t, m, third, "ext4", "/var/log", "noatime")
	write(t, m.Path()+"/var/log/file", "x", 0o644)
	begin(t, busybox(m.Path()+"/srv/home", nil, sleeper...))
	begin(t, &exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", `exec 3>>"$0"; exec sleep 1000`, m.Path() + "/var/log/file"}})
	begin(t, busybox("/", &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}, sleeper...))
	// a provisioner has detached one that is still in use
	begin(t, &exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", `exec 3>>"$0"; umount -l "$1"; echo ready; exec sleep 1000`, m.Path() + "/var/log/file", m.Path() + "/var/log"}})
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Fatalf("%v; the log says %v", err, log)
	}
	for _, device := range []string{root, second, third} {
		if fd, err := unix.Open(device, unix.O_RDONLY|unix.O_EXCL, 0); err != nil {
			t.Errorf("%s is in use: %v", device, err)
		} else {
			unix.Close(fd)
		}
	}
}

// TestReclaimBtrfsOfTwoDevices checks that a btrfs of two devices is released. The kernel
// names such a mount by either device.
func TestReclaimBtrfsOfTwoDevices(t *testing.T) {
	testroot.Need(t, "mounting")
	one, two := loop(t, disk(t, 128, "true")), loop(t, disk(t, 128, "true"))
	host(t, "mkfs.btrfs", "-q", one, two)
	host(t, "btrfs", "device", "scan", one, two)
	defer func() { _ = exec.Command("btrfs", "device", "scan", "--forget").Run() }()
	for _, device := range []string{one, two} {
		c := launch(t, nil)
		spec := chroot.MountSpec{Device: device, Type: "btrfs", Path: filepath.Join(stage(t), "made", "root")}
		record, err := c.Record(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Mount(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(c.PID(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if _, err := launch(t, nil).Reclaim(t.Context(), record, chroot.Claim{Disk: device}); err != nil {
			t.Fatal(err)
		}
		if left := mountsBelow(t, spec.Path); len(left) > 0 || exists(filepath.Dir(spec.Path)) {
			t.Errorf("%s is left mounted: %q", device, left)
			_ = unix.Unmount(spec.Path, 0)
		}
	}
}
