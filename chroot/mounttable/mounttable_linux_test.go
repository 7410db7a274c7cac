package mounttable_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/mounttable"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// mount mounts a file system on a directory until the end of the test.
func mount(t *testing.T, kind, dir, options string) {
	t.Helper()
	testroot.Need(t, "mounting")
	if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount(kind, dir, kind, 0, options)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil && !mounttable.NotMounted(err) {
			t.Error(err)
		}
	})
}

func TestBelow(t *testing.T) {
	for _, test := range []struct {
		path, root string
		want       bool
	}{
		{"/mnt", "/mnt", true}, {"/mnt/a", "/mnt", true}, {"/mnt2", "/mnt", false}, {"/", "/mnt", false}, {"/mnt", "/", true},
	} {
		if got := mounttable.Below(test.path, test.root); got != test.want {
			t.Errorf("%s is below %s: %v", test.path, test.root, got)
		}
	}
}

// table returns mounts of device numbers, each "PATH MINOR".
func table(mounts ...string) []*mountinfo.Info {
	var all []*mountinfo.Info
	for _, m := range mounts {
		path, minor, _ := strings.Cut(m, " ")
		n, _ := strconv.Atoi(minor)
		all = append(all, &mountinfo.Info{Mountpoint: path, Major: 7, Minor: n, FSType: "ext4"})
	}
	return all
}

func paths(mounts []*mountinfo.Info) []string {
	var all []string
	for _, m := range mounts {
		all = append(all, m.Mountpoint)
	}
	return all
}

func TestCopies(t *testing.T) {
	mounts := table("/ 1", "/mnt 2", "/mnt/proc 3", "/copy 2", "/copy/boot 4", "/mnt2 3")
	for minor, want := range map[uint32][]string{
		2: {"/mnt", "/mnt/proc", "/copy", "/copy/boot"},
		4: {"/copy/boot"},
		9: nil,
	} {
		got := paths(mounttable.Copies(mounts, map[uint64]bool{unix.Mkdev(7, minor): true}))
		if !slices.Equal(got, want) {
			t.Errorf("%d: %q, want %q", minor, got, want)
		}
	}
	if len(mounts) != 6 || mounts[0] == nil {
		t.Error("the mounts were changed")
	}
}

func TestDeepestFirst(t *testing.T) {
	got := paths(mounttable.DeepestFirst(table("/mnt 1", "/mnt/dev 2", "/mnt/dev/pts 3", "/mnt/sys 4")))
	if want := []string{"/mnt/dev/pts", "/mnt/dev", "/mnt/sys", "/mnt"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestHasDisk(t *testing.T) {
	for name, test := range map[string]struct {
		mount mountinfo.Info
		want  bool
	}{
		"disk":  {mountinfo.Info{Major: 8, FSType: "ext4"}, true},
		"btrfs": {mountinfo.Info{FSType: "btrfs"}, true},
		"tmpfs": {mountinfo.Info{FSType: "tmpfs"}, false},
		"nfs":   {mountinfo.Info{FSType: "nfs4"}, false},
	} {
		if got := mounttable.HasDisk(&test.mount); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestNotMounted(t *testing.T) {
	dir := testdir.New(t)
	if err := mounttable.Unmount(dir); err == nil || !mounttable.NotMounted(err) && !errors.Is(err, unix.EPERM) {
		t.Errorf("no mount point: %v", err)
	}
	for err, want := range map[error]bool{unix.EINVAL: true, unix.ENOENT: true, unix.EBUSY: false, unix.EPERM: false} {
		if got := mounttable.NotMounted(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// TestAMount mounts two file systems on one path, and unmounts them.
func TestAMount(t *testing.T) {
	dir := testdir.New(t)
	is := func(want bool) {
		t.Helper()
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got := mounttable.IsMountPoint(f); got != want {
			t.Errorf("something is mounted on it: %v", got)
		}
	}
	ids := []mounttable.ID{mounttable.At(dir)}
	is(false)
	for n := range 2 {
		mount(t, "tmpfs", dir, "")
		is(true)
		on, id := mounttable.On(dir), mounttable.At(dir)
		if len(on) != n+1 || slices.Contains(ids, id) || id.Mount != uint64(on[n].ID) {
			t.Errorf("mount %d has the identity %v among %v, and %d are on the path", n, id, ids, len(on))
		}
		if mounttable.At(filepath.Dir(dir)) != ids[0] {
			t.Error("the parent directory has another mount")
		}
		ids = append(ids, id)
	}
	for n := range 2 {
		if err := mounttable.Unmount(dir); err != nil {
			t.Fatal(err)
		}
		if got := mounttable.At(dir); got != ids[1-n] {
			t.Errorf("after unmounting, the mount is %v, not %v", got, ids[1-n])
		}
	}
	is(false)
}

// device returns the device number of the only mount on a directory.
func device(t *testing.T, dir string) uint64 {
	t.Helper()
	on := mounttable.On(dir)
	if len(on) != 1 {
		t.Fatalf("%d mounts are on %s", len(on), dir)
	}
	return mounttable.Device(on[0])
}

func TestDescribeOverlays(t *testing.T) {
	top := testdir.New(t)
	root, other := top+"/root", top+"/root2"
	for _, dir := range []string{root + "/upper", root + "/work", other} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount(t, "tmpfs", root, "")
	for _, dir := range []string{root + "/upper", root + "/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount(t, "overlay", top+"/merged", "lowerdir="+other+",upperdir="+root+"/upper,workdir="+root+"/work")
	if got, want := mounttable.DescribeOverlays(root), []string{"the overlay mount on " + top + "/merged"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := mounttable.DescribeOverlays(top + "/roo"); len(got) > 0 {
		t.Errorf("of another directory: %q", got)
	}
}

// TestUnmountCopies unmounts the copy that a process in another mount namespace has.
func TestUnmountCopies(t *testing.T) {
	dir := testdir.New(t)
	mount(t, "tmpfs", dir, "")
	if err := os.Mkdir(dir+"/below", 0o755); err != nil {
		t.Fatal(err)
	}
	mount(t, "tmpfs", dir+"/below", "")
	number := device(t, dir)
	process := unshared(t)
	theirs := func() []*mountinfo.Info {
		f, err := os.Open("/proc/" + process + "/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		mounts, err := mountinfo.GetMountsFromReader(f, mountinfo.PrefixFilter(dir))
		if err != nil {
			t.Fatal(err)
		}
		return mounts
	}
	if got := paths(theirs()); len(got) != 2 {
		t.Fatalf("the process has the copies %q", got)
	}
	described := strings.Join(mounttable.Describe(number), "\n")
	for _, want := range []string{"a mount on " + dir, "a mount on " + dir + " in the mount namespace of process " + process} {
		if !strings.Contains(described, want) {
			t.Errorf("described as %q, want %q", described, want)
		}
	}
	var logged []string
	log := func(_ string, args ...any) { logged = append(logged, args[1].(string)) }
	if err := mounttable.UnmountCopies("the device", number, log); err != nil {
		t.Fatal(err)
	}
	if got := paths(theirs()); len(got) > 0 {
		t.Errorf("the process still has the copies %q", got)
	}
	if !slices.ContainsFunc(logged, func(text string) bool { return strings.Contains(text, "process "+process) }) {
		t.Errorf("logged: %q", logged)
	}
	if len(mounttable.On(dir)) != 1 || len(mounttable.On(dir+"/below")) != 1 {
		t.Error("the mounts of this namespace were unmounted")
	}
}

// TestUnmountHiddenCopies: a copy whose path no longer leads to it, as while a container changes its root, is no error, and is
// not reported as unmounted.
func TestUnmountHiddenCopies(t *testing.T) {
	parent := testdir.New(t)
	dir := parent + "/mount"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mount(t, "tmpfs", dir, "")
	unshared(t, "mount -t tmpfs none "+parent)
	log := func(format string, args ...any) { t.Errorf("logged: "+format, args...) }
	if err := mounttable.UnmountCopies("the device", device(t, dir), log); err != nil {
		t.Error(err)
	}
}

// unshared starts a process with a mount namespace of its own, in which it has run some commands, and returns its ID.
func unshared(t *testing.T, commands ...string) (pid string) {
	t.Helper()
	script := strings.Join(append(commands, "echo ready", "exec sleep 1000"), " && ")
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	return strconv.Itoa(cmd.Process.Pid)
}
