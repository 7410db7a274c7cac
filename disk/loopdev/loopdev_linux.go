package loopdev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/disk/devnode"
)

// Attach attaches an open file to a free loop device, and returns the device. The kernel stores the
// first 63 bytes of the name with the device. The flags are those of loop(4), such as
// unix.LO_FLAGS_AUTOCLEAR.
func Attach(file *os.File, name string, flags uint32) (*os.File, error) {
	for range 100 { // another process can take a free device first
		path, err := free()
		if err != nil {
			return nil, err
		}
		dev, err := configure(path, file, name, flags)
		if !errors.Is(err, unix.EBUSY) {
			return dev, err
		}
		time.Sleep(time.Millisecond)
	}
	return nil, fmt.Errorf("other processes took every free loop device: %w", unix.EBUSY)
}

// Check returns an error if this process cannot attach a file to a loop device.
func Check() error {
	path, err := free()
	if err != nil {
		return err
	}
	dev, err := Open(path)
	if err != nil {
		return err
	}
	return dev.Close()
}

// free returns the node of a device that is free now. The kernel creates a device if there is none.
func free() (path string, err error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrPermission) {
		return "", fmt.Errorf("attaching a block device needs root: %w", err)
	}
	if err != nil {
		return "", fmt.Errorf("this host has no loop devices: %w", err)
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", fmt.Errorf("cannot get a free loop device: %w", err)
	}
	return fmt.Sprintf("/dev/loop%d", n), nil
}

// configure attaches a file to a device. The error wraps EBUSY if the device is not free.
func configure(path string, file *os.File, name string, flags uint32) (*os.File, error) {
	dev, err := Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot attach %s: %w", name, err)
	}
	config := unix.LoopConfig{Fd: uint32(file.Fd())}
	config.Info.Flags = flags
	copy(config.Info.File_name[:len(config.Info.File_name)-1], name)
	if err := unix.IoctlLoopConfigure(int(dev.Fd()), &config); err != nil {
		dev.Close()
		return nil, fmt.Errorf("cannot attach %s to %s: %w", name, path, err)
	}
	return dev, nil
}

// nodeTimeout is how long the node of a new device may take to appear.
const nodeTimeout = 5 * time.Second

// Open opens the node of a device, which may appear later than the device. In the /dev of a container
// it may have to be created.
func Open(path string) (*os.File, error) {
	number, err := devnode.Number("/sys/block/" + filepath.Base(path))
	if err != nil {
		return nil, fmt.Errorf("cannot find the number of %s: %w", path, err)
	}
	if err := devnode.Make(path, number); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(nodeTimeout); ; time.Sleep(5 * time.Millisecond) {
		dev, err := os.OpenFile(path, os.O_RDWR, 0)
		if !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			return dev, devnode.Explain(err, number)
		}
	}
}

// IsNode reports whether a path is that of the node of a loop device.
func IsNode(path string) bool { return node.MatchString(path) }

var node = regexp.MustCompile(`^/dev/loop[0-9]+$`)

// sysFile is the file in sysfs that names the file of a loop device.
const sysFile = "loop/backing_file"

// Devices returns the nodes of the loop devices that have a file, such as /dev/loop3.
func Devices() ([]string, error) {
	paths, err := filepath.Glob("/sys/block/loop*/" + sysFile)
	if err != nil {
		return nil, err
	}
	for i, path := range paths {
		paths[i] = "/dev/" + strings.Split(path, "/")[3]
	}
	return paths, nil
}

// File returns the path of the file of a loop device, or "" if it has none. The kernel adds
// " (deleted)" if the file was removed.
func File(device string) string {
	raw, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), sysFile))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(raw), "\n")
}
