package chroot_test

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// TestHiddenRoot checks that a mount over the root is not mistaken for it.
func TestHiddenRoot(t *testing.T) {
	everyWay(t, func(t *testing.T, m chroot.Root) {
		if err := unix.Mount("tmpfs", m.Path(), "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		_, runErr := m.Run(t.Context(), chroot.Command{Line: "true"})
		for _, err := range []error{
			runErr,
			m.Upload(t.Context(), "/file", &bytes.Buffer{}, chroot.NewFile{Mode: 0o644}),
			m.Download(t.Context(), "/bin/busybox", &bytes.Buffer{}),
		} {
			if !errors.Is(err, chroot.ErrHidden) {
				t.Errorf("error %v", err)
			}
		}
		says(t, runErr, m.Path(), "something is mounted over the root of the image")
		if exists(m.Path() + "/file") {
			t.Error("a file was uploaded to what hides the root")
		}
	})
}
