package chroot_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func TestStartNeedsRoot(t *testing.T) {
	_, err := chroot.Start(chroot.Options{UID: func() int { return 1000 }})
	if !errors.Is(err, chroot.ErrNotRoot) {
		t.Errorf("error %v", err)
	}
	says(t, err, "root", "run packer as root", "command_wrapper")
}

func TestStartChecksTheWrapper(t *testing.T) {
	_, err := chroot.Start(chroot.Options{
		UID:     func() int { return 0 },
		Wrapper: func(string) (string, error) { return "", errors.New("bad template") },
	})
	says(t, err, "command_wrapper", "bad template")
}

func TestMountAndLeave(t *testing.T) {
	for _, mkfs := range [][]string{{"mkfs.ext4", "-q"}, {"mkfs.btrfs", "-q"}, {"mkfs.xfs", "-q"}} {
		t.Run(mkfs[0], func(t *testing.T) {
			k, dir, device := start(t, nil), stage(t), loop(t, disk(t, 320, mkfs...))
			path := filepath.Join(dir, "a", "b")
			m := mount(t, k, chroot.MountSpec{Device: device, Path: path, Options: []string{"noatime", "nosuid,defaults"}})
			if m.Path() != path {
				t.Errorf("mounted at %s", m.Path())
			}
			if options := host(t, "findmnt", "-no", "OPTIONS,PROPAGATION", path); !strings.Contains(options, "noatime") || !strings.Contains(options, "nosuid") || !strings.Contains(options, "private") {
				t.Errorf("mounted with %s", options)
			}
			write(t, filepath.Join(path, "file"), "kept", 0o600)
			if err := k.Leave(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			if exists(filepath.Join(dir, "a")) {
				t.Error("the directories made for the mount are still there")
			}
			again := mount(t, k, chroot.MountSpec{Device: device, Path: path, Options: []string{"ro"}})
			if got := read(t, filepath.Join(path, "file")); got != "kept" {
				t.Errorf("the file holds %q", got)
			}
			if err := again.Upload(t.Context(), "/x", strings.NewReader(""), chroot.NewFile{Mode: 0o644}); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing to a read-only root: %v", err)
			}
		})
	}
}

// TestMountOverFiles checks that the content of a directory is hidden while a root is mounted
// on it, and visible again afterwards.
func TestMountOverFiles(t *testing.T) {
	var log strings.Builder
	k, err := chroot.Start(chroot.Options{Log: func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) }})
	if err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(stage(t), "full")
	write(t, full+"/file", "of the host", 0o600)
	m := mount(t, k, chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: full})
	if exists(full+"/file") || !strings.Contains(log.String(), full+" is not empty: file") {
		t.Errorf("the file shows: %v; the log says %q", exists(full+"/file"), &log)
	}
	if err := k.Leave(t.Context(), m.Path()); err != nil || read(t, full+"/file") != "of the host" {
		t.Errorf("%v, and the file holds %q", err, read(t, full+"/file"))
	}
}

func TestMountRefuses(t *testing.T) {
	k, dir := start(t, nil), stage(t)
	blank, swap := loop(t, disk(t, 1)), loop(t, disk(t, 1, "mkswap"))
	full := filepath.Join(dir, "full")
	write(t, filepath.Join(full, "file of somebody"), "", 0o600)
	file := filepath.Join(full, "file of somebody")
	mounted := filepath.Join(dir, "mounted")
	mount(t, k, chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: mounted})

	tests := []struct {
		name string
		spec chroot.MountSpec
		says []string
	}{
		{"a file", chroot.MountSpec{Type: "tmpfs", Path: file}, []string{file, "in use"}},
		{"a mount point", chroot.MountSpec{Type: "tmpfs", Path: mounted}, []string{mounted, "in use", "mounted"}},
		{"a directory of the system", chroot.MountSpec{Type: "tmpfs", Path: "/var/lib/"}, []string{"/var/lib/", "host's system"}},
		{"a relative path", chroot.MountSpec{Type: "tmpfs", Path: "mnt"}, []string{`"mnt"`, "absolute"}},
		{"the host's root", chroot.MountSpec{Type: "tmpfs", Path: "/x/.."}, []string{"/x/.."}},
		{"no device", chroot.MountSpec{Device: "/dev/none", Path: filepath.Join(dir, "new")}, []string{"/dev/none", "no such file"}},
		{"a blank device", chroot.MountSpec{Device: blank, Path: filepath.Join(dir, "new")}, []string{blank, "no file system"}},
		{"swap space", chroot.MountSpec{Device: swap, Path: filepath.Join(dir, "new")}, []string{swap, "it holds swap"}},
		{"the wrong type", chroot.MountSpec{Device: blank, Type: "ext4", Path: filepath.Join(dir, "new")}, []string{blank, "ext4", "invalid argument"}},
		{"no such type", chroot.MountSpec{Device: blank, Type: "nonesuch", Path: filepath.Join(dir, "new")}, []string{"nonesuch", "does not have"}},
		{"a bad option", chroot.MountSpec{Type: "tmpfs", Path: filepath.Join(dir, "new"), Options: []string{"ro,remount"}}, []string{`"remount"`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := k.Mount(t.Context(), test.spec)
			says(t, err, test.says...)
			if exists(filepath.Join(dir, "new")) {
				t.Error("a directory is left")
			}
			// the old mount stays: leaving it is not this keeper's
			if err := k.Leave(t.Context(), test.spec.Path); err != nil && test.spec.Path != mounted {
				t.Error(err)
			}
		})
	}
	if got := mountsBelow(t, dir); len(got) != 0 {
		t.Errorf("mounted: %q", got)
	}
	if read(t, file) != "" {
		t.Error("the file is another one")
	}
}

func TestLeavePathThatWasNotMounted(t *testing.T) {
	k, dir := start(t, nil), stage(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := k.Leave(t.Context(), dir); err != nil {
		t.Error(err)
	}
	if got := mountsBelow(t, dir); len(got) != 1 {
		t.Error("a mount of somebody else's was taken away")
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Error(err)
	}
}

// TestTwinsOfXFSMount mounts an XFS clone beside its original, with the option
// that it needs and without.
func TestTwinsOfXFSMount(t *testing.T) {
	k, dir, file := start(t, nil), stage(t), disk(t, 320, "mkfs.xfs", "-q")
	mount(t, k, chroot.MountSpec{Device: loop(t, file), Path: filepath.Join(dir, "original")})
	for name, options := range map[string][]string{"told": {"nouuid"}, "untold": nil} {
		clone := file + "." + name
		host(t, "cp", "--sparse=always", file, clone)
		mount(t, k, chroot.MountSpec{Device: loop(t, clone), Path: filepath.Join(dir, name), Options: options})
	}
}

func TestMountBelow(t *testing.T) {
	k, dir := start(t, nil), stage(t)
	m := mount(t, k, chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: filepath.Join(dir, "root")})
	shown := filepath.Join(dir, "shown")
	write(t, filepath.Join(shown, "file"), "of the host", 0o644)
	write(t, filepath.Join(dir, "hosts"), "a file", 0o644)
	for _, submount := range []chroot.Submount{
		{Type: "proc", Source: "proc", Target: "/proc"},
		{Type: "sysfs", Source: "sysfs", Target: "/sys"},
		{Type: "bind", Source: shown, Target: "/deep/er"},
		{Type: "bind", Source: filepath.Join(dir, "hosts"), Target: "/etc/hosts"},
		{Type: "devpts", Source: "devpts", Target: "/dev/pts"},
		{Type: "tmpfs", Source: "tmpfs", Target: "/proc/fs"},
	} {
		if err := m.MountBelow(t.Context(), submount); err != nil {
			t.Error(err)
		}
	}
	root := m.Path()
	if got := read(t, root+"/deep/er/file") + read(t, root+"/etc/hosts"); got != "of the hosta file" {
		t.Errorf("the bind mounts show %q", got)
	}
	if !exists(root+"/proc/self/status") || !exists(root+"/sys/block") || !exists(root+"/dev/pts/ptmx") {
		t.Error("a mount is missing")
	}
	err := m.MountBelow(t.Context(), chroot.Submount{Type: "nonesuch", Source: "x", Target: "/proc/sys/nonesuch"})
	if !errors.Is(err, chroot.ErrNoFileSystem) {
		t.Errorf("an unknown type: %v", err)
	}
	says(t, m.MountBelow(t.Context(), chroot.Submount{Type: "bind", Source: dir + "/none", Target: "/x"}), dir+"/none")
	if err := k.Leave(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	if !exists(shown + "/file") {
		t.Error("leaving removed a file of the host")
	}
}

// TestMountBelowStaysInside gives an image links that point outside of it.
func TestMountBelowStaysInside(t *testing.T) {
	k, dir := start(t, nil), stage(t)
	outside := filepath.Join(dir, "outside")
	write(t, filepath.Join(outside, "canary"), "", 0o600)
	for name, to := range map[string]string{
		"absolute": outside,
		"relative": "../outside",
		"magic":    "/proc/self/root" + outside,
	} {
		t.Run(name, func(t *testing.T) {
			m := mount(t, k, chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: filepath.Join(dir, name)})
			link(t, to, filepath.Join(m.Path(), "evil"))
			for _, target := range []string{"/evil", "/evil/below"} {
				err := m.MountBelow(t.Context(), chroot.Submount{Type: "tmpfs", Source: "tmpfs", Target: target})
				t.Log(err) // whether it can be created inside does not matter
			}
			if got := mountsBelow(t, outside); len(got) > 0 || !exists(outside+"/canary") || exists(outside+"/below") {
				t.Errorf("mounted outside: %q", got)
			}
		})
	}
}

// TestNothingLeaksThroughSharedMounts binds a shared tree and mounts in it, as a
// build does with /dev and /dev/pts.
func TestNothingLeaksThroughSharedMounts(t *testing.T) {
	k, dir := start(t, nil), stage(t)
	shared := filepath.Join(dir, "shared")
	if err := os.Mkdir(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", shared, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(shared, 0)
	if err := unix.Mount("", shared, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	pts := filepath.Join(shared, "pts")
	if err := os.Mkdir(pts, 0o755); err != nil {
		t.Fatal(err)
	}
	m := mount(t, k, chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: filepath.Join(dir, "root")})
	for _, submount := range []chroot.Submount{{Type: "bind", Source: shared, Target: "/dev"}, {Type: "tmpfs", Source: "tmpfs", Target: "/dev/pts"}} {
		if err := m.MountBelow(t.Context(), submount); err != nil {
			t.Fatal(err)
		}
	}
	if got := mountsBelow(t, pts); len(got) > 0 {
		t.Errorf("a mount in the root is one on the host too: %q", got)
	}
	// a recursive bind mount by the user's own command
	if err := unix.Mount("tmpfs", pts, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(pts, 0)
	all := filepath.Join(m.Path(), "all")
	if err := os.Mkdir(all, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(shared, all, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	if err := k.Leave(t.Context(), m.Path()); err != nil {
		t.Fatal(err)
	}
	if got := mountsBelow(t, pts); len(got) != 1 {
		t.Errorf("leaving the root unmounted the host's: %q", got)
	}
}

// TestRootIsPrivate mounts below shared mounts, which are systemd's default.
func TestRootIsPrivate(t *testing.T) {
	k, dir := start(t, nil), stage(t)
	shared := filepath.Join(dir, "shared")
	if err := os.Mkdir(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", shared, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(shared, 0)
	if err := unix.Mount("", shared, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(shared, "root")
	mount(t, k, chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: root})
	if got := host(t, "findmnt", "-no", "PROPAGATION", root); got != "private" {
		t.Errorf("the root is %s", got)
	}
	if err := k.Leave(t.Context(), root); err != nil {
		t.Error(err)
	}
}

// TestLeaveSeesTheDeviceMountedElsewhere binds the root to another place: its
// file system stays mounted when the root is left.
func TestLeaveSeesTheDeviceMountedElsewhere(t *testing.T) {
	k, dir, device := start(t, nil), stage(t), loop(t, disk(t, 16, "mkfs.ext4", "-q"))
	root, elsewhere := filepath.Join(dir, "root"), filepath.Join(dir, "elsewhere")
	mount(t, k, chroot.MountSpec{Device: device, Path: root})
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(root, elsewhere, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	err := k.Leave(t.Context(), root)
	if !errors.Is(err, unix.EBUSY) {
		t.Errorf("error %v", err)
	}
	says(t, err, device, elsewhere)
	if err := unix.Unmount(elsewhere, 0); err != nil {
		t.Fatal(err)
	}
	if err := k.Leave(t.Context(), root); err != nil {
		t.Error(err)
	}
}

// TestLeaveUnmountsMountsOfProvisioners stacks mounts in every way.
func TestLeaveUnmountsMountsOfProvisioners(t *testing.T) {
	k, dir := start(t, nil), stage(t)
	root := filepath.Join(dir, "root with space")
	mount(t, k, chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: root})
	sibling := root + "-sibling"
	mount(t, k, chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: sibling})
	for _, path := range []string{"a", "a/b", "a/b", "a/b/c d", "a"} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", path, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Leave(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	if got := mountsBelow(t, dir); len(got) != 1 || got[0] != sibling {
		t.Errorf("mounted: %q", got)
	}
}

// TestBuildsShareParentDirectories has builds begin and end below one parent directory.
func TestBuildsShareParentDirectories(t *testing.T) {
	k, dir := start(t, nil), stage(t)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			path := filepath.Join(dir, "of", "builds", strconv.Itoa(n))
			for range 25 {
				if _, err := k.Mount(t.Context(), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: path}); err != nil {
					t.Error(err)
					return
				}
				if err := k.Leave(t.Context(), path); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestMountThroughALink(t *testing.T) {
	k, dir := start(t, nil), stage(t)
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, "real", filepath.Join(dir, "link"))
	path := filepath.Join(dir, "link", "root")
	mount(t, k, chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: path})
	if err := k.Leave(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(dir, "real", "root")) {
		t.Error("the directory is left")
	}
}

func TestCheckFile(t *testing.T) {
	if err := chroot.CheckFile("/etc/hostname"); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/does/not/exist", "/etc", "/dev/null"} {
		says(t, chroot.CheckFile(path), path)
	}
}

func TestShell(t *testing.T) {
	k := start(t, nil)
	var lines []string
	err := k.Shell(t.Context(), "echo one; echo two >&2; printf 'no end'", func(line string) { lines = append(lines, line) })
	if got := fmt.Sprintf("%q", lines); err != nil || got != `["one" "two" "no end"]` {
		t.Errorf("lines %s, %v", got, err)
	}
	says(t, k.Shell(t.Context(), "exit 3", nil), `"exit 3"`, "status 3")
	says(t, k.Shell(t.Context(), "kill -KILL $$", nil), "status 137")
}

// TestShellCancelled has a command that leaves children behind.
func TestShellCancelled(t *testing.T) {
	k := start(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	marker := filepath.Join(testdir.New(t), "child")
	err := k.Shell(ctx, "sh -c 'trap \"\" TERM; echo $$ > "+marker+"; echo ready; sleep 1000; sleep 1000' & wait", func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(read(t, marker)))
	if err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); time.Since(begun) < atMost; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Error("a child of the command still runs")
	_ = unix.Kill(child, unix.SIGKILL)
}

func TestShellGoesThroughTheWrapper(t *testing.T) {
	k := start(t, func(command string) (string, error) { return "WRAPPED=yes; " + command, nil })
	var out bytes.Buffer
	if err := k.Shell(t.Context(), "echo $WRAPPED", func(line string) { out.WriteString(line) }); err != nil || out.String() != "yes" {
		t.Errorf("printed %q, %v", &out, err)
	}
}

// TestParallelMountsOnOnePath checks that of two builds that mount on one path at the same
// moment, one is refused, and the other has its own root.
func TestParallelMountsOnOnePath(t *testing.T) {
	first, _, spec := cage(t)
	second, _, other := cage(t)
	other.Path = spec.Path
	for range 30 {
		var wg sync.WaitGroup
		var errs [2]error
		wg.Go(func() { _, errs[0] = first.Mount(t.Context(), spec) })
		wg.Go(func() { _, errs[1] = second.Mount(t.Context(), other) })
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("the one: %v, the other: %v", errs[0], errs[1])
		}
		if err := cmp.Or(errs[0], errs[1]); err != nil {
			says(t, err, spec.Path+" is in use")
		}
		if err := errors.Join(first.Leave(t.Context(), spec.Path), second.Leave(t.Context(), spec.Path)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLeaveForeignMountInPlace checks that a foreign mount in place of a root that was
// unmounted stays, and so do the processes in it.
func TestLeaveForeignMountInPlace(t *testing.T) {
	k, j, spec := cage(t)
	mount(t, k, spec)
	if err := errors.Join(unix.Unmount(spec.Path, unix.MNT_DETACH), unix.Mount("tmpfs", spec.Path, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(spec.Path, 0) })
	cmd := exec.Command("sleep", "1000")
	cmd.Dir = spec.Path
	_, over := begin(t, cmd)
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Fatal(err)
	}
	select {
	case <-over:
		t.Errorf("who worked in the other mount was ended; the log says\n%s", j)
	default:
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(spec.Path, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		t.Errorf("the other mount is gone (%v); the log says\n%s", err, j)
	}
	if !strings.Contains(j.String(), "not this build's") {
		t.Errorf("the log says\n%s", j)
	}
	if err := errors.Join(cmd.Process.Kill(), unix.Unmount(spec.Path, unix.MNT_DETACH)); err != nil {
		t.Error(err)
	}
}
