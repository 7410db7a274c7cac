package harness

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestHostCheck checks that leftOnHost finds everything that a test could leave.
func TestHostCheck(t *testing.T) {
	b := New(t)
	volume := b.CreateVolume(1, "")
	node := b.Attach(volume)
	mount := filepath.Join(b.Dir, "mnt")
	b.Sh("mkfs.ext4 -q " + node + "; mkdir " + mount + "; mount " + node + " " + mount + "; mknod /dev/xvdzzz b 7 1048575")
	left := strings.Join(leftOnHost(b.Dir, nil), "\n")
	for _, want := range []string{"loop device loop", "mount " + mount, "leading nowhere: /dev/xvdzzz"} {
		if !strings.Contains(left, want) {
			t.Errorf("%q is not seen in:\n%s", want, left)
		}
	}
	b.Sh("rm /dev/xvdzzz; umount " + mount)
	b.Detach(volume)
	for _, entry := range leftOnHost(b.Dir, staleEntries()) {
		t.Errorf("seen, and gone: %s", entry)
	}
}

func TestMain(m *testing.M) { Main(m) }
