package chroot_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// label labels everything in a root's own file system, as SELinux would.
func label(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.Lsetxattr(path, "security.selinux", []byte("system_u:object_r:etc_t:s0\x00"), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLabels checks that a file without a label is found if the image needs one and gets none.
func TestLabels(t *testing.T) {
	enforcing := "SELINUX=enforcing\nSELINUXTYPE=targeted\n"
	for name, test := range map[string]struct {
		config  string
		labels  bool
		prepare string
		want    chroot.SELinuxContexts
	}{
		"no SELinux":               {"", true, "echo x > /etc/new", chroot.SELinuxContexts{}},
		"turned off":               {"SELINUX=disabled\n", true, "echo x > /etc/new", chroot.SELinuxContexts{}},
		"nothing new":              {enforcing, true, "true", chroot.SELinuxContexts{Mode: "enforcing", Policy: "targeted"}},
		"a new file":               {enforcing, true, "echo x > /etc/new", chroot.SELinuxContexts{Mode: "enforcing", Policy: "targeted", Unlabelled: "/etc/new"}},
		"a new link":               {"SELINUX=permissive\n", true, "ln -s /nowhere /root/link", chroot.SELinuxContexts{Mode: "permissive", Policy: "targeted", Unlabelled: "/root/link"}},
		"an ordered relabelling":   {enforcing, true, "echo x > /etc/new; touch /.autorelabel", chroot.SELinuxContexts{Mode: "enforcing", Policy: "targeted"}},
		"no labels at all":         {enforcing, false, "true", chroot.SELinuxContexts{Mode: "enforcing", Policy: "targeted", Unlabelled: "/"}},
		"permissive, not labelled": {"SELINUX=permissive\n", false, "echo x > /etc/new", chroot.SELinuxContexts{}},
		"new files of the host's":  {enforcing, true, "echo x > /tmp/new", chroot.SELinuxContexts{Mode: "enforcing", Policy: "targeted"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := tiny(t, nil)
			write(t, m.Path()+"/etc/selinux/config", test.config, 0o644)
			if test.labels {
				label(t, m.Path())
			}
			if err := m.MountBelow(t.Context(), chroot.Submount{Type: "tmpfs", Source: "tmpfs", Target: "/tmp"}); err != nil {
				t.Fatal(err)
			}
			sh(t, m, test.prepare)
			if strings.Contains(read(t, "/proc/filesystems"), "\tselinuxfs\n") {
				test.want = chroot.SELinuxContexts{} // this host labels new files
			}
			if got, err := m.SELinuxContexts(t.Context(), true); got != test.want || err != nil {
				t.Errorf("%+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}

// TestLabelsOfOldFiles checks that files of the source image without a label are not reported.
func TestLabelsOfOldFiles(t *testing.T) {
	k, device, path := start(t, nil), loop(t, disk(t, 64, "mkfs.ext4", "-q")), filepath.Join(stage(t), "root")
	mount(t, k, chroot.MountSpec{Device: device, Path: path})
	furnish(t, path)
	write(t, path+"/etc/selinux/config", "SELINUX=enforcing\n", 0o644)
	label(t, path)
	write(t, path+"/etc/old", "", 0o644)
	if err := k.Leave(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // older than new files
	m := mount(t, k, chroot.MountSpec{Device: device, Path: path})
	for _, step := range []struct{ line, want string }{{"true", ""}, {"echo x > /etc/old", "/etc/old"}} {
		sh(t, m, step.line)
		if strings.Contains(read(t, "/proc/filesystems"), "\tselinuxfs\n") {
			step.want = ""
		}
		if got, err := m.SELinuxContexts(t.Context(), true); got.Unlabelled != step.want || err != nil {
			t.Errorf("after %q: %+v, %v", step.line, got, err)
		}
	}
}
