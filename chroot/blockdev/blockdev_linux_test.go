package blockdev_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/blockdev"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// host runs a command and returns its output.
func host(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// file returns a new empty file of a size in MiB.
func file(t *testing.T, mib int64) string {
	t.Helper()
	path := filepath.Join(testdir.New(t), "disk")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, mib<<20)); err != nil {
		t.Fatal(err)
	}
	return path
}

// loop returns a block device for a file.
func loop(t *testing.T, file string) string {
	t.Helper()
	testroot.Need(t, "block devices")
	device := host(t, "losetup", "--find", "--show", file)
	_ = exec.Command("partx", "--delete", device).Run() // those that a killed test has left, if any
	t.Cleanup(func() { host(t, "losetup", "--detach", device) })
	return device
}

// at returns the identity of a block device.
func at(t *testing.T, device string) blockdev.Identity {
	t.Helper()
	found, err := blockdev.At(device)
	if err != nil || found.Number == 0 {
		t.Fatalf("%s: %v, %v", device, found, err)
	}
	return found
}

func TestSame(t *testing.T) {
	for _, test := range []struct {
		one, other blockdev.Identity
		want       bool
	}{
		{blockdev.Identity{Number: 1, Count: "5"}, blockdev.Identity{Number: 1, Count: "5"}, true},
		{blockdev.Identity{Number: 1, Count: "5"}, blockdev.Identity{Number: 1, Count: "6"}, false},
		{blockdev.Identity{Number: 1, Count: "5"}, blockdev.Identity{Number: 2, Count: "5"}, false},
		{blockdev.Identity{Number: 1, Count: "5"}, blockdev.Identity{Number: 1}, true},
		{blockdev.Identity{Number: 1}, blockdev.Identity{Number: 2}, false},
	} {
		if test.one.Same(test.other) != test.want || test.other.Same(test.one) != test.want {
			t.Errorf("%v and %v are the same: %v", test.one, test.other, !test.want)
		}
	}
}

func TestIgnoreGone(t *testing.T) {
	for err, gone := range map[error]bool{
		unix.ENXIO: true, unix.ENODEV: true, unix.ENOMEDIUM: true, unix.ENOENT: true, unix.EIO: false, unix.EACCES: false,
	} {
		wrapped := fmt.Errorf("about a device: %w", err)
		if got := blockdev.IgnoreGone(wrapped); (got == nil) != gone || !gone && !errors.Is(got, err) {
			t.Errorf("%v becomes %v", err, got)
		}
	}
	if err := blockdev.IgnoreGone(nil); err != nil {
		t.Error(err)
	}
}

func TestFormat(t *testing.T) {
	for want, number := range map[string]uint64{"8:1": unix.Mkdev(8, 1), "259:300": unix.Mkdev(259, 300), "0:0": 0} {
		if got := blockdev.Format(number); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestOtherFiles have no identity.
func TestOtherFiles(t *testing.T) {
	for _, path := range []string{file(t, 1), "/dev/null", "/"} {
		if got, err := blockdev.At(path); got != (blockdev.Identity{}) || err != nil {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
	missing := filepath.Join(testdir.New(t), "missing")
	if _, err := blockdev.At(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	if number, err := (blockdev.Identity{Number: 1}).Present(missing); number != 0 || err != nil {
		t.Errorf("a missing device: %d, %v", number, err)
	}
}

// TestPresent attaches a second file to the same node.
func TestPresent(t *testing.T) {
	device, before := reused(t)
	if before.Count == "" {
		t.Skip("the kernel does not count disks: it is older than 5.15")
	}
	if now := at(t, device); now.Number != before.Number || before.Same(now) {
		t.Errorf("%v was %v before", now, before)
	}
	if number, err := before.Present(device); number != 0 || err != nil {
		t.Errorf("the detached device has the number %d, %v", number, err)
	}
	now := at(t, device)
	if number, err := now.Present(device); number != now.Number || err != nil {
		t.Errorf("the device has the number %d, %v", number, err)
	}
}

// reused returns a loop device, and the identity of the one that had its node before.
func reused(t *testing.T) (device string, before blockdev.Identity) {
	t.Helper()
	testroot.Need(t, "block devices")
	first, second := file(t, 1), file(t, 1)
	const tries = 100
	for range tries {
		device = host(t, "losetup", "--find", "--show", first)
		before, err := blockdev.At(device)
		host(t, "losetup", "--detach", device)
		if err != nil || before.Number == 0 {
			t.Fatalf("%s: %v, %v", device, before, err)
		}
		if exec.Command("losetup", device, second).Run() == nil {
			t.Cleanup(func() { host(t, "losetup", "--detach", device) })
			return device, before
		}
		// Another process has taken the node.
	}
	t.Fatal("no node can be used twice")
	return "", before
}

// TestMadeOf creates a disk with a partition.
func TestMadeOf(t *testing.T) {
	device := loop(t, file(t, 8))
	host(t, "addpart", device, "1", "2048", "4096") // works without a parser for tables in the kernel
	t.Cleanup(func() { host(t, "delpart", device, "1") })
	base := filepath.Base(device)
	number := func(name string) uint64 {
		var major, minor uint32
		text, err := os.ReadFile("/sys/class/block/" + name + "/dev")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err != nil {
			t.Fatal(err)
		}
		return unix.Mkdev(major, minor)
	}
	whole, part, other := number(base), number(base+"p1"), at(t, loop(t, file(t, 1))).Number
	for _, test := range []struct {
		device, disk uint64
		want         bool
	}{{whole, whole, true}, {part, whole, true}, {whole, part, false}, {other, whole, false}, {part, other, false}, {0, whole, false}} {
		if got := blockdev.MadeOf(test.device, test.disk); got != test.want {
			t.Errorf("%s is made of %s: %v", blockdev.Format(test.device), blockdev.Format(test.disk), got)
		}
	}
	if blockdev.Numbered(part).Count != blockdev.Numbered(whole).Count {
		t.Error("a partition has another count than its disk")
	}
}

// TestShareBtrfs mounts a btrfs of two devices.
func TestShareBtrfs(t *testing.T) {
	one, two, other := loop(t, file(t, 128)), loop(t, file(t, 128)), loop(t, file(t, 1))
	host(t, "mkfs.btrfs", "-q", one, two)
	host(t, "btrfs", "device", "scan", one, two)
	t.Cleanup(func() { _ = exec.Command("btrfs", "device", "scan", "--forget").Run() })
	first, second := at(t, one).Number, at(t, two).Number
	if blockdev.ShareBtrfs(first, second) {
		t.Error("they share a file system that is not mounted")
	}
	dir := testdir.New(t)
	if err := unix.Mount(one, dir, "btrfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	if !blockdev.ShareBtrfs(first, second) || !blockdev.ShareBtrfs(second, second) {
		t.Error("they do not share the file system")
	}
	if blockdev.ShareBtrfs(first, at(t, other).Number) {
		t.Error("another device shares it")
	}
}
