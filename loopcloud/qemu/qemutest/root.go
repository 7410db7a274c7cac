//go:build linux

package qemutest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// Kernel returns the kernel for machines. Without one it skips the test, which is an error in CI.
func Kernel(t testing.TB) string {
	t.Helper()
	kernel := os.Getenv("PACKER_CHROOT_KERNEL")
	if kernel == "" {
		t.Skip("PACKER_CHROOT_KERNEL is not set: make qemu sets it")
	}
	return kernel
}

// Module returns the file of a kernel module. The kernel was unpacked, not installed.
func Module(t testing.TB, kernel, name string) string {
	t.Helper()
	version := strings.TrimPrefix(filepath.Base(kernel), "vmlinuz-")
	module := filepath.Join(filepath.Dir(kernel), "..", "lib", "modules", version, "kernel", name+".ko")
	if _, err := os.Stat(module); err != nil {
		t.Fatalf("the kernel's module is not beside it: %v", err)
	}
	return module
}

// Root is the directory of a machine's root.
type Root string

// NewRoot returns a root with busybox and with Init as the first process.
func NewRoot(t testing.TB, init string) Root {
	t.Helper()
	r := Root(filepath.Join(testdir.New(t), "root"))
	for _, dir := range []string{"bin", "dev", "proc", "sys"} {
		if err := os.MkdirAll(r.Path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	Run(t, "cp", busybox, r.Path("bin/busybox"))
	if err := os.WriteFile(r.Path("init"), []byte(begin+init+end), 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

// The beginning and the end of every Init. It uses busybox's own applets.
const (
	begin = "#!/bin/busybox sh\n" +
		"export PATH=/bin\n" +
		"/bin/busybox --install -s /bin\n" +
		"mount -t devtmpfs dev /dev\n" +
		"mount -t proc proc /proc\n" +
		"mount -t sysfs sys /sys\n"
	end = "\nsleep 1 # what was said is on its way\npoweroff -f\n"
)

// Path returns the path of a root's file on this host.
func (r Root) Path(name string) string { return filepath.Join(string(r), name) }

// Go builds a program of the root with a go command, to which it adds -o and the file. The
// program is statically linked.
func (r Root) Go(t testing.TB, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append(args[:1:1], append([]string{"-o", r.Path(name)}, args[1:]...)...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// Pack creates the initramfs from the current content of the root.
func (r Root) Pack(t testing.TB) string {
	t.Helper()
	Run(t, "sh", "-c", `cd "$0" && find . | busybox cpio -o -H newc > ../initramfs`, string(r))
	return r.Path("../initramfs")
}

// Run runs a command and fails the test if the command fails.
func Run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
