package chroot_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLeaveUnmountsThousands checks that thousands of mounts are unmounted, most of them
// deeper than the longest path that the kernel accepts.
func TestLeaveUnmountsThousands(t *testing.T) {
	const depth = 3400
	k, j, spec := cage(t)
	m := mount(t, k, spec)
	nested := make(chan error)
	go onOtherThread(func() { // and the thread ends with this
		err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Chdir(m.Path()+"/tmp"))
		for range depth {
			if err == nil {
				err = unix.Mkdir("a", 0o755)
			}
			if err == nil {
				err = unix.Mount("tmpfs", "a", "tmpfs", 0, "nr_inodes=8")
			}
			if err == nil {
				err = unix.Chdir("a")
			}
		}
		nested <- errors.Join(err, unix.Chdir("/"))
	})
	if err := <-nested; err != nil {
		t.Error(err)
	}
	if n := strings.Count(read(t, "/proc/self/mountinfo"), spec.Path+"/tmp/"); n != depth {
		t.Errorf("%d mounts", n)
	}
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Fatalf("%.300v; the log says\n%s", err, j)
	}
}
