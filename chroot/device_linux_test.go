package chroot_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// TestMountTwinOfXFS mounts two file systems of one UUID, as a root and one that was created
// from the same image.
func TestMountTwinOfXFS(t *testing.T) {
	k, dir, file := start(t, nil), stage(t), disk(t, 320, "mkfs.xfs", "-q")
	twin := filepath.Join(filepath.Dir(file), "twin")
	host(t, "cp", "--sparse=always", file, twin)
	mount(t, k, chroot.MountSpec{Device: loop(t, file), Path: filepath.Join(dir, "one")})
	device := loop(t, twin)
	other := mount(t, k, chroot.MountSpec{Device: device, Path: filepath.Join(dir, "two"), Options: []string{"noatime"}})
	if err := other.Upload(t.Context(), "/file", strings.NewReader("twin"), chroot.NewFile{Mode: 0o600}); err != nil {
		t.Error(err)
	}
	if exists(filepath.Join(dir, "one", "file")) {
		t.Error("the twins are one")
	}
	_, err := k.Mount(t.Context(), chroot.MountSpec{Device: loop(t, disk(t, 320, "mkfs.xfs", "-q")), Path: filepath.Join(dir, "three"), Options: []string{"nonesuch"}})
	says(t, err, "bad option")
}

func TestMountBelowADevice(t *testing.T) {
	k, dir := start(t, nil), stage(t)
	m := mount(t, k, chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: filepath.Join(dir, "root")})
	device := loop(t, disk(t, 16, "mkfs.ext4", "-q"))
	boot := chroot.Submount{Type: "ext4", Source: device, Target: "/boot", Options: []string{"noatime,nosuid"}, OfDisk: true}
	for range 2 { // the second time it is there
		if err := m.MountBelow(t.Context(), boot); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "root", "boot")
	if got := host(t, "findmnt", "-no", "SOURCE,OPTIONS", path); !strings.Contains(got, "noatime") || !strings.Contains(got, "nosuid") || strings.Contains(got, "\n") {
		t.Errorf("mounted as %q", got)
	}
	if _, err := os.Stat(filepath.Join(path, "lost+found")); err != nil {
		t.Error(err)
	}
	boot.Options = []string{"loop"}
	boot.Target = "/other"
	says(t, m.MountBelow(t.Context(), boot), "/other", `"loop"`)
}
