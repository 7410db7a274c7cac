//go:build linux

package qemutest

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/qemu"
)

// Machine describes a machine. It ends with its Init, or when it would reboot.
type Machine struct {
	// Kernel and Initramfs are files. Root.Pack creates the second.
	Kernel, Initramfs string
	MemoryMiB         int
	// Command is added to the kernel's command line. Init has its NAME=VALUE pairs in the
	// environment.
	Command string
	// Args are additional arguments of QEMU.
	Args []string
	// Limit is the time limit of the machine.
	Limit time.Duration
}

// Running is a running machine.
type Running struct {
	// Lines receives the lines of its console until it ends.
	Lines <-chan string

	mu   sync.Mutex
	said strings.Builder
}

// Boot starts the machine, with KVM if available. It ends with the test.
func (m Machine) Boot(t testing.TB) *Running {
	t.Helper()
	accelerator, why, err := qemu.Auto.Accelerator(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the machine runs by %s %s", accelerator, why)
	cmd := exec.CommandContext(t.Context(), "qemu-system-x86_64", append([]string{
		"-nodefaults", "-no-reboot", "-display", "none", "-machine", "pc,accel=" + accelerator, "-cpu", "max",
		"-smp", "2", "-m", strconv.Itoa(m.MemoryMiB),
		"-kernel", m.Kernel, "-initrd", m.Initramfs, "-append", "console=ttyS0 panic=-1 quiet " + m.Command,
		"-serial", "stdio",
	}, m.Args...)...)
	console, said := io.Pipe()
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = said, os.Stderr, time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		defer said.Close()
		runtime.LockOSThread() // the kernel ends the machine with the thread that started it
		err := cmd.Start()
		if started <- err; err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("%v (Debian's package is qemu-system-x86)", err)
	}
	limit := time.AfterFunc(m.Limit, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		limit.Stop()
		<-ended // together with the test's context
	})
	lines := make(chan string)
	r := &Running{Lines: lines}
	go r.listen(t, console, lines)
	return r
}

// listen passes on the lines of the console.
func (r *Running) listen(t testing.TB, console *io.PipeReader, lines chan<- string) {
	defer close(lines)
	defer console.Close()
	for scan := bufio.NewScanner(console); scan.Scan(); {
		line := strings.TrimSpace(scan.Text())
		r.note(line)
		select {
		case lines <- line:
		case <-t.Context().Done():
			return
		}
	}
}

func (r *Running) note(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said.WriteString(line + "\n")
}

// Said returns the console's output so far.
func (r *Running) Said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}
