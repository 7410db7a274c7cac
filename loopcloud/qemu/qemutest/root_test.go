//go:build linux

package qemutest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/qemu/qemutest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// TestPack unpacks an initramfs.
func TestPack(t *testing.T) {
	root := qemutest.NewRoot(t, "echo from the test")
	if err := os.WriteFile(root.Path("data"), []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	into := testdir.New(t)
	qemutest.Run(t, "sh", "-c", `cd "$0" && busybox cpio -i < "$1"`, into, root.Pack(t))
	init, err := os.ReadFile(filepath.Join(into, "init"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(init), "\n")
	if lines[0] != "#!/bin/busybox sh" || !slices.Contains(lines, "echo from the test") || !slices.Contains(lines, "poweroff -f") {
		t.Errorf("the first process is\n%s", init)
	}
	if info, err := os.Stat(filepath.Join(into, "init")); err != nil || info.Mode() != 0o755 {
		t.Errorf("it has the mode %v, %v", info, err)
	}
	if data, err := os.ReadFile(filepath.Join(into, "data")); string(data) != "text" || err != nil {
		t.Errorf("the file contains %q, %v", data, err)
	}
	if err := exec.Command(filepath.Join(into, "bin", "busybox"), "true").Run(); err != nil {
		t.Errorf("busybox: %v", err)
	}
	for _, dir := range []string{"dev", "proc", "sys"} {
		if info, err := os.Stat(filepath.Join(into, dir)); err != nil || !info.IsDir() {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// TestModule finds a module in the directory of an unpacked kernel.
func TestModule(t *testing.T) {
	top := testdir.New(t)
	want := filepath.Join(top, "lib", "modules", "6.1.0", "kernel", "drivers", "net.ko")
	if err := os.MkdirAll(filepath.Dir(want), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(want, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(top, "boot"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := qemutest.Module(t, filepath.Join(top, "boot", "vmlinuz-6.1.0"), "drivers/net"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
