package chroot_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// launch starts a keeper's process, which ends with the test.
func launch(t testing.TB, wrapper func(string) (string, error)) *chroot.Client {
	t.Helper()
	testroot.Need(t, "mounting")
	c, err := chroot.Launch(t.Context(), chroot.Options{Wrapper: wrapper, Busy: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// far is like tiny, with a keeper in its own process.
func far(t testing.TB, wrapper func(string) (string, error)) *chroot.Remote {
	t.Helper()
	path := filepath.Join(stage(t), "root")
	return farAt(t, launch(t, wrapper), path)
}

func farAt(t testing.TB, c *chroot.Client, path string) *chroot.Remote {
	t.Helper()
	r, err := c.Mount(t.Context(), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: path, Options: []string{"size=64m,mode=755"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Leave(context.Background(), path); err != nil {
			t.Error(err)
		}
	})
	furnish(t, path)
	return r
}

// atMost is the time limit for acts that take a moment on an idle machine. Benchmarks
// measure how long they take.
const atMost = 2 * time.Minute

// eventually waits until is returns true, and fails the test if it does not in time.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for begun := time.Now(); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > atMost {
			t.Fatalf("not %s within %v", what, atMost)
		}
	}
}

func TestLaunchNeedsRoot(t *testing.T) {
	_, err := chroot.Launch(t.Context(), chroot.Options{UID: func() int { return 1000 }})
	if !errors.Is(err, chroot.ErrNotRoot) {
		t.Errorf("error %v", err)
	}
	says(t, err, "root", "run packer as root", "command_wrapper", "sudo {{.Command}}")
}

func TestLaunchReportsWhyKeeperFailed(t *testing.T) {
	testroot.Need(t, "mounting")
	for name, c := range map[string]struct {
		wrapper func(string) (string, error)
		want    []string
	}{
		"it fails":     {func(string) (string, error) { return "echo no password >&2; exit 3", nil }, []string{"command_wrapper", "exit status 3", "no password"}},
		"it does not":  {func(string) (string, error) { return "/nowhere/sudo x", nil }, []string{"command_wrapper", "/nowhere/sudo"}},
		"it is silent": {func(string) (string, error) { return ":", nil }, []string{"command_wrapper", "ended before it reported"}},
		"a template":   {func(string) (string, error) { return "", errors.New("bad template") }, []string{"command_wrapper", "bad template"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := chroot.Launch(t.Context(), chroot.Options{Wrapper: c.wrapper})
			says(t, err, c.want...)
		})
	}
}

// TestLaunchSweepsSockets checks that the socket directories that killed plugins have left are
// removed, and other directories are not.
func TestLaunchSweepsSockets(t *testing.T) {
	outside := testdir.New(t)
	t.Setenv("TMPDIR", testdir.New(t))
	at := func(name string) string { return filepath.Join(os.TempDir(), "packer-chroot-keeper-"+name) }
	for _, name := range []string{"1", "2", "held", "full"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(at("2"), "keeper"), "", 0o600)
	write(t, filepath.Join(at("full"), "mine"), "a user's", 0o600)
	held, err := os.Open(at("held"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := unix.Flock(int(held.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, at("link")); err != nil {
		t.Fatal(err)
	}
	launch(t, nil)
	for name, stays := range map[string]bool{"1": false, "2": false, "held": true, "full": true, "link": true} {
		if exists(at(name)) != stays {
			t.Errorf("%s is there: %t", at(name), !stays)
		}
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 3 {
		t.Errorf("there are %v, %v", left, err)
	}
}

// TestLaunchInADeepDirectory has a path longer than a socket's name may be.
func TestLaunchInADeepDirectory(t *testing.T) {
	deep := filepath.Join(testdir.New(t), strings.Repeat("deep and far away/", 10))
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", deep)
	launch(t, nil)
	if left, err := os.ReadDir(deep); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestLaunchCancelled(t *testing.T) {
	testroot.Need(t, "mounting")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := chroot.Launch(ctx, chroot.Options{Wrapper: func(string) (string, error) { return "exec sleep 1000", nil }})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// TestKeeperGetsTheEnvironment uses a wrapper that clears the environment, as sudo does.
func TestKeeperGetsTheEnvironment(t *testing.T) {
	t.Setenv("http_proxy", "http://proxy:3128")
	t.Setenv("CHANGED", "before")
	m := far(t, func(command string) (string, error) {
		return "env -i PATH=$PATH CHANGED=by-the-wrapper SUDO_USER=somebody " + command, nil
	})
	got := "\n" + sh(t, m, "env")
	for _, entry := range []string{"http_proxy=http://proxy:3128", "CHANGED=by-the-wrapper"} {
		if !strings.Contains(got, "\n"+entry+"\n") {
			t.Errorf("%s is missing in %s", entry, got)
		}
	}
	if strings.Contains(got, "SUDO_") || strings.Contains(got, "before") {
		t.Errorf("the environment is %s", got)
	}
}

// TestKeeperKilled checks that calls in progress fail at once, and that the mounts are undone.
func TestKeeperKilled(t *testing.T) {
	dir := stage(t)
	c := launch(t, nil)
	path := filepath.Join(dir, "made", "root")
	m := farAt(t, c, path)
	guarded, stop := c.Guard(t.Context())
	defer stop()
	ready := &notice{waitFor: "ready", do: func() { _ = unix.Kill(c.PID(), unix.SIGKILL) }}
	_, err := m.Run(t.Context(), chroot.Command{Line: "setsid sleep 1000 & echo ready; sleep 1000", Stdout: ready})
	if !errors.Is(err, chroot.ErrKeeperLost) {
		t.Errorf("error %v", err)
	}
	says(t, err, "keeper", "ended", "killed")
	<-guarded.Done()
	if !errors.Is(context.Cause(guarded), chroot.ErrKeeperLost) {
		t.Errorf("guarded: %v", context.Cause(guarded))
	}
	if err := m.MountBelow(t.Context(), chroot.Submount{Type: "proc", Source: "proc", Target: "/proc"}); !errors.Is(err, chroot.ErrKeeperLost) {
		t.Errorf("mounting through a dead keeper: %v", err)
	}
	if err := c.Leave(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if left := mountsBelow(t, dir); len(left) > 0 || exists(filepath.Dir(path)) {
		t.Errorf("left: %q", left)
	}
	if left := processesIn(t, path); len(left) > 0 {
		t.Errorf("still there: %q", left)
	}
}

// TestPluginGone closes the connection without leaving, as a kill does.
func TestPluginGone(t *testing.T) {
	dir := stage(t)
	path := filepath.Join(dir, "root")
	c, err := chroot.Launch(t.Context(), chroot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Mount(t.Context(), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: path, Options: []string{"size=64m,mode=755"}})
	if err != nil {
		t.Fatal(err)
	}
	furnish(t, path)
	if err := m.MountBelow(t.Context(), chroot.Submount{Type: "proc", Source: "proc", Target: "/proc"}); err != nil {
		t.Fatal(err)
	}
	sh(t, m, "setsid sleep 1000 & sleep 1000 & true")
	running := make(chan error, 1)
	go func() {
		_, err := m.Run(context.Background(), chroot.Command{Line: "trap '' TERM HUP; sleep 1000"})
		running <- err
	}()
	eventually(t, "running", func() bool { return len(processesIn(t, path)) >= 3 })
	go func() { _ = c.Close() }()
	eventually(t, "unmounted and ended", func() bool {
		return len(mountsBelow(t, dir)) == 0 && len(processesIn(t, path)) == 0 && !exists(path)
	})
	if err := <-running; err == nil {
		t.Error("the command is said to have succeeded")
	}
}

// TestStay leaves a mount for the user to inspect.
func TestStay(t *testing.T) {
	dir := stage(t)
	path := filepath.Join(dir, "root")
	c, err := chroot.Launch(t.Context(), chroot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Mount(t.Context(), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: path}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Stay(t.Context()), c.Close()); err != nil {
		t.Fatal(err)
	}
	if got := mountsBelow(t, dir); len(got) != 1 {
		t.Errorf("mounted are %q", got)
	}
	if err := unix.Unmount(path, 0); err != nil {
		t.Error(err)
	}
}

// TestKeeperSurvivesSignals checks that the keeper survives Ctrl-C on a terminal, which sends
// the signal to the keeper too.
func TestKeeperSurvivesSignals(t *testing.T) {
	c := launch(t, nil)
	m := farAt(t, c, filepath.Join(stage(t), "root"))
	for _, s := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGTSTP} {
		if err := unix.Kill(c.PID(), s); err != nil {
			t.Fatal(err)
		}
	}
	// Commands have the signals as they should be: HUP ends one.
	if status, err := m.Run(t.Context(), chroot.Command{Line: "kill -HUP $$; echo alive"}); status != 129 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
}

// TestErrorsCrossTheWire examines errors of the other process.
func TestErrorsCrossTheWire(t *testing.T) {
	c := launch(t, nil)
	m := farAt(t, c, filepath.Join(stage(t), "root"))
	err := m.MountBelow(t.Context(), chroot.Submount{Type: "nosuchfs", Source: "x", Target: "/proc"})
	if !errors.Is(err, chroot.ErrNoFileSystem) {
		t.Errorf("error %v", err)
	}
	if err := m.Download(t.Context(), "/etc/missing", &strings.Builder{}); !errors.Is(err, os.ErrNotExist) || !errors.Is(err, unix.ENOENT) {
		t.Errorf("error %v", err)
	}
	if _, err := c.Mount(t.Context(), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: m.Path()}); err == nil {
		t.Error("a root was mounted over another one")
	}
}

// TestLeaveIsLoggedByThePlugin checks that the plugin logs every ended process before Leave
// returns.
func TestLeaveIsLoggedByThePlugin(t *testing.T) {
	j := &journal{}
	c, err := chroot.Launch(t.Context(), chroot.Options{Busy: 2 * time.Second, Grace: 300 * time.Millisecond, Log: j.log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	m := farAt(t, c, filepath.Join(stage(t), "root"))
	pid, over := begin(t, holderKinds["deaf to SIGTERM"](m.Path()))
	if err := c.Leave(t.Context(), m.Path()); err != nil {
		t.Fatal(err)
	}
	<-over
	for _, doing := range []string{"ending", "killing"} {
		if line := fmt.Sprintf("%s process %d (", doing, pid); !strings.Contains(j.String(), line) {
			t.Errorf("the log does not say %q:\n%s", line, j)
		}
	}
}

// TestPluginGoneWithHolders checks that a process outside of the root that holds it is ended
// as well.
func TestPluginGoneWithHolders(t *testing.T) {
	dir := stage(t)
	path := filepath.Join(dir, "root")
	c, err := chroot.Launch(t.Context(), chroot.Options{Grace: time.Hour}) // which a killed build does not wait for
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Mount(t.Context(), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: path}); err != nil {
		t.Fatal(err)
	}
	furnish(t, path)
	write(t, path+"/data", "data", 0o644)
	var ends []<-chan struct{}
	for _, way := range []string{"its directory", "an open file", "deaf to SIGTERM"} {
		_, over := begin(t, holderKinds[way](path))
		ends = append(ends, over)
	}
	go func() { _ = c.Close() }()
	eventually(t, "unmounted", func() bool { return !exists(path) })
	for _, over := range ends {
		<-over
	}
}

// TestStayEndsNoHolder checks that the holders of a mount that stays are not ended.
func TestStayEndsNoHolder(t *testing.T) {
	dir := stage(t)
	path := filepath.Join(dir, "root")
	c, err := chroot.Launch(t.Context(), chroot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Mount(t.Context(), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: path}); err != nil {
		t.Fatal(err)
	}
	furnish(t, path)
	pid, over := begin(t, holderKinds["its root"](path))
	if err := errors.Join(c.Stay(t.Context()), c.Close()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, 0); err != nil {
		t.Errorf("the holder is gone: %v", err)
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	<-over
	if err := unix.Unmount(path, 0); err != nil {
		t.Error(err)
	}
}

// TestCloseAfterLeaveFailed checks that Close does not wait again for a root that is in use by
// the plugin itself, which is not ended.
func TestCloseAfterLeaveFailed(t *testing.T) {
	path := filepath.Join(stage(t), "root")
	c, err := chroot.Launch(t.Context(), chroot.Options{Busy: 100 * time.Millisecond, Grace: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Mount(t.Context(), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: path}); err != nil {
		t.Fatal(err)
	}
	held, err := os.Create(filepath.Join(path, "held"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Leave(t.Context(), path); !errors.Is(err, unix.EBUSY) {
		t.Errorf("leaving what is in use: %v", err)
	}
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	eventually(t, "closed", func() bool { return len(closed) == 1 })
	if err := errors.Join(<-closed, held.Close(), unix.Unmount(path, 0)); err != nil {
		t.Error(err)
	}
}

// TestRemoveUploadsOfThePlugin checks that the keeper records the uploads made through it.
func TestRemoveUploadsOfThePlugin(t *testing.T) {
	m := far(t, nil)
	for _, path := range []string{"/tmp/script", "/root/kept"} {
		if err := m.Upload(t.Context(), path, strings.NewReader("content"), chroot.NewFile{Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.RemoveUploads(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exists(m.Path()+"/tmp/script") || !exists(m.Path()+"/root/kept") {
		t.Error("the wrong uploads are there")
	}
}

// TestInheritedFilesStayOutOfTheKeeper has a file that this process was started with.
func TestInheritedFilesStayOutOfTheKeeper(t *testing.T) {
	testroot.Need(t, "mounting")
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil { // as inherited: not close-on-exec
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	want, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", pipe[0]))
	if err != nil {
		t.Fatal(err)
	}
	c := launch(t, nil)
	dir := fmt.Sprintf("/proc/%d/fd", c.PID())
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if got, _ := os.Readlink(filepath.Join(dir, file.Name())); got == want {
			t.Errorf("the keeper has the pipe as its file %s", file.Name())
		}
	}
}

// TestLaunchOnFullDisk has no space for the directory of the keeper's socket, or for the socket in it.
func TestLaunchOnFullDisk(t *testing.T) {
	for files, what := range map[string]string{"1": "cannot make a directory for the keeper's socket", "2": "cannot make a socket for the keeper"} {
		t.Run(files, func(t *testing.T) {
			tmp := filepath.Join(stage(t), "tmp")
			mount(t, start(t, nil), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: tmp, Options: []string{"nr_inodes=" + files}})
			t.Setenv("TMPDIR", tmp)
			_, err := chroot.Launch(t.Context(), chroot.Options{})
			if left, _ := os.ReadDir(tmp); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			says(t, err, what, tmp, unix.ENOSPC.Error())
		})
	}
}

// TestLaunchBySudo checks a plugin that was itself started with sudo: SUDO_UID is in its
// environment, and it starts the keeper directly.
func TestLaunchBySudo(t *testing.T) {
	t.Setenv("SUDO_UID", "45002")
	launch(t, nil)
}
