package harness

import (
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

// A Host is a test's directory on this machine, and the processes that its builds run.
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

func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ShortDir is a directory for a test whose name does not hold the test's: Packer
// makes its sockets below it, and a socket's path is 107 bytes at most (unix(7)).
func ShortDir(t testing.TB) string {
	t.Helper()
	return testdir.New(t)
}

// Write puts a file beside the templates and answers its path.
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
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		if slices.Contains(strings.Split(Read(f), "\x00"), entry) {
			found = append(found, strings.ReplaceAll(Read(filepath.Join(filepath.Dir(f), "cmdline")), "\x00", " "))
		}
	}
	return found
}

func Read(path string) string {
	content, _ := os.ReadFile(path)
	return string(content)
}

func (b *Host) Must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *Host) Sh(script string) string {
	b.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		b.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func WaitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < Deadline; time.Sleep(25 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Errorf("waited in vain until %s", what)
}

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
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		if strings.Contains("\x00"+Read(file), "\x00"+entry+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}
