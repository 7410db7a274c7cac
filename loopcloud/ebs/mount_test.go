//go:build linux

package ebs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// run runs a program that must succeed.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// fsBlocks is the number of blocks of the file system.
const fsBlocks = 128

// blocksOf returns the blocks of a file with a file system that are not zero.
func blocksOf(t *testing.T, file string) map[int32][]byte {
	t.Helper()
	blocks := map[int32][]byte{}
	for index := range int64(fsBlocks) {
		if data := readAt(t, file, index); !bytes.Equal(data, zero()) {
			blocks[int32(index)] = data
		}
	}
	return blocks
}

// attach attaches a volume to this machine and returns its device.
func (w *testCloud) attach(volume, name string) string {
	w.t.Helper()
	vms := w.VMs(mine)
	host := vms[slices.IndexFunc(vms, func(vm state.VM) bool { return vm.Host })]
	a, err := w.AttachVolume(mine, state.AttachRequest{VolumeID: volume, VMID: host.ID, Device: name})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if _, err := w.DetachVolume(mine, state.DetachRequest{VolumeID: volume, Force: true}); err != nil {
			w.t.Error(err)
		}
	})
	return a.Path
}

// TestFileSystem: a file system that was written block by block can be mounted as a volume, and
// the snapshot of that volume has the same blocks as its device.
func TestFileSystem(t *testing.T) {
	testroot.Need(t, "real block devices")
	for name, change := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) { testFileSystem(t, change) })
	}
}

func testFileSystem(t *testing.T, secret bool) {
	w := newTestCloud(t, state.Timing{})
	dir, disk := testdir.New(t), filepath.Join(testdir.New(t), "disk")
	if err := os.WriteFile(filepath.Join(dir, "file"), random(1), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-d", dir, disk, "64M")
	blocks := blocksOf(t, disk)
	var id string
	if secret {
		for index := range int32(fsBlocks) {
			if blocks[index] == nil {
				blocks[index] = zero() // otherwise it would be noise
			}
		}
		id = w.written(blocks, encrypted)
	} else {
		id = w.written(blocks)
	}
	volume, _ := w.volumeOf(id, 1)
	device := w.attach(volume, "/dev/sdtk")
	run(t, "e2fsck", "-f", "-n", device)
	mnt := testdir.New(t)
	run(t, "mount", device, mnt)
	got, err := os.ReadFile(filepath.Join(mnt, "file"))
	if err == nil {
		err = os.WriteFile(filepath.Join(mnt, "new"), random(2), 0o644)
	}
	run(t, "umount", mnt)
	if err != nil || !bytes.Equal(got, random(1)) {
		t.Errorf("the file differs: %v", err)
	}
	w.compareWithDevice(w.snapshotOf(volume), device)
}

// compareWithDevice checks that the blocks of a snapshot are those of a device, up to some after
// the file system.
func (w *testCloud) compareWithDevice(id, device string) {
	w.t.Helper()
	_, tokens := w.blocks(id)
	for index := range int32(fsBlocks + 8) {
		want := readAt(w.t, device, int64(index))
		got := zero()
		if tokens[index] != "" {
			got = w.get(id, index, tokens[index])
		}
		if !bytes.Equal(got, want) {
			w.t.Errorf("block %d differs", index)
		}
	}
}
