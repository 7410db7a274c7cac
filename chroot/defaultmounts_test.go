package chroot

import (
	"slices"
	"testing"
)

func TestDefaultMounts(t *testing.T) {
	var targets, optional []string
	for _, m := range DefaultMounts() {
		targets = append(targets, m.Type+" "+m.Target)
		if m.Optional {
			optional = append(optional, m.Target)
		}
	}
	if want := []string{"proc /proc", "sysfs /sys", "bind /dev", "devpts /dev/pts", "tmpfs /dev/shm", "binfmt_misc /proc/sys/fs/binfmt_misc"}; !slices.Equal(targets, want) {
		t.Errorf("the mounts are %q, want %q", targets, want)
	}
	if want := []string{"/dev/pts", "/dev/shm", "/proc/sys/fs/binfmt_misc"}; !slices.Equal(optional, want) {
		t.Errorf("the mounts that can be missing are %q, want %q", optional, want)
	}
}
