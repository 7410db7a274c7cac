//go:build linux

package volume_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/volume"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

var _ state.Measurer = (*volume.Store)(nil)

func TestSnapshotBytes(t *testing.T) {
	s, err := volume.Open(testdir.New(t), volume.Xen, volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(testdir.New(t), "disk")
	content := make([]byte, 1<<20)
	for i := range content {
		content[i] = 'x'
	}
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := s.ImportSnapshot("snap-1", file); err != nil {
		t.Fatal(err)
	}
	if n, err := s.SnapshotBytes("snap-1"); err != nil || n < 1<<20 || n > 2<<20 {
		t.Errorf("a MiB in a GiB takes %d bytes (%v)", n, err)
	}
	if _, err := s.SnapshotBytes("snap-2"); err == nil {
		t.Error("a snapshot that is not there has a size")
	}
}
