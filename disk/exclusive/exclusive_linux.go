package exclusive

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Check opens a block device exclusively and closes it again. The error wraps EBUSY while
// the kernel uses the device: while it is mounted in any namespace, swapped to, or part of
// another device. Opening a disk that way also covers its partitions.
//
// No process is forked in the meantime: the child would have the file until it executes
// its program, and the device could not be mounted.
func Check(device string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: device, Err: err}
	}
	return unix.Close(fd)
}
