package command

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// CloseInherited keeps the files that this process was started with, except standard
// input, output and error, from the processes that it starts. Packer hands its own output
// to its plugins: a daemon that a provisioner leaves behind would hold it open, and a
// program that reads Packer's output would wait for the daemon.
func CloseInherited() error {
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
