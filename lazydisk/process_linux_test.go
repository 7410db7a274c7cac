package lazydisk_test

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
)

// TestKillProcess: only the recorded process is killed, and only if it is a block server.
func TestKillProcess(t *testing.T) {
	d := open(t, nil, lazydisk.Options{Size: 8 * mib})
	server, err := lazydisk.ProcessOf(d.PID())
	must(t, err)
	for name, change := range map[string]func(p *lazydisk.Process){
		"of another boot":        func(p *lazydisk.Process) { p.Boot = "another" },
		"that started later":     func(p *lazydisk.Process) { p.Since++ },
		"without an ID":          func(p *lazydisk.Process) { p.PID = 0 },
		"that has ended already": func(p *lazydisk.Process) { p.PID = 1 << 30 },
	} {
		other := server
		change(&other)
		if err := other.Kill(); err != nil {
			t.Errorf("a process %s: %v", name, err)
		}
	}
	select {
	case <-d.Done():
		t.Fatal("the block server was killed")
	default:
	}
	must(t, unix.Kill(d.PID(), unix.SIGSTOP))
	must(t, server.Kill())
	<-d.Done()
	must(t, server.Kill())
}

// TestKillNoBlockServer: a process that is not a block server is not killed.
func TestKillNoBlockServer(t *testing.T) {
	child := exec.Command("sleep", "1000")
	must(t, child.Start())
	defer func() { _ = child.Wait() }()
	defer func() { _ = child.Process.Kill() }()
	p, err := lazydisk.ProcessOf(child.Process.Pid)
	must(t, err)
	if err := p.Kill(); err == nil {
		t.Error("it is killed")
	}
}

// TestKillWithoutAccess: an error is returned if the kernel gives no access to a process that runs. It
// gives none to a thread.
func TestKillWithoutAccess(t *testing.T) {
	threads, ended := make(chan int), make(chan struct{})
	defer close(ended)
	thread := os.Getpid()
	for thread == os.Getpid() {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			threads <- unix.Gettid()
			<-ended
		}()
		thread = <-threads
	}
	p, err := lazydisk.ProcessOf(thread)
	must(t, err)
	if err := p.Kill(); err == nil {
		t.Error("it counts as ended")
	}
}

func TestCheck(t *testing.T) {
	needRoot(t)
	must(t, lazydisk.Check())
}
