package chroot_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// freezers freeze a process: in each cgroup hierarchy of the host that can.
var freezers = map[string]struct {
	kind, option, file, value, state string
}{
	"cgroup v1": {"cgroup", "freezer", "freezer.state", "FROZEN", "FROZEN\n"},
	"cgroup v2": {"cgroup2", "", "cgroup.freeze", "1", "1\n"},
}

// hierarchy returns the mount point of a cgroup hierarchy, and mounts it if necessary.
func hierarchy(t *testing.T, kind, option string) string {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter(kind))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.Root == "/" && (option == "" || slices.Contains(strings.Split(m.VFSOptions, ","), option)) {
			return m.Mountpoint
		}
	}
	dir := testdir.New(t)
	if err := unix.Mount(kind, dir, kind, 0, option); err != nil {
		t.Skipf("this kernel has no %s %s hierarchy: %v", kind, option, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// freeze puts processes into a new frozen cgroup, and thaws it when the test ends.
func freeze(t *testing.T, way string, pids ...int) {
	t.Helper()
	f := freezers[way]
	top := hierarchy(t, f.kind, f.option)
	dir := filepath.Join(top, "packer-chroot-test-"+strconv.Itoa(os.Getpid())+"-"+strconv.Itoa(pids[0]))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	thawed := strings.NewReplacer("FROZEN", "THAWED", "1", "0").Replace(f.value)
	t.Cleanup(func() {
		err := os.WriteFile(filepath.Join(dir, f.file), []byte(thawed), 0)
		for _, pid := range pids {
			_ = os.WriteFile(filepath.Join(top, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
		}
		for range 100 {
			if errors.Is(os.Remove(dir), os.ErrNotExist) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%s cannot be removed (%v)", dir, err)
	})
	for _, pid := range pids {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, f.file), []byte(f.value), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "frozen", func() bool { return read(t, filepath.Join(dir, f.file)) == f.state })
}

// TestLeaveEndsFrozenProcesses checks that a frozen process of the root is ended, and that
// another process that is frozen with it stays as it is.
func TestLeaveEndsFrozenProcesses(t *testing.T) {
	k, j, spec := cage(t)
	for way := range freezers {
		t.Run(way, func(t *testing.T) {
			m := mount(t, k, spec)
			pid, err := strconv.Atoi(strings.TrimSpace(sh(t, m, "sleep 1000 >/dev/null 2>&1 </dev/null & echo $!")))
			if err != nil {
				t.Fatal(err)
			}
			from, over := begin(t, busybox(spec.Path, nil, sleeper...))
			other, ended := begin(t, busybox("/", &syscall.SysProcAttr{Setsid: true}, sleeper...))
			freeze(t, way, pid, from, other)
			if err := k.Leave(t.Context(), spec.Path); err != nil {
				t.Fatalf("%v; the log says\n%s", err, j)
			}
			<-over
			select {
			case <-ended:
				t.Error("a process that does not hold the root was ended")
			default:
			}
			if state := stateOf(t, other); way == "cgroup v1" && state != "D" {
				t.Errorf("the state of another process in the group is %s: it was thawed", state)
			}
		})
	}
}

// stateOf is the state of a process as proc_pid_stat(5) names it.
func stateOf(t *testing.T, pid int) string {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, "/proc/"+strconv.Itoa(pid)+"/stat"), ") ")
	return rest[:1]
}

// startTime returns the start time of a process, as in proc_pid_stat(5).
func startTime(t *testing.T, pid int) uint64 {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, "/proc/"+strconv.Itoa(pid)+"/stat"), ") ")
	start, err := strconv.ParseUint(strings.Fields(rest)[19], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return start
}
