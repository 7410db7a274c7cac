package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// runsDir holds the directories of test processes.
var runsDir string

// runPrefix begins the name of the directory of a test process.
const runPrefix = "acc"

// markAlive creates and locks a file in the directory of this process. The lock ends with the process.
func markAlive(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "starting"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, err
	}
	return file, os.Rename(file.Name(), filepath.Join(dir, "alive"))
}

// sweepKilledRuns cleans up after test processes that were killed: their clouds keep device names of the host in use, for
// which other tests would wait in vain.
func sweepKilledRuns(base string) error {
	marks, _ := filepath.Glob(filepath.Join(base, runPrefix+"*", "alive"))
	var errs []error
	for _, mark := range marks {
		file, err := os.OpenFile(mark, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			errs = append(errs, sweep(filepath.Dir(mark)))
		}
		file.Close()
	}
	return errors.Join(errs...)
}

// sweep removes everything of a killed test process: processes, mounts, loop devices with their nodes, and its
// directory.
func sweep(dir string) error {
	fmt.Fprintln(os.Stderr, "acceptance: cleaning up after a killed run in", dir)
	killProcessesOf(dir)
	for _, point := range mountsOf(dir) {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("cannot unmount %s of a killed run: %w", point, err)
		}
	}
	for _, store := range storesOf(dir) {
		if err := releaseDevices(store); err != nil {
			return err
		}
	}
	return remove.All(dir)
}

// killProcessesOf kills the processes with the directory in their environment or arguments, such as builds and
// loopclouds.
func killProcessesOf(dir string) {
	names := func(pid int, file string) bool {
		return strings.Contains(Read(fmt.Sprintf("/proc/%d/%s", pid, file)), dir+"/")
	}
	for begun := time.Now(); time.Since(begun) < Deadline; time.Sleep(20 * time.Millisecond) {
		alive := false
		for _, pid := range allPids() {
			if pid != os.Getpid() && (names(pid, "environ") || names(pid, "cmdline")) {
				alive = syscall.Kill(pid, syscall.SIGKILL) == nil || alive
			}
		}
		if !alive {
			return
		}
	}
}

// mountsOf lists the mount points below dir and those of loop devices on files below dir, the innermost first.
func mountsOf(dir string) (points []string) {
	for line := range strings.Lines(Read("/proc/self/mountinfo")) {
		if f := strings.Fields(line); len(f) > 4 && (strings.HasPrefix(f[4], dir+"/") || strings.HasPrefix(backing(f[2]), dir+"/")) {
			points = append(points, f[4])
		}
	}
	slices.Reverse(points)
	return points
}

// storesOf lists the directories of clouds below dir that have loop devices.
func storesOf(dir string) (stores []string) {
	for _, loop := range LoopsOf(dir) {
		_, file, _ := strings.Cut(loop, " on ")
		for store := filepath.Dir(file); len(store) > len(dir); store = filepath.Dir(store) {
			if Exists(filepath.Join(store, "token")) && !slices.Contains(stores, store) {
				stores = append(stores, store)
			}
		}
	}
	return stores
}

// releaseDevices starts a loopcloud, which detaches the devices of a killed one, and stops it.
func releaseDevices(store string) error {
	c := &Cloud{Store: store, Output: &bytes.Buffer{}}
	if err := c.start("serve", "--dir", store, "--listen", "127.0.0.1:0"); err != nil {
		return fmt.Errorf("cannot release the devices of a killed run in %s: %w", store, err)
	}
	_ = c.Cmd.Process.Signal(os.Interrupt)
	return c.Cmd.Wait()
}
