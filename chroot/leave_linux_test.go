package chroot_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// holdEnv makes this program hold something in a way that no shell can. Its value is the way
// and the path.
const holdEnv = "CHROOT_TEST_HOLD"

// maybeHold holds a root until it is ended, if this program was started for that.
func maybeHold() {
	way, path, ok := strings.Cut(os.Getenv(holdEnv), ":")
	if !ok {
		return
	}
	if err := holds[way](path); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	if way == "a thread when the first has ended" {
		exitThread()
	}
	select {} // only a signal ends it
}

var holds = map[string]func(path string) error{
	"a mapped file": func(path string) error {
		f, err := os.OpenFile(filepath.Join(path, "data"), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ, unix.MAP_SHARED)
		return err
	},
	"a socket": func(path string) error {
		_, err := net.Listen("unix", filepath.Join(path, fmt.Sprintf("socket-%d", os.Getpid())))
		return err
	},
	"a deleted file": func(path string) error {
		f, err := os.CreateTemp(path, "deleted")
		if err != nil {
			return err
		}
		return os.Remove(f.Name())
	},
	"a thread's directory": inThread(unix.Chdir),
	"a thread's open file": inThread(func(path string) error {
		if err := unix.Unshare(unix.CLONE_FILES); err != nil {
			return err
		}
		_, err := unix.Open(filepath.Join(path, "data"), unix.O_RDONLY, 0)
		return err
	}),
	"a thread when the first has ended": func(path string) error {
		_, err := unix.Open(filepath.Join(path, "data"), unix.O_RDONLY, 0)
		return err
	},
	"a mount of its own": inThread(func(path string) error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", path+"/tmp", "tmpfs", 0, ""); err != nil {
			return err
		}
		return unix.Chdir(path + "/tmp")
	}),
	"a mount below": inThread(func(path string) error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		return unix.Mount("tmpfs", path+"/tmp", "tmpfs", 0, "")
	}),
	"a detached mount": inThread(func(path string) error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Chdir(path); err != nil {
			return err
		}
		return unix.Unmount(path, unix.MNT_DETACH)
	}),
}

// inThread acts in a thread with its own root, directory and namespaces, that stays.
func inThread(act func(path string) error) func(path string) error {
	return func(path string) error {
		result := make(chan error)
		go onOtherThread(func() {
			err := unix.Unshare(unix.CLONE_FS)
			if err == nil {
				err = act(path)
			}
			result <- err
			select {}
		})
		return <-result
	}
}

// onOtherThread acts on a thread that is not the first of its process.
func onOtherThread(act func()) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		go onOtherThread(act)
		select {}
	}
	act()
}

// exitThread ends the first thread; the process lives on.
func exitThread() {
	go func() { select {} }()
	go func() {
		for {
			time.Sleep(time.Hour)
		}
	}()
	_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT, 0, 0, 0)
}

// holder starts this program to hold a root in one of its ways.
func holder(way string) func(root string) *exec.Cmd {
	return func(root string) *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), holdEnv+"="+way+":"+root)
		return cmd
	}
}

// busybox starts a command of the root's busybox, from outside.
func busybox(dir string, attr *syscall.SysProcAttr, args ...string) *exec.Cmd {
	return &exec.Cmd{Path: "/bin/busybox", Args: append([]string{"busybox"}, args...), Dir: dir, SysProcAttr: attr}
}

// sleeper is the program in which a process waits until it is ended.
var sleeper = []string{"sleep", "1000"}

// holderKinds are the ways in which a process can hold a root. Leave must end all of them.
var holderKinds = map[string]func(root string) *exec.Cmd{
	"its root":      func(root string) *exec.Cmd { return busybox("/", &syscall.SysProcAttr{Chroot: root}, sleeper...) },
	"its directory": func(root string) *exec.Cmd { return busybox(root+"/tmp", nil, sleeper...) },
	"its program": func(root string) *exec.Cmd {
		return &exec.Cmd{Path: root + "/bin/busybox", Args: sleeper}
	},
	"an open file": func(root string) *exec.Cmd {
		return &exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", `exec 3<"$0"; exec sleep 1000`, root + "/data"}}
	},
	"another user": func(root string) *exec.Cmd {
		return busybox("/", &syscall.SysProcAttr{Chroot: root, Setsid: true, Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}, sleeper...)
	},
	"deaf to SIGTERM": func(root string) *exec.Cmd {
		return busybox("/", &syscall.SysProcAttr{Chroot: root}, "sh", "-c", "trap '' TERM HUP INT; echo ready; while :; do sleep 1000; done")
	},
	"answers SIGTERM with a child": func(root string) *exec.Cmd {
		return busybox("/", &syscall.SysProcAttr{Chroot: root}, "sh", "-c", "trap 'setsid sleep 1000 & exit' TERM; sleep 1000 & echo ready; wait")
	},
	"a namespace": func(root string) *exec.Cmd {
		return busybox("/", &syscall.SysProcAttr{Chroot: root, Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC}, sleeper...)
	},
	"a mount namespace": func(root string) *exec.Cmd {
		return busybox(root, &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}, sleeper...)
	},
	"a mapped file":                     holder("a mapped file"),
	"a socket":                          holder("a socket"),
	"a deleted file":                    holder("a deleted file"),
	"a thread's directory":              holder("a thread's directory"),
	"a thread's open file":              holder("a thread's open file"),
	"a thread when the first has ended": holder("a thread when the first has ended"),
	"a mount of its own":                holder("a mount of its own"),
	"a mount below":                     holder("a mount below"),
	"a detached mount":                  holder("a detached mount"),
}

// begin starts a process and waits until it holds.
func begin(t *testing.T, cmd *exec.Cmd) (pid int, over <-chan struct{}) {
	t.Helper()
	over, err := hold(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd.Process.Pid, over
}

func hold(cmd *exec.Cmd) (over <-chan struct{}, err error) {
	tells := strings.Contains(strings.Join(cmd.Args, " "), "echo ready") ||
		slices.ContainsFunc(cmd.Env, func(e string) bool { return strings.HasPrefix(e, holdEnv) })
	var out io.Reader
	if tells {
		if out, err = cmd.StdoutPipe(); err != nil {
			return nil, err
		}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if tells {
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			return nil, errors.Join(fmt.Errorf("the holder says %q", line), err)
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	return ended, nil
}

// journal records the log of a keeper.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) log(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "\n")
}

// cage returns a keeper that logs, and a root on a block device that contains busybox. The
// keeper's time limit suits a busy machine.
func cage(t *testing.T) (*chroot.Keeper, *journal, chroot.MountSpec) {
	t.Helper()
	return cageFor(t, 2*time.Minute)
}

// cageFor is cage with a time limit for a root that stays in use.
func cageFor(t *testing.T, busy time.Duration) (*chroot.Keeper, *journal, chroot.MountSpec) {
	t.Helper()
	testroot.Need(t, "mounting")
	j := &journal{}
	k, err := chroot.Start(chroot.Options{Busy: busy, Grace: 300 * time.Millisecond, Log: j.log})
	if err != nil {
		t.Fatal(err)
	}
	spec := chroot.MountSpec{Device: loop(t, disk(t, 16, "mkfs.ext4", "-q")), Path: filepath.Join(stage(t), "root")}
	if _, err := k.Mount(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	furnish(t, spec.Path)
	write(t, spec.Path+"/data", "data", 0o644)
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Fatal(err)
	}
	return k, j, spec
}

func TestLeaveEndsHolders(t *testing.T) {
	k, j, spec := cage(t)
	for name, start := range holderKinds {
		t.Run(name, func(t *testing.T) {
			mount(t, k, spec)
			pid, over := begin(t, start(spec.Path))
			if err := k.Leave(t.Context(), spec.Path); err != nil {
				t.Fatal(err)
			}
			select {
			case <-over:
			case <-time.After(atMost):
				t.Error("it still runs")
			}
			if line := "ending process " + strconv.Itoa(pid) + " ("; !strings.Contains(j.String(), line) {
				t.Errorf("the log does not say %q:\n%s", line, j)
			}
			if kills := strings.Contains(j.String(), "killing process "+strconv.Itoa(pid)); kills != (name == "deaf to SIGTERM" || name == "a namespace") {
				t.Errorf("killed: %v\n%s", kills, j)
			}
		})
	}
}

// TestLeaveEndsDaemons has provisioners leave daemons behind.
func TestLeaveEndsDaemons(t *testing.T) {
	const apart = " </dev/null >/dev/null 2>&1 "
	k, j, spec := cage(t)
	for name, line := range map[string]string{
		"background":  "sleep 1001" + apart + "&",
		"double fork": "(setsid sh -c 'sleep 1001 & sleep 1001 & wait'" + apart + "&)",
		"stopped":     "sh -c 'kill -STOP $$; exec sleep 1001'" + apart + "&",
	} {
		t.Run(name, func(t *testing.T) {
			m := mount(t, k, spec)
			sh(t, m, line)
			if err := k.Leave(t.Context(), spec.Path); err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile(`process \d+ \(.*sleep 1001.*\), which has its root there`).MatchString(j.String()) {
				t.Errorf("the log says\n%s", j)
			}
		})
	}
}

// TestLeaveSparesTheHost binds directories that other processes use into the root.
func TestLeaveSparesTheHost(t *testing.T) {
	k, _, spec := cage(t)
	m := mount(t, k, spec)
	shared := testdir.New(t)
	write(t, shared+"/file", "", 0o644)
	for _, submount := range []chroot.Submount{
		{Type: "bind", Source: "/dev", Target: "/dev"},
		{Type: "bind", Source: shared, Target: "/shared"},
		{Type: "proc", Source: "proc", Target: "/proc"},
		{Type: "sysfs", Source: "sysfs", Target: "/sys"},
	} {
		if err := m.MountBelow(t.Context(), submount); err != nil {
			t.Fatal(err)
		}
	}
	script := `exec 3</dev/zero 4</proc/uptime 5</sys/kernel/mm 6<"$0"; exec sleep 1000`
	_, over := begin(t, &exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", script, shared + "/file"}, Dir: shared})
	_, copied := begin(t, busybox(shared, &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}, sleeper...))
	inside, gone := begin(t, &exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", `exec 3<"$0"; exec sleep 1000`, m.Path() + "/dev/zero"}})
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Fatal(err)
	}
	select {
	case <-over:
		t.Error("a process of the host was ended")
	case <-copied:
		t.Error("a process that has a copy of the mounts, and uses none, was ended")
	case <-gone:
	case <-time.After(atMost):
		t.Errorf("process %d holds a mount of the root, and still runs", inside)
	}
}

// TestLeaveFailsWhileItsOwnProcessHolds checks that everything stays mounted meanwhile.
func TestLeaveFailsWhileItsOwnProcessHolds(t *testing.T) {
	k, _, spec := cageFor(t, 2*time.Second)
	m := mount(t, k, spec)
	if err := m.MountBelow(t.Context(), chroot.Submount{Type: "tmpfs", Source: "tmpfs", Target: "/tmp"}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(spec.Path + "/data")
	if err != nil {
		t.Fatal(err)
	}
	err = k.Leave(t.Context(), spec.Path)
	if !errors.Is(err, unix.EBUSY) {
		t.Errorf("error %v, want it to be EBUSY", err)
	}
	says(t, err, "cannot leave "+spec.Path, fmt.Sprintf("process %d (", os.Getpid()), "has "+spec.Path+"/data open")
	if got := mountsBelow(t, spec.Path); len(got) != 2 {
		t.Errorf("mounted: %q", got)
	}
	go func() {
		time.Sleep(100 * time.Millisecond)
		f.Close()
	}()
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Errorf("when it lets go meanwhile: %v", err)
	}
}

// TestLeaveFailsWhileAParentHolds has the shell that starts a build go into the
// root.
func TestLeaveFailsWhileAParentHolds(t *testing.T) {
	root := filepath.Join(stage(t), "root")
	script := `mkfifo "$1/in" "$1/out"
"$0" <"$1/in" >"$1/out" & exec 3>"$1/in" 4<"$1/out"
read word <&4 && cd "$2" && echo there >&3
while read -r line <&4; do echo "$line"; done; wait`
	cmd := exec.Command("/bin/sh", "-c", script, os.Args[0], testdir.New(t), root)
	cmd.Env = append(os.Environ(), buildEnv+"="+root)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the shell was ended: %v\n%s", err, &out)
	}
	for _, want := range []string{"cannot leave " + root, fmt.Sprintf("process %d (/bin/sh -c", cmd.Process.Pid), "which works there"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the build says %q, want %q in it", &out, want)
		}
	}
	if err := unix.Unmount(root, 0); err != nil {
		t.Errorf("what could not be left was detached: %v", err)
	}
}

// buildEnv makes this program a build that mounts, waits for a line, and leaves.
const buildEnv = "CHROOT_TEST_BUILD"

func maybeBuild() {
	root := os.Getenv(buildEnv)
	if root == "" {
		return
	}
	if err := build(root); err != nil {
		fmt.Println(err)
	}
	os.Exit(0)
}

func build(root string) error {
	k, err := chroot.Start(chroot.Options{Busy: 200 * time.Millisecond})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := k.Mount(ctx, chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: root}); err != nil {
		return err
	}
	fmt.Println("mounted")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	return k.Leave(ctx, root)
}

// TestLeaveDetachesLoopDevices has a provisioner leave them over files of the image.
func TestLeaveDetachesLoopDevices(t *testing.T) {
	k, j, spec := cage(t)
	m := mount(t, k, spec)
	host(t, "truncate", "--size=4M", m.Path()+"/inner")
	host(t, "mkfs.ext4", "-q", m.Path()+"/inner")
	device := host(t, "losetup", "--find", "--show", m.Path()+"/inner")
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", device).Run() })
	if err := unix.Mount(device, m.Path()+"/tmp", "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	_, over := begin(t, busybox(m.Path()+"/tmp", nil, sleeper...))
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Fatal(err)
	}
	<-over
	if !strings.Contains(j.String(), "detaching "+device) {
		t.Errorf("the log says\n%s", j)
	}
}

// TestLeaveAfterALazyUnmount has a user's command detach the root while processes work in
// it.
func TestLeaveAfterALazyUnmount(t *testing.T) {
	k, j, spec := cage(t)
	mount(t, k, spec)
	_, over := begin(t, busybox(spec.Path, nil, sleeper...))
	if err := unix.Unmount(spec.Path, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Fatal(err)
	}
	<-over
	if !strings.Contains(j.String(), "(busybox sleep 1000), which works there") {
		t.Errorf("the log says\n%s", j)
	}
}

// TestLeaveSparesReusedDeviceNode removes a root's device and gives its node to another disk,
// as a cloud may if a user detaches a volume by force. A process that uses the node is not
// ended.
func TestLeaveSparesReusedDeviceNode(t *testing.T) {
	k, j, spec := cage(t)
	another := loop(t, disk(t, 16, "mkfs.ext4", "-q"))
	var ours, theirs unix.Stat_t
	if err := errors.Join(unix.Stat(spec.Device, &ours), unix.Stat(another, &theirs)); err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(stage(t), "disk1")
	become := func(number uint64) {
		t.Helper()
		if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(number)); err != nil {
			t.Fatal(err)
		}
	}
	become(ours.Rdev)
	spec.Device = node
	mount(t, k, spec)
	if err := os.Remove(node); err != nil {
		t.Fatal(err)
	}
	become(theirs.Rdev)
	root := filepath.Join(stage(t), "another")
	mount(t, start(t, nil), chroot.MountSpec{Device: node, Path: root})
	furnish(t, root)
	pid, over := begin(t, busybox(root, nil, sleeper...))
	defer func() {
		_ = unix.Kill(pid, unix.SIGKILL)
		<-over
	}()
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Errorf("%v\n%s", err, j)
	}
	select {
	case <-over:
		t.Errorf("who works in another root was ended:\n%s", j)
	default:
	}
	if left := mountsBelow(t, spec.Path); len(left) > 0 {
		t.Errorf("left mounted: %v", left)
	}
	if len(mountsBelow(t, root)) == 0 {
		t.Error("another root was unmounted")
	}
}

// TestLeaveEndsSwapping has a provisioner leave a swap file in use.
func TestLeaveEndsSwapping(t *testing.T) {
	k, j, spec := cage(t)
	m := mount(t, k, spec)
	file := m.Path() + "/a swap file"
	write(t, file, strings.Repeat("\x00", 1<<20), 0o600)
	host(t, "mkswap", file)
	host(t, "swapon", file)
	t.Cleanup(func() { _ = exec.Command("swapoff", file).Run() })
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(j.String(), "swapping to "+file) {
		t.Errorf("the log says\n%s", j)
	}
}

// TestVisitorsAreNotTakenForHolders checks that the keeper of another build, which has entered
// a namespace to unmount its own root there, is not ended.
func TestVisitorsAreNotTakenForHolders(t *testing.T) {
	k, j, spec := cage(t)
	if _, err := k.Mount(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	cmd := holder("a mount below")(spec.Path)
	cmd.Args = append(cmd.Args, "keep-chroot", "as a keeper is called")
	_, over := begin(t, cmd)
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Fatal(err)
	}
	select {
	case <-over:
		t.Errorf("the visitor was ended; the log says\n%s", j)
	default:
	}
}

// TestLeaveManyRoots leaves small roots with every kind of holder: hundreds, and thousands with
// ALL=1.
func TestLeaveManyRoots(t *testing.T) {
	const keepers = 8
	leaves := 250
	if os.Getenv("ALL") == "1" {
		leaves = 4000
	}
	names := slices.Sorted(maps.Keys(holderKinds))
	work := make(chan string, leaves)
	for n := range leaves {
		work <- names[n%len(names)]
	}
	close(work)
	var wg sync.WaitGroup
	for range keepers {
		k, j, spec := cage(t)
		before := mountTable(t, spec)
		wg.Go(func() {
			for name := range work {
				if err := leaveOnce(k, spec, name); err != nil {
					t.Errorf("%s: %v; the log says\n%s", name, err, j)
					return
				}
			}
		})
		defer func() {
			if after := mountTable(t, spec); after != before {
				t.Errorf("the host's mounts were\n%s\nand are\n%s", before, after)
			}
		}()
	}
	wg.Wait()
}

func leaveOnce(k *chroot.Keeper, spec chroot.MountSpec, name string) error {
	if _, err := k.Mount(context.Background(), spec); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", spec.Path+"/proc", "tmpfs", 0, ""); err != nil {
		return err
	}
	cmd := holderKinds[name](spec.Path)
	over, err := hold(cmd)
	if err != nil {
		return err
	}
	defer cmd.Process.Kill()
	if err := k.Leave(context.Background(), spec.Path); err != nil {
		return err
	}
	<-over
	return nil
}

// mountTable returns the host's mounts of a test's device, or at its root.
func mountTable(t *testing.T, spec chroot.MountSpec) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(read(t, "/proc/self/mountinfo")) {
		if strings.Contains(line, filepath.Dir(spec.Path)) || strings.Contains(line, " "+spec.Device+" ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
