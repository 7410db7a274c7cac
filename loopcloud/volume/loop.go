//go:build linux

package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// loop is a loop device with its file.
type loop struct {
	path string // the kernel's node, /dev/loop3
	file string // its file; the kernel adds " (deleted)" if it was removed
}

func (l loop) name() string { return filepath.Base(l.path) }

// loops returns the loop devices with a matching file.
func loops(match func(file string) bool) ([]loop, error) {
	paths, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var found []loop
	for _, p := range paths {
		name := strings.Split(p, "/")[3]
		l := loop{path: "/dev/" + name}
		if l.file = backing(name); l.file != "" && match(l.file) {
			found = append(found, l)
		}
	}
	return found, nil
}

// backing returns the file of a loop device, "" if it has none.
func backing(name string) string {
	raw, err := os.ReadFile("/sys/block/" + name + "/loop/backing_file")
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(raw), "\n")
}

// is returns a function that matches a file, also after its removal.
func is(file string) func(string) bool {
	return func(f string) bool { return undeleted(f) == undeleted(file) }
}

func undeleted(file string) string { return strings.TrimSuffix(file, " (deleted)") }

// bound reports whether the device still has its file.
func (l loop) bound() bool { return is(l.file)(backing(l.name())) }

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
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrPermission) {
		return loop{}, fmt.Errorf("attaching a block device needs root: %w", err)
	}
	if err != nil {
		return loop{}, fmt.Errorf("this host has no loop devices: %w", err)
	}
	defer control.Close()
	// Another process can take a free device first.
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return loop{}, fmt.Errorf("cannot get a free loop device: %w", err)
		}
		l := loop{path: fmt.Sprintf("/dev/loop%d", n), file: file}
		err = l.configure(f)
		if !errors.Is(err, unix.EBUSY) {
			return l, err
		}
		time.Sleep(time.Millisecond)
	}
	return loop{}, fmt.Errorf("every free loop device was taken by someone else: %w", unix.EBUSY)
}

// configure attaches the file to a free device.
func (l loop) configure(f *os.File) error {
	dev, err := os.OpenFile(l.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer dev.Close()
	config := unix.LoopConfig{Fd: uint32(f.Fd())}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], f.Name())
	if err := unix.IoctlLoopConfigure(int(dev.Fd()), &config); err != nil {
		return fmt.Errorf("cannot make %s a device of %s: %w", l.path, f.Name(), err)
	}
	return nil
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
