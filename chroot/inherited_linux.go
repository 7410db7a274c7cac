package chroot

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// keepFiles keeps the files that this process was started with, standard input,
// output and error apart, from the commands that it will start. Packer hands its
// own output to its plugins: a daemon that a provisioner leaves behind would
// hold it open, and who reads what Packer prints would wait for the daemon.
func keepFiles() error {
	const files = "/proc/self/fd"
	entries, err := os.ReadDir(files)
	if err != nil {
		return fmt.Errorf("cannot keep open files from commands: %w", err)
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
