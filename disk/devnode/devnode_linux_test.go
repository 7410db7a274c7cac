package devnode_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/disk/devnode"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// loop returns a loop device with partitions 1 and 2.
func loop(t *testing.T) string {
	t.Helper()
	testroot.Need(t, "real block devices")
	file := filepath.Join(testdir.New(t), "disk")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Truncate(file, 8<<20))
	out, err := exec.Command("losetup", "--find", "--show", file).Output()
	must(t, err)
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		for n := range int32(4) {
			_ = change(device, unix.BLKPG_DEL_PARTITION, n+1)
		}
		must(t, exec.Command("losetup", "--detach", device).Run())
	})
	must(t, change(device, unix.BLKPG_ADD_PARTITION, 1))
	must(t, change(device, unix.BLKPG_ADD_PARTITION, 2))
	return device
}

// change adds or removes the partition n, at n MiB.
func change(device string, op, n int32) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	part := unix.BlkpgPartition{Start: int64(n) << 20, Length: 1 << 20, Pno: n}
	arg := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return errno
	}
	return nil
}

// contained calls a function on a thread whose /dev is an empty tmpfs. root is a path to that thread's root
// directory.
func contained(t *testing.T, act func(root string)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the mount namespace ends with the thread
		err := errors.Join(unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("tmpfs", "/dev", "tmpfs", 0, "mode=755"))
		if err != nil {
			t.Error(err)
			return
		}
		act(fmt.Sprintf("/proc/self/task/%d/root", unix.Gettid()))
	}()
	<-done
}

// number returns the number of the block device with a node, and 0 if there is none.
func number(path string) uint64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0
	}
	return st.Rdev
}

// TestSync: nodes are created, replaced and removed as the kernel's partitions are. Prune and Remove create none.
func TestSync(t *testing.T) {
	device := loop(t)
	whole, first, second := number(device), number(device+"p1"), number(device+"p2")
	contained(t, func(string) {
		expect := func(path string, want uint64) {
			t.Helper()
			if got := number(path); got != want {
				t.Errorf("%s is block device %#x, want %#x", path, got, want)
			}
		}
		try := func(err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}
		try(devnode.Make(device, whole))
		expect(device, whole)
		try(unix.Mknod(device+"p1", unix.S_IFBLK|0o600, int(second))) // of another partition
		try(unix.Mknod(device+"p3", unix.S_IFBLK|0o600, int(second))) // of a partition that is gone
		try(os.WriteFile(device+"p4", nil, 0o600))
		try(devnode.Sync(device))
		expect(device+"p1", first)
		expect(device+"p2", second)
		expect(device+"p3", 0)
		if _, err := os.Stat(device + "p4"); err != nil {
			t.Errorf("a file that is no node was removed: %v", err)
		}
		try(change(device, unix.BLKPG_DEL_PARTITION, 2))
		try(devnode.Sync(device))
		expect(device+"p1", first)
		expect(device+"p2", 0)
		try(unix.Mknod(device+"p2", unix.S_IFBLK|0o600, int(second)))
		try(devnode.Prune(device))
		expect(device+"p1", first)
		expect(device+"p2", 0)
		try(devnode.Remove(device))
		expect(device+"p1", 0)
		try(devnode.Prune(device))
		expect(device+"p1", 0)
		expect(device, whole)
	})
}

// TestFollow: the node of a partition appears and disappears without a call.
func TestFollow(t *testing.T) {
	device := loop(t)
	whole := number(device)
	root := make(chan string)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		contained(t, func(own string) {
			if err := devnode.Make(device, whole); err != nil {
				t.Error(err)
			}
			root <- own
			devnode.Follow(ctx, device)
		})
	}()
	inside := <-root + device + "p3"
	until := func(exists bool) {
		t.Helper()
		for begun := time.Now(); (number(inside) != 0) != exists; time.Sleep(10 * time.Millisecond) {
			if time.Since(begun) > 2*time.Minute {
				t.Fatalf("%s exists: %v", inside, !exists)
			}
		}
	}
	must(t, change(device, unix.BLKPG_ADD_PARTITION, 3))
	until(true)
	must(t, change(device, unix.BLKPG_DEL_PARTITION, 3))
	until(false)
	cancel()
	<-done
}

// TestMaintained: nothing is created in a devtmpfs, or outside of /dev.
func TestMaintained(t *testing.T) {
	path := filepath.Join(testdir.New(t), "loop0")
	must(t, devnode.Make(path, unix.Mkdev(7, 0)))
	must(t, devnode.Sync(path))
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a node was created outside of /dev: %v", err)
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err == nil && strings.Contains(string(mounts), " /dev devtmpfs ") && !devnode.Maintained("/dev/loop0") {
		t.Error("a devtmpfs is said not to be maintained by the kernel")
	}
}

// TestMakeFails: the error names the node and what a container needs.
func TestMakeFails(t *testing.T) {
	testroot.Need(t, "device nodes")
	contained(t, func(string) {
		if err := unix.Mount("", "/dev", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Error(err)
			return
		}
		err := devnode.Make("/dev/loop7", unix.Mkdev(7, 7))
		if !errors.Is(err, unix.EROFS) || !devnode.Refused(err) {
			t.Errorf("got %v, want EROFS", err)
			return
		}
		for _, part := range []string{"/dev/loop7", "7:*", "MKNOD"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("the error does not name %s: %v", part, err)
			}
		}
	})
}
