package chroot

import (
	"slices"
	"testing"
)

func TestDefaultMounts(t *testing.T) {
	var mounts []string
	for _, m := range DefaultMounts() {
		mount := m.Type + " " + m.Target
		if m.Optional {
			mount += " (optional)"
		}
		mounts = append(mounts, mount)
	}
	want := []string{
		"proc /proc",
		"sysfs /sys",
		"bind /dev",
		"devpts /dev/pts (optional)",
		"tmpfs /dev/shm (optional)",
		"binfmt_misc /proc/sys/fs/binfmt_misc (optional)",
	}
	if !slices.Equal(mounts, want) {
		t.Errorf("the mounts are %q, want %q", mounts, want)
	}
}
