package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// Host is a test's directory on this machine, and the processes that its builds run.
type Host struct {
	testing.TB
	// Dir holds all files of the test.
	Dir string
	// Marker is in the environment of builds and of their commands in the chroot, because its name begins as those
	// that they get.
	Marker string
	// Reservations are those of the test's builds.
	Reservations *Reservations
}

// Must ends the test if there is an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ShortDir returns a directory with a short path: Packer creates its sockets below it, and a socket's path has at most
// 107 bytes (unix(7)).
func ShortDir(t testing.TB) string {
	t.Helper()
	return testdir.New(t)
}

// Write writes a file in the box's directory and returns its path.
func (b *Host) Write(name, content string) string {
	b.Helper()
	path := filepath.Join(b.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		b.Fatal(err)
	}
	return path
}

// ProcessesWith lists the processes that have the entry in their environment.
func ProcessesWith(entry string) []string {
	var found []string
	for _, pid := range PidsWith(entry) {
		found = append(found, strings.ReplaceAll(Read(fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00", " "))
	}
	return found
}

// Read returns the content of a file, or "" if it cannot be read.
func Read(path string) string {
	content, _ := os.ReadFile(path)
	return string(content)
}

// Must ends the test if there is an error.
func (b *Host) Must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// Sh runs a shell script that must succeed, and returns its output.
func (b *Host) Sh(script string) string {
	b.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		b.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// WaitFor waits until a condition holds. what describes it in the error.
func WaitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < Deadline; time.Sleep(25 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Errorf("waited in vain until %s", what)
}

// Exists reports whether a file exists.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// EmptyTmp removes the temporary files of a Packer that was killed. The plugin's are not
// Packer's.
func (b *Host) EmptyTmp() {
	b.Helper()
	files, _ := filepath.Glob(filepath.Join(b.Dir, "tmp", "*"))
	for _, file := range files {
		if !slices.Contains(b.KeeperDirs(), file) {
			b.Must(remove.All(file))
		}
	}
}

// KeeperDirs are the directories of keepers' sockets.
func (b *Host) KeeperDirs() []string {
	dirs, _ := filepath.Glob(filepath.Join(b.Dir, "tmp", "packer-chroot-*"))
	return dirs
}

// PidsWith finds the processes that have the entry in their environment.
func PidsWith(entry string) (pids []int) {
	for _, pid := range allPids() {
		if isWith(pid, entry) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// allPids lists all processes. It reads one directory; a pattern such as /proc/*/environ would read those of all
// processes.
func allPids() (pids []int) {
	processes, _ := os.ReadDir("/proc")
	for _, process := range processes {
		if pid, err := strconv.Atoi(process.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isWith reports whether a process has the entry in its environment.
func isWith(pid int, entry string) bool {
	return strings.Contains("\x00"+Read(fmt.Sprintf("/proc/%d/environ", pid)), "\x00"+entry+"\x00")
}
