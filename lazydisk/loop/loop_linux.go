package loop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Device is an attached loop device.
type Device struct {
	dev  *os.File
	name string
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
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("attaching a block device needs root: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("this host has no loop devices: %w", err)
	}
	defer control.Close()
	for range 100 { // another process can take a free device first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("cannot get a free loop device: %w", err)
		}
		d, err := configure(fmt.Sprintf("/dev/loop%d", n), file, name)
		if !errors.Is(err, unix.EBUSY) {
			return d, err
		}
		time.Sleep(time.Millisecond)
	}
	return nil, fmt.Errorf("other processes took every free loop device: %w", unix.EBUSY)
}

// nodeTimeout is how long the node of a new device may take to appear.
const nodeTimeout = 5 * time.Second

// configure attaches a file to a device. The error wraps EBUSY if the device is not free.
func configure(path string, file *os.File, name string) (*Device, error) {
	dev, err := openNode(path)
	if err != nil {
		return nil, err
	}
	config := unix.LoopConfig{Fd: uint32(file.Fd())}
	config.Info.Flags = unix.LO_FLAGS_DIRECT_IO | unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_PARTSCAN
	copy(config.Info.File_name[:len(config.Info.File_name)-1], name)
	if err := unix.IoctlLoopConfigure(int(dev.Fd()), &config); err != nil {
		dev.Close()
		return nil, fmt.Errorf("cannot attach %s to %s: %w", name, path, err)
	}
	d := &Device{dev: dev, name: name}
	info, err := unix.IoctlLoopGetStatus64(int(dev.Fd()))
	if err == nil && info.Flags&unix.LO_FLAGS_DIRECT_IO == 0 {
		err = errors.New("the kernel does not use direct I/O")
	}
	if err != nil {
		dev.Close()
		return nil, fmt.Errorf("cannot attach %s to %s: %w", name, path, err)
	}
	if !attached(path, name) { // then the end of Detach could not be seen
		dev.Close()
		return nil, fmt.Errorf("/sys/block does not show that %s is attached to %s", path, name)
	}
	if d.readAhead, err = unix.IoctlGetInt(int(dev.Fd()), unix.BLKRAGET); err == nil {
		_ = unix.IoctlSetInt(int(dev.Fd()), unix.BLKRASET, readAhead)
	}
	return d, nil
}

// openNode opens the node of a device, which may appear later than the device.
func openNode(path string) (*os.File, error) {
	for deadline := time.Now().Add(nodeTimeout); ; time.Sleep(5 * time.Millisecond) {
		dev, err := os.OpenFile(path, os.O_RDWR, 0)
		if !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			return dev, err
		}
	}
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
	d.restore()
	err := unix.IoctlSetInt(int(d.dev.Fd()), unix.LOOP_CLR_FD, 0)
	d.dev.Close()
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("cannot detach %s: %w", path, err)
	}
	return Detached(ctx, path, name)
}

// Release closes the device without detaching it: the kernel does so as soon as it is unused.
func (d *Device) Release() {
	d.restore()
	d.dev.Close()
}

// restore sets the read-ahead to its value before the device was attached. Newer kernels do the same
// when the device is attached the next time.
func (d *Device) restore() {
	if d.readAhead > 0 {
		_ = unix.IoctlSetInt(int(d.dev.Fd()), unix.BLKRASET, d.readAhead)
	}
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

// attached reports whether a device is still attached to the file with a name.
func attached(path, name string) bool {
	raw, err := os.ReadFile("/sys/block/" + filepath.Base(path) + "/loop/backing_file")
	return err == nil && backs(string(raw), name)
}

func backs(file, name string) bool {
	return strings.TrimPrefix(strings.TrimSuffix(strings.TrimSpace(file), " (deleted)"), "/") == name
}

// Find returns the nodes of the devices that are attached to a file with a name, which is a single
// path element of a detached mount.
func Find(name string) ([]string, error) {
	paths, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, p := range paths {
		if raw, err := os.ReadFile(p); err == nil && backs(string(raw), name) {
			found = append(found, "/dev/"+strings.Split(p, "/")[3])
		}
	}
	return found, nil
}

// Clear detaches the device at a path if it is attached to the file with a name.
func Clear(ctx context.Context, path, name string) error {
	dev, err := os.OpenFile(path, os.O_RDONLY, 0)
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
