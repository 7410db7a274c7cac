package chroot_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// thin is a disk whose size exceeds its backing store, like a thin volume on a full store. It
// has no journal, which would notice before all others.
func thin(t *testing.T) (device string) {
	t.Helper()
	store := filepath.Join(stage(t), "store")
	mount(t, start(t, nil), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: store, Options: []string{"size=4m"}})
	write(t, store+"/disk", "", 0o600)
	if err := os.Truncate(store+"/disk", 32<<20); err != nil {
		t.Fatal(err)
	}
	host(t, "mkfs.ext4", "-q", "-O", "^has_journal", store+"/disk")
	return loop(t, store+"/disk")
}

// TestLeaveReportsLostWrites checks that data of files that was lost before it reached the
// disk is an error of Leave, even if another process got the error before and ignored it.
func TestLeaveReportsLostWrites(t *testing.T) {
	for name, lose := range map[string]func(root string) error{
		"nobody was told":       func(string) error { return nil },
		"the writer was told":   func(root string) error { return synced(root+"/lost", unix.Fsync) },
		"somebody was told":     func(root string) error { return synced(root, unix.Syncfs) },
		"somebody else, and it": func(root string) error { return errors.Join(synced(root, unix.Syncfs), synced(root, unix.Syncfs)) },
	} {
		for _, where := range []string{"", "boot"} {
			t.Run(name+", /"+where, func(t *testing.T) {
				k, root := start(t, nil), filepath.Join(stage(t), "root")
				m := mount(t, k, chroot.MountSpec{Device: thin(t), Path: root})
				if where != "" {
					if err := m.MountBelow(t.Context(), chroot.Submount{Type: "ext4", Source: thin(t), Target: where}); err != nil {
						t.Fatal(err)
					}
				}
				at := filepath.Join(root, where)
				write(t, at+"/lost", string(make([]byte, 8<<20)), 0o644)
				if err := lose(at); err != nil && !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENOSPC) {
					t.Fatal(err)
				}
				if err := k.Leave(t.Context(), root); !errors.Is(err, chroot.ErrNotWritten) {
					t.Errorf("leaving says %v", err)
				}
			})
		}
	}
}

func synced(path string, sync func(fd int) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return sync(int(f.Fd()))
}
