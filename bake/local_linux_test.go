package bake_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

func TestMain(m *testing.M) {
	lazydisk.Main() // machines start this program again
	chroot.MaybeRunKeeper()
	os.Exit(m.Run())
}

// here is the machine that the test runs on.
func here(t *testing.T) bake.Machine {
	t.Helper()
	testroot.Need(t, "block devices")
	m, err := bake.NewMachine(t.Context(), bake.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestReserve(t *testing.T) {
	m, dir := here(t), filepath.Join(testdir.New(t), "made", "when needed")
	reserve := func(names ...bake.DeviceName) (bake.DeviceName, func() error, error) {
		t.Helper()
		return m.Reserve(dir, names)
	}
	names := []bake.DeviceName{"/dev/null", "/dev/sdzzy", "/dev/sdzzz"}
	first, releaseFirst, err := reserve(names...)
	if err != nil || first != "/dev/sdzzy" {
		t.Fatalf("reserved %q, %v: a name that is there must be passed over", first, err)
	}
	second, releaseSecond, err := reserve(names...)
	if err != nil || second != "/dev/sdzzz" {
		t.Fatalf("reserved %q, %v: a name that is held must be passed over", second, err)
	}
	if name, _, err := reserve("/dev/xvdzzy", "/dev/sdzzz"); err == nil || !strings.Contains(err.Error(), "/dev/xvdzzy") {
		t.Errorf("reserved %q, %v: xvd and sd are the same place", name, err)
	}
	if err := releaseFirst(); err != nil {
		t.Fatal(err)
	}
	again, releaseAgain, err := reserve(names...)
	if err != nil || again != first {
		t.Errorf("reserved %q, %v after it was released", again, err)
	} else if err := releaseAgain(); err != nil {
		t.Error(err)
	}
	if err := releaseSecond(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("released reservations leave %v, %v", left, err)
	}
}

// TestReserveAlone has many goroutines reserve one name. No two of them may hold it at the
// same time.
func TestReserveAlone(t *testing.T) {
	m, dir := here(t), testdir.New(t)
	var holders, turns atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 300 {
				_, release, err := m.Reserve(dir, []bake.DeviceName{"/dev/sdzzw"})
				if err != nil {
					continue
				}
				if holders.Add(1) > 1 {
					t.Error("two hold one name")
				}
				turns.Add(1)
				holders.Add(-1)
				if err := release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if turns.Load() == 0 {
		t.Error("nobody ever held the name")
	}
}

// TestReservationIsNotInherited starts a child while a name is held: released is
// released, although the child still runs.
func TestReservationIsNotInherited(t *testing.T) {
	m, dir := here(t), testdir.New(t)
	_, release, err := m.Reserve(dir, []bake.DeviceName{"/dev/sdzzx"})
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Wait() }()
	defer func() { _ = child.Process.Kill() }()
	if err := release(); err != nil {
		t.Fatal(err)
	}
	_, release, err = m.Reserve(dir, []bake.DeviceName{"/dev/sdzzx"})
	if err != nil {
		t.Fatalf("a child of this process still holds the name: %v", err)
	}
	_ = release()
}

// TestSweep removes the files of released reservations, and nothing else.
func TestSweep(t *testing.T) {
	m, dir := here(t), testdir.New(t)
	if err := m.Sweep(filepath.Join(dir, "missing")); err != nil {
		t.Error(err)
	}
	held, release, err := m.Reserve(dir, []bake.DeviceName{"/dev/sdzzv"})
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "a user's")
	for _, path := range []string{filepath.Join(dir, "device-zzu"), other} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "device-link")
	if err := os.Symlink(other, link); err != nil {
		t.Fatal(err)
	}
	if err := m.Sweep(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	var left []string
	for _, entry := range entries {
		left = append(left, entry.Name())
	}
	if diff := cmp.Diff([]string{"a user's", "device-link", "device-zzv"}, left); diff != "" || err != nil {
		t.Errorf("left, while %s is held, %v (-want +got):\n%s", held, err, diff)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

// partitioned returns a disk with one ext4 partition, on a block device whose partitions the
// kernel may not know yet.
func partitioned(t *testing.T) (device string) {
	t.Helper()
	dir := testdir.New(t)
	file, root := filepath.Join(dir, "disk"), filepath.Join(dir, "root")
	run := func(stdin, name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	for path, mib := range map[string]int64{file: 34, root: 32} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, mib<<20); err != nil {
			t.Fatal(err)
		}
	}
	run("", "mkfs.ext4", "-q", root)
	run("label: dos\nstart=2048, size=65536, type=83\n", "sfdisk", "--quiet", file)
	run("", "dd", "if="+root, "of="+file, "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
	device = run("", "losetup", "--find", "--show", file)
	t.Cleanup(func() {
		run("", "partx", "--delete", device)
		run("", "losetup", "--detach", device)
	})
	return device
}

// TestMachineOnARealDisk takes the steps of a build, with a disk that already exists.
func TestMachineOnARealDisk(t *testing.T) {
	m := here(t)
	device := bake.DevicePath(partitioned(t))
	path := filepath.Join(testdir.New(t), "root")
	if err := m.Settle(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	spec, err := m.Root(t.Context(), device, disk.Choice{Options: []string{"noatime"}})
	if want := (disk.RootFS{Device: string(device) + "p1", Partition: 1, Type: "ext4", Options: []string{"noatime"}}); err != nil || !cmp.Equal(spec, want) {
		t.Fatalf("the root is %+v, %v", spec, err)
	}
	root, err := m.Mount(t.Context(), chroot.MountSpec{Device: spec.Device, Type: spec.Type, Options: spec.Options, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Upload(t.Context(), "/hello", strings.NewReader("world"), chroot.NewFile{Mode: 0o644}); err != nil {
		t.Error(err)
	}
	if err := m.Flush(device); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("flushing a disk with a mounted partition: %v", err)
	}
	if err := m.Leave(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if mounted, err := mountinfo.Mounted(path); mounted || (err != nil && !os.IsNotExist(err)) {
		t.Errorf("still mounted: %v, %v", mounted, err)
	}
	if err := m.Flush(device); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	cmd := exec.Command("debugfs", "-R", "cat /hello", spec.Device)
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil || out.String() != "world" {
		t.Errorf("the disk holds %q, %v", &out, err)
	}
}

func TestMachineChecksPaths(t *testing.T) {
	m := here(t)
	dir := testdir.New(t)
	if err := m.CheckMountPath(filepath.Join(dir, "new")); err != nil {
		t.Error(err)
	}
	if err := m.CheckMountPath("/proc"); err == nil {
		t.Error("a root may be mounted over /proc")
	}
	if err := m.CheckFile(dir); err == nil {
		t.Error("a directory can be copied")
	}
}

// TestMachineChecksTheLockDir checks that an unusable lock directory is reported before
// anything is created.
func TestMachineChecksTheLockDir(t *testing.T) {
	m, dir := here(t), testdir.New(t)
	if err := m.CheckLockDir(filepath.Join(dir, "of", "locks")); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, "/proc/locks"} {
		if err := m.CheckLockDir(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("of %s it says %v", path, err)
		}
	}
}

// TestLockDirOfOthers checks that nothing is created or opened through an entry that another
// user created first in a world-writable directory such as /run/lock.
func TestLockDirOfOthers(t *testing.T) {
	const mallory = 45001
	m := here(t)
	names := []bake.DeviceName{"/dev/sdzzx"}
	for name, c := range map[string]struct {
		make func(dir, other string) error
		says string
	}{
		"a link in place of the directory": {func(dir, other string) error {
			return errors.Join(os.Symlink(other, dir), os.Lchown(dir, mallory, mallory))
		}, "belongs to user 45001"},
		"the directory is another user's": {func(dir, other string) error {
			return errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, mallory, mallory), os.Symlink(other+"/made", dir+"/device-zzx"))
		}, "belongs to user 45001"},
		"everybody can write to the directory": {func(dir, other string) error {
			return errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o777), os.Symlink(other+"/made", dir+"/device-zzx"))
		}, "its mode is 0777"},
		"a link in place of the reservation": {func(dir, other string) error {
			return errors.Join(os.Mkdir(dir, 0o755), os.Symlink(other+"/made", dir+"/device-zzx"))
		}, "device-zzx is a symbolic link"},
		"a pipe in place of the reservation": {func(dir, _ string) error {
			return errors.Join(os.Mkdir(dir, 0o755), unix.Mkfifo(dir+"/device-zzx", 0o644))
		}, "device-zzx is not a regular file"},
		"another file's name in place of the reservation": {func(dir, other string) error {
			return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(other+"/there", nil, 0o600), os.Link(other+"/there", dir+"/device-zzx"))
		}, "device-zzx has another name"},
		"the reservation is another user's": {func(dir, _ string) error {
			return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(dir+"/device-zzx", nil, 0o644), os.Chown(dir+"/device-zzx", mallory, mallory))
		}, "device-zzx belongs to user 45001"},
	} {
		t.Run(name, func(t *testing.T) {
			shared, other := filepath.Join(testdir.New(t), "lock"), testdir.New(t)
			dir := filepath.Join(shared, "packer-chroot")
			if err := errors.Join(os.Mkdir(shared, 0o755), os.Chmod(shared, os.ModeSticky|0o777), c.make(dir, other)); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadDir(other)
			name, _, err := m.Reserve(dir, names)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("reserved %q, %v, and it does not say %q", name, err, c.says)
			}
			if checkErr := m.CheckLockDir(dir); strings.Contains(c.says, "device-zzx") != (checkErr == nil) {
				t.Errorf("the check of the directory says %v", checkErr)
			}
			_ = m.Sweep(dir)
			if after, err := os.ReadDir(other); err != nil || len(after) != len(before) {
				t.Errorf("there was %v and is %v, %v", before, after, err)
			}
		})
	}
}

// TestReservationIsNotForOthers checks that other users cannot open the file of a reservation,
// since opening it suffices to lock it.
func TestReservationIsNotForOthers(t *testing.T) {
	m, shared := here(t), filepath.Join(testdir.New(t), "lock")
	if err := errors.Join(os.Mkdir(shared, 0o755), os.Chmod(shared, os.ModeSticky|0o777)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(shared, "packer-chroot")
	_, release, err := m.Reserve(dir, []bake.DeviceName{"/dev/sdzzx"})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "device-zzx"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

// TestMachineChecksMountParents checks that a mount path is refused if another user could
// replace a part of it.
func TestMachineChecksMountParents(t *testing.T) {
	m, dir := here(t), testdir.New(t)
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o755), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	if err := m.CheckMountParents(filepath.Join(open, "of", "root")); err == nil || !strings.Contains(err.Error(), "its mode is 0777") {
		t.Errorf("it says %v", err)
	}
	if err := m.CheckMountParents(filepath.Join(dir, "of", "root")); err != nil {
		t.Error(err)
	}
	_, err := m.Mount(t.Context(), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: filepath.Join(open, "of", "root")})
	if err == nil || !strings.Contains(err.Error(), "its mode is 0777") {
		t.Errorf("mounted: %v", err)
	}
	if left, err := os.ReadDir(open); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestInheritedFilesStayOutOfCommands checks that files inherited by this process are not
// passed on to the commands of a build.
func TestInheritedFilesStayOutOfCommands(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil { // as inherited: not close-on-exec
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	here(t)
	for _, fd := range pipe {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("file %d would be passed on: flags %x, %v", fd, flags, err)
		}
	}
}
