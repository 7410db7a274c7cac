package builder

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// fileProvisioner is the last argument of the process that is Packer's file provisioner,
// of Packer 1.8 and later.
const fileProvisioner = "packer-provisioner-file"

// discardDestination removes the file that a failed download was to fill. Packer's file
// provisioner creates it before it asks for the download, and leaves it empty or cut off;
// the builder is never told its name. It is found as the only regular file that file
// provisioners of this Packer have open for writing. If there are several, as with builds
// side by side, none is touched.
func discardDestination() { discardWrittenBy(os.Getppid()) }

func discardWrittenBy(packer int) {
	var found []string
	for _, pid := range fileProvisioners(packer) {
		found = append(found, writtenBy(pid)...)
	}
	if len(found) != 1 {
		return
	}
	name, err := os.Readlink(found[0])
	if err != nil {
		return
	}
	var open, there unix.Stat_t
	if unix.Stat(found[0], &open) != nil || unix.Lstat(name, &there) != nil || open.Dev != there.Dev || open.Ino != there.Ino {
		return
	}
	_ = os.Remove(name)
}

// fileProvisioners returns the directories in /proc of a process's children that are
// Packer's file provisioner.
func fileProvisioners(packer int) []string {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	return slices.DeleteFunc(lines, func(line string) bool {
		args, _ := os.ReadFile(line)
		status, _ := os.ReadFile(filepath.Join(filepath.Dir(line), "status"))
		return !bytes.Contains(args, []byte("\x00"+fileProvisioner+"\x00")) ||
			!strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", packer))
	})
}

// writtenBy returns the links in /proc to the regular files that a process has open for
// writing only.
func writtenBy(cmdline string) []string {
	links, _ := filepath.Glob(filepath.Join(filepath.Dir(cmdline), "fd", "*"))
	return slices.DeleteFunc(links, func(link string) bool {
		info, err := os.Stat(link)
		if err != nil || !info.Mode().IsRegular() {
			return true
		}
		// The mode of the link says how the file is open; proc_pid_fd(5).
		opened, err := os.Lstat(link)
		return err != nil || opened.Mode().Perm()&0o600 != 0o200
	})
}
