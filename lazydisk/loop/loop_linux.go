package loop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/disk/devnode"
	"github.com/packer-chroot/packer-plugin-chroot/disk/loopdev"
)

// Device is an attached loop device.
type Device struct {
	dev  *os.File
	name string
	// unfollow ends the maintenance of the nodes of its partitions; nil if there is none.
	unfollow func()
	// readAhead is the device's read-ahead before it was attached, in sectors of 512 bytes. 0 is
	// not known.
	readAhead int
}

// readAhead is the number of sectors that the kernel reads ahead: the size of one FUSE request. Smaller
// requests cost more each, and with larger read-ahead the reader waits longer for the first one.
const readAhead = 512 << 10 / 512

// Attach attaches an open file to a free loop device. The name identifies the device until it is
// detached; see Find.
//
// The kernel scans the partitions of the device, and removes them when it is detached.
func Attach(file *os.File, name string) (*Device, error) {
	const flags = unix.LO_FLAGS_DIRECT_IO | unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_PARTSCAN
	dev, err := loopdev.Attach(file, name, flags)
	if err != nil {
		return nil, err
	}
	d := &Device{dev: dev, name: name}
	if err := d.check(); err != nil {
		dev.Close()
		return nil, fmt.Errorf("cannot attach %s to %s: %w", name, d.Path(), err)
	}
	if d.readAhead, err = unix.IoctlGetInt(int(dev.Fd()), unix.BLKRAGET); err == nil {
		_ = unix.IoctlSetInt(int(dev.Fd()), unix.BLKRASET, readAhead)
	}
	d.follow()
	return d, nil
}

// follow maintains the nodes of the device's partitions in a /dev that the kernel does not maintain.
func (d *Device) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		devnode.Follow(ctx, d.Path())
	}()
	d.unfollow = func() {
		cancel()
		<-done
	}
}

// check returns an error if the device does not work as it must.
func (d *Device) check() error {
	info, err := unix.IoctlLoopGetStatus64(int(d.dev.Fd()))
	if err != nil {
		return err
	}
	if info.Flags&unix.LO_FLAGS_DIRECT_IO == 0 {
		return errors.New("the kernel does not use direct I/O")
	}
	if !attached(d.Path(), d.name) {
		return errors.New("/sys/block does not show it, so the end of Detach could not be seen")
	}
	return nil
}

// Path returns the node of the device, such as /dev/loop3.
func (d *Device) Path() string { return d.dev.Name() }

// Flush writes the device's cached data to the file.
func (d *Device) Flush() error {
	if err := d.dev.Sync(); err != nil {
		return fmt.Errorf("data written to %s was lost: %w", d.Path(), err)
	}
	return nil
}

// ErrInUse is wrapped by the error of detaching a device that another process uses.
var ErrInUse = errors.New("the device is in use")

// Detach detaches the file. While other processes use the device, the kernel delays that; the
// error wraps ErrInUse if it was not detached before ctx ended. The device must not be used
// afterwards.
func (d *Device) Detach(ctx context.Context) error {
	path, name := d.Path(), d.name
	removed := d.finish()
	err := unix.IoctlSetInt(int(d.dev.Fd()), unix.LOOP_CLR_FD, 0)
	d.dev.Close()
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("cannot detach %s: %w", path, err)
	}
	return errors.Join(Detached(ctx, path, name), removed)
}

// Release closes the device without detaching it: the kernel does so as soon as it is unused.
func (d *Device) Release() {
	_ = d.finish()
	d.dev.Close()
}

// finish removes the nodes of partitions, because another process can take the device as soon as it
// is free, and sets the read-ahead to its value before the device was attached. Newer kernels do the
// latter too when the device is attached the next time.
func (d *Device) finish() error {
	if d.unfollow != nil {
		d.unfollow()
	}
	if d.readAhead > 0 {
		_ = unix.IoctlSetInt(int(d.dev.Fd()), unix.BLKRASET, d.readAhead)
	}
	return devnode.Remove(d.Path())
}

// Detached waits until the device at a path is no longer attached to the file with a name.
func Detached(ctx context.Context, path, name string) error {
	for attached(path, name) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot detach %s: %w", path, ErrInUse)
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

// attached reports whether a device is attached to the file with a name, which is a single path
// element of a detached mount.
func attached(path, name string) bool {
	return strings.TrimPrefix(strings.TrimSuffix(loopdev.File(path), " (deleted)"), "/") == name
}

// Find returns the nodes of the devices that are attached to the file with a name.
func Find(name string) ([]string, error) {
	devices, err := loopdev.Devices()
	return slices.DeleteFunc(devices, func(device string) bool { return !attached(device, name) }), err
}

// Clear detaches the device at a path if it is attached to the file with a name.
func Clear(ctx context.Context, path, name string) error {
	if !attached(path, name) {
		return devnode.Prune(path)
	}
	dev, err := loopdev.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot detach %s: %w", path, err)
	}
	if !attached(path, name) {
		return dev.Close()
	}
	return (&Device{dev: dev, name: name}).Detach(ctx)
}
