//go:build linux

package volume

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/disk/loopdev"
)

// loop is a loop device with its file.
type loop struct {
	path string // the kernel's node, /dev/loop3
	file string // its file; the kernel adds " (deleted)" if it was removed
}

// loops returns the loop devices with a matching file.
func loops(match func(file string) bool) ([]loop, error) {
	devices, err := loopdev.Devices()
	if err != nil {
		return nil, err
	}
	var found []loop
	for _, device := range devices {
		l := loop{path: device, file: loopdev.File(device)}
		if l.file != "" && match(l.file) {
			found = append(found, l)
		}
	}
	return found, nil
}

// is returns a function that matches a file, also after its removal.
func is(file string) func(string) bool {
	return func(f string) bool { return undeleted(f) == undeleted(file) }
}

func undeleted(file string) string { return strings.TrimSuffix(file, " (deleted)") }

// bound reports whether the device still has its file.
func (l loop) bound() bool { return is(l.file)(loopdev.File(l.path)) }

// below returns a function that matches the files in a directory.
func below(dir string) func(string) bool {
	return func(f string) bool { return strings.HasPrefix(f, dir+"/") }
}

// eachLoop calls a function with each loop device with a matching file, until it returns an
// error.
func eachLoop(match func(string) bool, call func(loop) error) error {
	found, err := loops(match)
	if err != nil {
		return err
	}
	for _, l := range found {
		if err := call(l); err != nil {
			return err
		}
	}
	return nil
}

// newLoop attaches a file to a new block device.
//
// The kernel does not scan its partitions: a kernel without parsers would remove all partitions
// in a scan, and the package adds the same ones otherwise. Direct I/O is off: data that was just
// written is read from memory.
func newLoop(file string) (loop, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return loop{}, err
	}
	defer f.Close()
	dev, err := loopdev.Attach(f, file, 0)
	if err != nil {
		return loop{}, err
	}
	return loop{path: dev.Name(), file: file}, dev.Close()
}

// updateSize informs the device of the new size of its file.
func (l loop) updateSize() error {
	dev, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer dev.Close()
	if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("cannot resize %s: %w", l.path, err)
	}
	return nil
}

// clearLoop detaches the file from an open loop device. While other processes have the device
// open, the kernel delays this until the last one closes it, and with scan then removes its
// partitions.
func clearLoop(dev *os.File, scan bool) error {
	if scan {
		if err := scanAtClear(dev); err != nil {
			return err
		}
	}
	err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_CLR_FD, 0)
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("cannot release %s: %w", dev.Name(), err)
	}
	return nil
}

// scanAtClear turns the kernel's partition scanning on. Otherwise partitions in use would remain
// after the file is detached.
func scanAtClear(dev *os.File) error {
	info, err := unix.IoctlLoopGetStatus64(int(dev.Fd()))
	if errors.Is(err, unix.ENXIO) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the state of %s: %w", dev.Name(), err)
	}
	info.Flags |= unix.LO_FLAGS_PARTSCAN
	if err := unix.IoctlLoopSetStatus64(int(dev.Fd()), info); err != nil {
		return fmt.Errorf("cannot set the state of %s: %w", dev.Name(), err)
	}
	return nil
}

// cleared waits briefly until the kernel has detached the file.
func (l loop) cleared() bool {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(time.Millisecond) {
		if !l.bound() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
