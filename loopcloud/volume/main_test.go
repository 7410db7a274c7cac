//go:build linux

package volume_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/volume"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
	"golang.org/x/sys/unix"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// childEnv makes the test binary a process that attaches a volume and never ends.
const childEnv = "VOLUME_TEST_ATTACH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Println(attachForever(dir))
		select {}
	}
	os.Exit(m.Run())
}

func attachForever(dir string) string {
	s, err := volume.Open(dir, volume.NVMe, volume.Options{})
	if err != nil {
		return err.Error()
	}
	path, err := s.AttachVolume("vol-1", "/dev/sdf")
	if err != nil {
		return err.Error()
	}
	return path
}

// open opens a store and releases its devices at the end of the test.
func open(t testing.TB, dir string, naming volume.Naming) *volume.Store {
	t.Helper()
	s, err := volume.Open(dir, naming, volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.ReleaseAll(); err != nil {
			t.Errorf("at the end: %v", err)
		}
	})
	return s
}

// attached returns a store with an attached volume of 1 GiB. No other test of this machine uses
// the name.
func attached(t testing.TB, naming volume.Naming, name string) (*volume.Store, string) {
	t.Helper()
	testroot.Need(t, "real block devices")
	s := open(t, testdir.New(t), naming)
	must(t, s.CreateVolume("vol-1", gib, ""))
	return s, attach(t, s, "vol-1", name)
}

func attach(t testing.TB, s *volume.Store, id, name string) string {
	t.Helper()
	path, err := attachWhenFree(s, id, name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// attachWhenFree attaches a volume under a name that other tests on this machine may use briefly.
func attachWhenFree(s *volume.Store, id, name string) (path string, err error) {
	for begun := time.Now(); time.Since(begun) < 2*time.Minute; time.Sleep(50 * time.Millisecond) {
		if path, err = s.AttachVolume(id, name); !errors.Is(err, state.ErrDeviceTaken) {
			break
		}
	}
	return path, err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a command and returns its output.
func run(t testing.TB, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// eventually waits for an effect of another goroutine or the kernel.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

// names returns the nodes of a device and its partitions.
func names(t testing.TB, base string) string {
	t.Helper()
	paths, err := filepath.Glob(base + "*")
	must(t, err)
	for i, p := range paths {
		paths[i] = strings.TrimPrefix(p, base)
	}
	return strings.Join(paths, " ")
}

// expectNames waits until a device has these nodes: " 1 2" are the device's own and those of its
// partitions 1 and 2. Each must be the kernel's partition with that number.
func expectNames(t testing.TB, base, want string) {
	t.Helper()
	got := ""
	defer func() {
		if t.Failed() {
			t.Logf("%s has nodes %q", base, got)
		}
	}()
	eventually(t, fmt.Sprintf("%s has nodes %q", base, want), func() bool {
		got = names(t, base)
		return got == want && rightNumbers(t, base)
	})
}

func rightNumbers(t testing.TB, base string) bool {
	t.Helper()
	parts, err := disk.KernelPartitions(base)
	must(t, err)
	for n, want := range parts {
		var st unix.Stat_t
		if unix.Stat(disk.PartitionPath(base, n), &st) != nil {
			return false
		}
		if got := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)); got != want {
			return false
		}
	}
	return true
}

// loopDevices returns the loop devices with a file in a directory.
func loopDevices(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(t, err)
	var found []string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err == nil && strings.HasPrefix(string(raw), dir+"/") {
			found = append(found, "/dev/"+strings.Split(file, "/")[3])
		}
	}
	return found
}

// expectNothing fails if any device or node of a directory remains.
func expectNothing(t testing.TB, dir, base string) {
	t.Helper()
	if left := loopDevices(t, dir); len(left) > 0 {
		t.Errorf("loop devices are left: %v", left)
	}
	if left, _ := filepath.Glob(base + "*"); len(left) > 0 {
		t.Errorf("nodes are left: %v", left)
	}
	links, _ := filepath.Glob("/dev/disk/by-id/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(filepath.Base(target), filepath.Base(base)) {
			t.Errorf("the link %s is left", link)
		}
	}
}

// mount mounts a device until the test ends or unmount is called.
func mount(t testing.TB, device string) (dir string, unmount func()) {
	t.Helper()
	dir = testdir.New(t)
	run(t, "", "mount", device, dir)
	done := false
	unmount = func() {
		if !done {
			done = true
			run(t, "", "umount", dir)
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

// allocated returns the number of bytes that a file takes on its disk.
func allocated(t testing.TB, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	must(t, err)
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

func wantError(t testing.TB, err, target error, text string) {
	t.Helper()
	if err == nil || target != nil && !errors.Is(err, target) || !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v; want one that wraps %v and says %q", err, target, text)
	}
}
