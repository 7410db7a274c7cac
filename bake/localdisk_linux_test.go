package bake_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/sourcetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// mountedDisk is a direct disk with a mounted file system.
type mountedDisk struct {
	bake.DirectDisk
	bake.Mounted
	t       *testing.T
	machine bake.Machine
	image   string
	record  chroot.RootRecord
}

const directBytes = 64 << 20

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func execute(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// limited returns a context that ends before the test does.
func limited(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// mountDirect opens a direct disk of an image with a file system, and mounts it.
func mountDirect(t *testing.T, m bake.Machine) *mountedDisk {
	t.Helper()
	testroot.Need(t, "block devices")
	image := filepath.Join(testdir.New(t), "image")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, directBytes))
	execute(t, "mkfs.ext4", "-q", image)
	name := fmt.Sprintf("%stest-%d", lazydisk.NamePrefix, time.Now().UnixNano())
	disk, err := m.OpenDisk(limited(t), bake.DirectSpec{Name: name, Bytes: directBytes, Blocks: sourcetest.File(t, image), Server: 5 * time.Second})
	must(t, err)
	t.Cleanup(func() {
		must(t, m.CloseDisk(limited(t), disk.Record()))
		if device, err := lazydisk.Device(name); err != nil || device != "" {
			t.Errorf("%s is left: %v", device, err)
		}
	})
	d := &mountedDisk{DirectDisk: disk, t: t, machine: m, image: image}
	spec := chroot.MountSpec{Device: string(disk.Device()), Path: filepath.Join(testdir.New(t), "root"), Type: "ext4"}
	d.record, err = m.Record(limited(t), spec)
	must(t, err)
	d.Mounted, err = m.Mount(limited(t), spec)
	must(t, err)
	t.Cleanup(func() { _ = m.Leave(limited(t), spec.Path) })
	return d
}

// write writes a file in the root.
func (d *mountedDisk) write(name, text string) {
	d.t.Helper()
	must(d.t, os.WriteFile(filepath.Join(d.Path(), name), []byte(text), 0o600))
}

// upload writes the changed blocks to the image.
func (d *mountedDisk) upload() {
	d.t.Helper()
	image, err := os.OpenFile(d.image+".new", os.O_RDWR|os.O_CREATE, 0o600)
	must(d.t, err)
	defer image.Close()
	old, err := os.ReadFile(d.image)
	must(d.t, err)
	_, err = image.Write(old)
	must(d.t, err)
	_, err = d.Changes(limited(d.t), 4, func(_ context.Context, c lazydisk.Change) error {
		_, err := image.WriteAt(c.Data, c.Index*block.Size)
		return err
	})
	must(d.t, err)
}

// TestMachineOnADirectDisk: data that was written to a direct disk is uploaded.
func TestMachineOnADirectDisk(t *testing.T) {
	m := here(t)
	must(t, m.CheckDirect(t.Context()))
	d := mountDirect(t, m)
	if found, err := m.FindDisk(limited(t), d.Record().Name); err != nil || found != d.Device() {
		t.Errorf("the disk %s is found as %s, %v", d.Device(), found, err)
	}
	d.write("hello", "world")
	must(t, m.Leave(limited(t), d.Path()))
	must(t, m.Flush(d.Device()))
	must(t, d.Detach(limited(t)))
	d.upload()
	dir := testdir.New(t)
	execute(t, "mount", "-o", "loop,ro", d.image+".new", dir)
	defer execute(t, "umount", dir)
	if text, err := os.ReadFile(filepath.Join(dir, "hello")); err != nil || string(text) != "world" {
		t.Errorf("the file holds %q, %v", text, err)
	}
	select {
	case <-d.Failed():
		t.Errorf("the disk has failed: %v", d.Failure(limited(t)))
	default:
	}
}

// TestMachineOnALostDirectDisk ends or stops the processes of a direct disk. The root is left, the
// disk is closed, and nothing hangs.
func TestMachineOnALostDirectDisk(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, d *mountedDisk) error{
		"block server killed": func(_ *testing.T, d *mountedDisk) error {
			defer func() { <-d.Failed() }()
			return unix.Kill(d.Record().Server, unix.SIGKILL)
		},
		"block server stopped, and nobody aborts it": func(t *testing.T, d *mountedDisk) error {
			defer func() {
				<-d.Failed()
				if err := d.Failure(limited(t)); err == nil || !strings.Contains(err.Error(), "has not responded for 5s") {
					t.Errorf("the failure is %v", err)
				}
			}()
			return unix.Kill(d.Record().Server, unix.SIGSTOP)
		},
		"block server stopped": func(_ *testing.T, d *mountedDisk) error {
			return errors.Join(unix.Kill(d.Record().Server, unix.SIGSTOP), d.machine.AbortDisk(limited(d.t), d.Record()))
		},
		"keeper killed": func(t *testing.T, d *mountedDisk) error {
			guarded, stop := d.machine.Guard(t.Context())
			defer stop()
			if err := unix.Kill(d.record.Keeper, unix.SIGKILL); err != nil {
				return err
			}
			<-guarded.Done()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := mountDirect(t, here(t))
			d.write("hello", "world")
			must(t, lose(t, d))
			if err := d.machine.Leave(limited(t), d.Path()); err != nil && !errors.Is(err, chroot.ErrNotWritten) {
				t.Error(err)
			}
			must(t, d.machine.CloseDisk(limited(t), d.Record()))
		})
	}
}

// TestMachineOnAnOrphanedDirectDisk: another process cleans up after a keeper that was killed, while
// the block server is stopped.
func TestMachineOnAnOrphanedDirectDisk(t *testing.T) {
	d, heir := mountDirect(t, here(t)), here(t)
	d.write("hello", "world")
	r := d.Record()
	must(t, unix.Kill(r.Server, unix.SIGSTOP))
	must(t, unix.Kill(d.record.Keeper, unix.SIGKILL))
	device, err := heir.FindDisk(limited(t), r.Name)
	if err != nil || device != d.Device() {
		t.Fatalf("the disk %s is found as %s, %v", d.Device(), device, err)
	}
	must(t, heir.AbortDisk(limited(t), r))
	if _, err := heir.Reclaim(limited(t), d.record, chroot.Claim{Disk: string(device)}); err != nil && !errors.Is(err, chroot.ErrNotWritten) {
		t.Error(err)
	}
	must(t, heir.CloseDisk(limited(t), r))
	if command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", r.Server)); err == nil && len(command) > 0 {
		t.Errorf("the block server is left: %q", command)
	}
}

// TestMachineOnNoDirectDisk: records of processes and devices that are not a build's have no effect.
func TestMachineOnNoDirectDisk(t *testing.T) {
	m := here(t)
	child := exec.Command("sleep", "1000")
	must(t, child.Start())
	defer func() { _ = child.Wait() }()
	defer func() { _ = child.Process.Kill() }()
	process, err := lazydisk.ProcessOf(child.Process.Pid)
	must(t, err)
	r := bake.DiskRecord{Name: lazydisk.NamePrefix + "none", Server: process.PID, Since: process.Since, Boot: process.Boot}
	if err := m.AbortDisk(limited(t), r); err == nil {
		t.Error("a process that is not a block server is killed")
	}
	r.Since++
	must(t, m.AbortDisk(limited(t), r))
	r.Since, r.Boot = process.Since, "another boot"
	must(t, m.CloseDisk(limited(t), r))
	must(t, unix.Kill(child.Process.Pid, 0))
	if device, err := m.FindDisk(limited(t), r.Name); err != nil || device != "" {
		t.Errorf("found %s, %v", device, err)
	}
}
