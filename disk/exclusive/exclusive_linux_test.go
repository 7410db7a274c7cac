package exclusive

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// TestCheckBesideForks checks a free device while this process forks others, which have its
// files until they execute their programs. That takes longest with a new mount namespace.
func TestCheckBesideForks(t *testing.T) {
	testroot.Need(t, "loop devices")
	device := blank(t)
	var over atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !over.Load() {
				cmd := exec.Command("true")
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
				_ = cmd.Run()
			}
		})
	}
	for range 2000 {
		if err := Check(device); err != nil {
			t.Error(err)
			break
		}
	}
	over.Store(true)
	wg.Wait()
}

// blank is a loop device with an empty file.
func blank(t *testing.T) string {
	t.Helper()
	file := filepath.Join(testdir.New(t), "blank")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if err := exec.Command("losetup", "--detach", device).Run(); err != nil {
			t.Error(err)
		}
	})
	return device
}
