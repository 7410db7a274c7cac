package disk

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeHost is a host in a directory: nodes of one real device under any name.
type fakeHost struct {
	host
	t      *testing.T
	device unix.Stat_t
}

func newFakeHost(t *testing.T) *fakeHost {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("device nodes need root")
		}
		t.Skip("device nodes need root")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	loop := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if err := exec.Command("losetup", "--detach", loop).Run(); err != nil {
			t.Errorf("losetup --detach: %v", err)
		}
	})
	h := &fakeHost{t: t, host: host{dev: filepath.Join(dir, "dev"), sys: filepath.Join(dir, "sys")}}
	if err := unix.Stat(loop, &h.device); err != nil {
		t.Fatal(err)
	}
	h.mkdir(h.dev)
	return h
}

func (h *fakeHost) mkdir(path string) {
	h.t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		h.t.Fatal(err)
	}
}

// node makes a device node.
func (h *fakeHost) node(name string) {
	h.t.Helper()
	if err := unix.Mknod(filepath.Join(h.dev, name), unix.S_IFBLK|0o600, int(h.device.Rdev)); err != nil {
		h.t.Fatal(err)
	}
}

// nvme makes an NVMe disk in sysfs.
func (h *fakeHost) nvme(name, serial string) {
	h.t.Helper()
	dir := filepath.Join(h.sys, "block", name, "device")
	h.mkdir(dir)
	if err := os.WriteFile(filepath.Join(dir, "serial"), []byte(serial+"   \n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// link makes udev's link.
func (h *fakeHost) link(name, target string) {
	h.t.Helper()
	h.mkdir(filepath.Join(h.dev, "disk/by-id"))
	if err := os.Symlink("../../"+target, filepath.Join(h.dev, "disk/by-id", name)); err != nil {
		h.t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	const (
		nvmeLink = "nvme-Amazon_Elastic_Block_Store_vol0123abcd"
		scsiLink = "scsi-0QEMU_QEMU_HARDDISK_sd"
	)
	tests := []struct {
		name   string
		device string
		build  func(h *fakeHost)
		want   string
	}{
		{"by serial number, whatever else is there", "/dev/sdf", func(h *fakeHost) {
			for _, n := range []string{"nvme0n1", "nvme1n1", "nvme2n1", "sdf", "xvdf"} {
				h.node(n)
			}
			h.nvme("nvme0n1", "vol0fff")
			h.nvme("nvme1n1", "AWS1234")
			h.nvme("nvme2n1", "vol0123abcd")
		}, "nvme2n1"},
		{"by the link", "/dev/sdf", func(h *fakeHost) {
			h.node("nvme1n1")
			h.link(nvmeLink, "nvme1n1")
		}, "nvme1n1"},
		{"not by a stale link", "/dev/sdf", func(h *fakeHost) {
			h.node("nvme1n1")
			h.nvme("nvme1n1", "vol0fff")
			h.link(nvmeLink, "nvme1n1")
		}, ""},
		{"not by a link to nothing", "/dev/sdf", func(h *fakeHost) { h.link(nvmeLink, "nvme1n1") }, ""},
		{"as Xen names it", "/dev/sdf", func(h *fakeHost) { h.node("xvdf") }, "xvdf"},
		{"as asked for", "/dev/sdf", func(h *fakeHost) { h.node("sdf") }, "sdf"},
		{"two letters", "/dev/xvdba", func(h *fakeHost) { h.node("xvdba"); h.node("xvdb") }, "xvdba"},
		{"a name without a directory", "xvdf", func(h *fakeHost) { h.node("xvdf") }, "xvdf"},
		{"by Outscale's link with the letter asked for", "/dev/xvdf", func(h *fakeHost) {
			h.node("sda")
			h.node("sdb")
			h.link(scsiLink+"a", "sda")
			h.link(scsiLink+"f", "sdb")
		}, "sdb"},
		{"by Outscale's link before the name itself", "/dev/sdb", func(h *fakeHost) {
			h.node("sdb")
			h.node("sdc")
			h.link(scsiLink+"b", "sdc")
		}, "sdc"},
		{"not by the serial number of another", "/dev/sdf", func(h *fakeHost) {
			h.node("nvme1n1")
			h.nvme("nvme1n1", "vol0123abcde")
		}, ""},
		{"no path tricks", "/dev/../xvdf/../../etc", func(*fakeHost) {}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newFakeHost(t)
			tt.build(h)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.want == "" {
				cancel()
			}
			got, err := h.find(ctx, Query{Volume: "vol-0123abcd", Device: tt.device})
			if tt.want == "" {
				if got != "" || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "vol-0123abcd") {
					t.Errorf("got %q, %v; want an error that names the volume", got, err)
				}
			} else if want := filepath.Join(h.dev, tt.want); got != want {
				t.Errorf("got %q, %v; want %s", got, err, want)
			}
		})
	}
}

func TestFindWaits(t *testing.T) {
	h := newFakeHost(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	found := make(chan string)
	go func() {
		path, err := h.find(ctx, Query{Volume: "vol-1", Device: "/dev/sdf"})
		if err != nil {
			t.Error(err)
		}
		found <- path
	}()
	time.Sleep(10 * time.Millisecond)
	h.node("xvdf")
	if got, want := <-found, filepath.Join(h.dev, "xvdf"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
