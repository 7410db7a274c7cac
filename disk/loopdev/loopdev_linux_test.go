package loopdev_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/disk/loopdev"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// TestAttach checks that an attached device is listed with its file until it is detached.
func TestAttach(t *testing.T) {
	testroot.Need(t, "loop devices")
	file, err := os.Create(filepath.Join(testdir.New(t), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	dev, err := loopdev.Attach(file, "a name", unix.LO_FLAGS_AUTOCLEAR)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close() // then the kernel detaches it
	devices, err := loopdev.Devices()
	if err != nil || !slices.Contains(devices, dev.Name()) {
		t.Errorf("%s is not one of %q (%v)", dev.Name(), devices, err)
	}
	if got := loopdev.File(dev.Name()); got != file.Name() {
		t.Errorf("its file is %q, and not %q", got, file.Name())
	}
	if err := os.Remove(file.Name()); err != nil {
		t.Fatal(err)
	}
	if got := loopdev.File(dev.Name()); got != file.Name()+" (deleted)" {
		t.Errorf("after its removal, its file is %q", got)
	}
	if got := loopdev.File("/dev/loop-control"); got != "" {
		t.Errorf("no loop device has the file %q", got)
	}
}
