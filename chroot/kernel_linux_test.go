package chroot_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// kernelMount mounts a file system of the kernel for a test.
func kernelMount(t *testing.T, kind string) string {
	t.Helper()
	dir := testdir.New(t)
	if err := unix.Mount(kind, dir, kind, 0, ""); err != nil {
		t.Skipf("this kernel has no %s: %v", kind, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// formatName is a name of a test's own for an entry of binfmt_misc.
func formatName(what string) string { return fmt.Sprintf("chroot-test-%d-%s", os.Getpid(), what) }

// register returns the line that registers an entry, which matches no file.
func register(name, interpreter, flags string) string {
	return fmt.Sprintf(":%s:M::%s::%s:%s", name, strings.ToUpper(strings.ReplaceAll(name, "-", "")), interpreter, flags)
}

// formats mounts binfmt_misc of the host. Entries that a test registers are removed at its
// end.
type formats struct {
	*testing.T
	dir string
}

func binfmt(t *testing.T) formats {
	t.Helper()
	testroot.Need(t, "mounting")
	return formats{t, kernelMount(t, "binfmt_misc")}
}

func (f formats) register(name, interpreter, flags string) {
	f.Helper()
	if err := os.WriteFile(f.dir+"/register", []byte(register(name, interpreter, flags)), 0); err != nil {
		f.Fatal(err)
	}
	f.removeLater(name)
}

func (f formats) removeLater(name string) {
	f.Cleanup(func() { _ = os.WriteFile(filepath.Join(f.dir, name), []byte("-1"), 0) })
}

func (f formats) registerInside(root chroot.Root, name, interpreter, flags string) {
	f.Helper()
	if err := unix.Mount("binfmt_misc", root.Path()+"/proc", "binfmt_misc", 0, ""); err != nil {
		f.Fatal(err)
	}
	sh(f.T, root, "busybox cp /bin/busybox "+interpreter+"; echo '"+register(name, interpreter, flags)+"' >/proc/register")
	f.removeLater(name)
	if err := unix.Unmount(root.Path()+"/proc", 0); err != nil {
		f.Fatal(err)
	}
}

func (f formats) has(name string) bool { return exists(filepath.Join(f.dir, name)) }

// TestLeaveRemovesFormats checks that a binfmt_misc entry whose interpreter is an open file of
// the image is removed, and that entries of the host, and of another root, stay.
func TestLeaveRemovesFormats(t *testing.T) {
	f := binfmt(t)
	before, meanwhile, inside, loose := formatName("before"), formatName("meanwhile"), formatName("inside"), formatName("loose")
	f.register(before, "/bin/busybox", "F")
	k, j, spec := cage(t)
	m := mount(t, k, spec)
	another := mount(t, start(t, nil), chroot.MountSpec{Device: loop(t, disk(t, 16, "mkfs.ext4", "-q")), Path: filepath.Join(stage(t), "another")})
	furnish(t, another.Path())
	f.register(meanwhile, "/bin/busybox", "F")
	f.registerInside(m, inside, "/interpreter", "F")
	f.registerInside(m, loose, "/loose", "")
	theirs := formatName("theirs")
	f.registerInside(another, theirs, "/interpreter", "F")
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Fatalf("%v; the log says\n%s", err, j)
	}
	if f.has(inside) {
		t.Error("the host still has the image's entry")
	}
	for _, name := range []string{before, meanwhile, loose, theirs} {
		if !f.has(name) {
			t.Errorf("the entry %s was removed", name)
		}
	}
	for _, want := range []string{
		"removing the binfmt_misc entry " + inside + ": its interpreter /interpreter is in " + spec.Path,
		"leads nowhere on the host: the binfmt_misc entry " + loose,
	} {
		if !strings.Contains(j.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, j)
		}
	}
	if err := another.Leave(t.Context()); err != nil || f.has(theirs) {
		t.Errorf("the other root is left: %v; its entry is there: %v", err, f.has(theirs))
	}
}

// TestReclaimRemovesFormats checks that binfmt_misc entries of the root are removed after the
// build and its keeper were killed.
func TestReclaimRemovesFormats(t *testing.T) {
	f := binfmt(t)
	o := orphaned(t, false)
	name := formatName("orphaned")
	f.registerInside(o.root, name, "/interpreter", "F")
	o.kill(t)
	if err := o.reclaim(t.Context(), launch(t, nil)); err != nil {
		t.Fatal(err)
	}
	o.gone(t)
	if f.has(name) {
		t.Error("the host still has the image's entry")
	}
}

// uprobes mounts tracefs. Uprobes that a test registers are removed at its end.
type uprobes struct {
	*testing.T
	dir string
}

func tracing(t *testing.T) uprobes {
	t.Helper()
	testroot.Need(t, "mounting")
	u := uprobes{t, kernelMount(t, "tracefs")}
	if !exists(u.dir + "/uprobe_events") {
		t.Skip("this kernel has no uprobes")
	}
	return u
}

// group begins the names of a test's uprobes.
func group() string { return fmt.Sprintf("chroottest%d/", os.Getpid()) }

func (u uprobes) write(text string) error {
	events, err := os.OpenFile(u.dir+"/uprobe_events", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer events.Close()
	_, err = events.WriteString(text + "\n")
	return err
}

func (u uprobes) register(name, path string) {
	u.Helper()
	if err := u.write("p:" + group() + name + " " + path + ":0x1000"); err != nil {
		u.Fatal(err)
	}
	u.removeLater(name)
}

func (u uprobes) registerInside(root chroot.Root, name, path string) {
	u.Helper()
	if err := unix.Mount("tracefs", root.Path()+"/proc", "tracefs", 0, ""); err != nil {
		u.Fatal(err)
	}
	sh(u.T, root, "echo 'p:"+group()+name+" "+path+":0x1000' >>/proc/uprobe_events")
	u.removeLater(name)
	if err := unix.Unmount(root.Path()+"/proc", 0); err != nil {
		u.Fatal(err)
	}
}

func (u uprobes) enable(name string) {
	u.Helper()
	if err := os.WriteFile(u.dir+"/events/"+group()+name+"/enable", []byte("1"), 0); err != nil {
		u.Fatal(err)
	}
}

func (u uprobes) removeLater(name string) {
	u.Cleanup(func() {
		_ = os.WriteFile(u.dir+"/events/"+group()+name+"/enable", []byte("0"), 0)
		_ = u.write("-:" + group() + name)
	})
}

func (u uprobes) has(name string) bool {
	return strings.Contains(read(u.T, u.dir+"/uprobe_events"), ":"+group()+name+" ")
}

// TestLeaveRemovesProbes checks that a uprobe on a file of the image is removed, and that the
// host's uprobes stay.
func TestLeaveRemovesProbes(t *testing.T) {
	u := tracing(t)
	u.register("before", "/bin/busybox")
	k, j, spec := cage(t)
	for name, path := range map[string]func(m *chroot.MountedRoot){
		"from the chroot": func(m *chroot.MountedRoot) { u.registerInside(m, "inside", "/bin/busybox") },
		"from the host":   func(m *chroot.MountedRoot) { u.register("inside", m.Path()+"/bin/busybox"); u.enable("inside") },
	} {
		t.Run(name, func(t *testing.T) {
			m := mount(t, k, spec)
			u.register("atime", "/bin/busybox") // precedes the other one in the list, or follows it
			u.enable("atime")
			path(m)
			if err := k.Leave(t.Context(), spec.Path); err != nil {
				t.Fatalf("%v; the log says\n%s", err, j)
			}
			if u.has("inside") || !u.has("before") || !u.has("atime") {
				t.Errorf("the uprobes are\n%s", read(t, u.dir+"/uprobe_events"))
			}
			if got := read(t, u.dir+"/events/"+group()+"atime/enable"); got != "1\n" {
				t.Errorf("the host's probe is enabled: %q", got)
			}
			if want := "removed the uprobe " + group() + "inside on "; !strings.Contains(j.String(), want) {
				t.Errorf("the log does not say %q:\n%s", want, j)
			}
			_ = os.WriteFile(u.dir+"/events/"+group()+"atime/enable", []byte("0"), 0)
			_ = u.write("-:" + group() + "atime")
		})
	}
}

// TestLeaveNamesProbes checks that the error names a uprobe that is in use and cannot be
// removed.
func TestLeaveNamesProbes(t *testing.T) {
	u := tracing(t)
	k, _, spec := cageFor(t, 2*time.Second)
	m := mount(t, k, spec)
	u.registerInside(m, "used", "/bin/busybox")
	id, err := strconv.ParseUint(strings.TrimSpace(read(t, u.dir+"/events/"+group()+"used/id")), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		t.Skipf("perf_event_open: %v", err)
	}
	err = k.Leave(t.Context(), spec.Path)
	unix.Close(fd)
	says(t, err, spec.Path, "the uprobe "+group()+"used on /bin/busybox", "uprobe_events removes it")
}

// TestLeaveThaws checks that a file system that a provisioner has frozen is thawed.
func TestLeaveThaws(t *testing.T) {
	k, j, spec := cage(t)
	mount(t, k, spec)
	write(t, spec.Path+"/written", "written", 0o644)
	dir, err := unix.Open(spec.Path, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	const fifreeze = 0xC0045877 // FIFREEZE of linux/fs.h
	err = unix.IoctlSetInt(dir, fifreeze, 0)
	unix.Close(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(j.String(), "thawed the file system on "+spec.Path) {
		t.Errorf("the log says\n%s", j)
	}
	mount(t, k, spec)
	write(t, spec.Path+"/written", "again", 0o644) // which would wait for ever
}

// TestLeaveEndsAccounting checks that process accounting to a file of the root is turned off.
func TestLeaveEndsAccounting(t *testing.T) {
	k, _, spec := cage(t)
	mount(t, k, spec)
	write(t, spec.Path+"/accounting", "", 0o600)
	acct := func(path *byte) error {
		if _, _, errno := unix.Syscall(unix.SYS_ACCT, uintptr(unsafe.Pointer(path)), 0, 0); errno != 0 {
			return errno
		}
		return nil
	}
	path, err := unix.BytePtrFromString(spec.Path + "/accounting")
	if err != nil {
		t.Fatal(err)
	}
	if err := acct(path); err != nil {
		t.Skipf("this kernel does not account: %v", err)
	}
	t.Cleanup(func() { _ = acct(nil) })
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Error(err)
	}
}

// TestLeaveNamesOverlays checks that the error names an overlay of the host that has a
// directory of the root as its layer.
func TestLeaveNamesOverlays(t *testing.T) {
	k, _, spec := cageFor(t, 2*time.Second)
	m := mount(t, k, spec)
	over := stage(t)
	if err := unix.Mount("overlay", over, "overlay", 0, "lowerdir="+m.Path()+"/bin:"+m.Path()+"/etc"); err != nil {
		t.Skipf("this kernel has no overlay: %v", err)
	}
	err := k.Leave(t.Context(), spec.Path)
	if err := unix.Unmount(over, 0); err != nil {
		t.Error(err)
	}
	says(t, err, spec.Device, "the overlay mount on "+over)
}
