//go:build linux

package lazydisk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cache"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/fetch"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

func TestMain(m *testing.M) {
	lazydisk.Main()
	if name := os.Getenv(ownerEnv); name != "" {
		fmt.Fprintln(os.Stderr, owner(name))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const (
	mib = 1 << 20
	gib = 1 << 30
)

// needRoot skips a test of real devices without root privileges. In CI it fails the test.
func needRoot(t testing.TB) {
	t.Helper()
	testroot.Need(t, "real block devices")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a command and returns its output.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// timeout is longer than any correct operation takes on a loaded host.
const timeout = 2 * time.Minute

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for an effect of another process or the kernel.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

// open opens a disk, and releases everything of it at the end of the test.
func open(t testing.TB, source block.Source, o lazydisk.Options) *lazydisk.Disk {
	t.Helper()
	needRoot(t)
	if o.ScratchDir == "" {
		o.ScratchDir = testdir.New(t)
	}
	d, err := lazydisk.Open(within(t), source, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Detach(within(t)); err != nil && !t.Failed() && !errors.Is(err, unix.EIO) {
			t.Errorf("at the end: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Errorf("at the end: %v", err)
		}
		expectNothing(t, d)
	})
	return d
}

// expectNothing fails if a process, a device or a connection of a disk remains.
func expectNothing(t testing.TB, d *lazydisk.Disk) {
	t.Helper()
	if device, err := lazydisk.Device(d.Name()); err != nil || device != "" {
		t.Errorf("the device %s of %s is left: %v", device, d.Name(), err)
	}
	select {
	case <-d.Done():
	default:
		t.Errorf("the block server %d is left", d.PID())
	}
}

// cached returns options of a cache in a new directory.
func cached(t testing.TB) cache.Options {
	t.Helper()
	return cache.Options{Dir: filepath.Join(testdir.New(t), "blocks"), Limit: 4 * gib}
}

// device opens the device of a disk for direct I/O.
func device(t testing.TB, d *lazydisk.Disk) *os.File {
	t.Helper()
	f, err := os.OpenFile(d.Device(), os.O_RDWR|unix.O_DIRECT, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// aligned returns a buffer for direct I/O.
func aligned(t testing.TB, size int) []byte {
	t.Helper()
	p, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	must(t, err)
	t.Cleanup(func() { _ = unix.Munmap(p) })
	return p
}

// mount mounts a device until the test ends or the returned function is called.
func mount(t testing.TB, device, options string) (dir string, unmount func()) {
	t.Helper()
	dir = testdir.New(t)
	run(t, "mount", "-o", options, device, dir)
	done := false
	unmount = func() {
		if !done {
			done = true
			run(t, "umount", dir)
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

func command(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func fetchLimits(attempt, total time.Duration) fetch.Limits {
	return fetch.Limits{Attempt: attempt, Total: total, Pause: 10 * time.Millisecond}
}

// startOwner starts a process that opens a disk, and returns its output.
func startOwner(t testing.TB, name string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), ownerEnv+"="+name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, out
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// addPartition adds a partition as partx does.
func addPartition(device string, number int32, start, length int64) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	part := unix.BlkpgPartition{Start: start, Length: length, Pno: number}
	arg := unix.BlkpgIoctlArg{Op: unix.BLKPG_ADD_PARTITION, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return errno
	}
	return nil
}
