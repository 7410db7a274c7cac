//go:build linux

package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// program is QEMU, and debian the package that contains it.
const (
	program = "qemu-system-x86_64"
	debian  = "qemu-system-x86"
)

// LoginPrompt is the console text of a machine that has booted.
const LoginPrompt = "login:"

// Machine is a virtual PC with one disk.
type Machine struct {
	// Disk is a raw disk. The machine writes to it.
	Disk *os.File
	// UEFI boots with UEFI firmware, of Debian's package ovmf, instead of a BIOS.
	UEFI bool
	// MemoryMiB is the size of its memory.
	MemoryMiB int
	// KVM selects the use of hardware virtualization.
	KVM KVM
	// Console receives the output of the serial port.
	Console io.Writer
	// Log receives messages about the accelerator.
	Log func(format string, args ...any)
}

// Errors of Boot.
var (
	// ErrMissing is wrapped if a program or a firmware is not installed.
	ErrMissing = errors.New("not installed")
	// ErrSilent is wrapped if the awaited text did not appear.
	ErrSilent = errors.New("the machine did not boot")
)

// Boot starts the machine and ends it as soon as the text until appears on its console. If the
// machine ends or the limit passes first, the error wraps ErrSilent and contains the last lines
// of the console. The machine also ends with this process.
func (m Machine) Boot(ctx context.Context, until string, limit time.Duration) error {
	files, drives := []*os.File{m.Disk}, disk
	if m.UEFI {
		code, variables, err := firmware()
		if err != nil {
			return err
		}
		defer variables.Close()
		files, drives = append(files, variables), append(flash(code), disk...)
	}
	accelerator, err := m.accelerator(ctx)
	if err != nil {
		return err
	}
	booting, end := context.WithTimeout(ctx, limit)
	defer end()
	cmd, err := command(booting, append(drives,
		"-machine", "q35,accel="+accelerator, "-cpu", "max", "-smp", "2", "-m", strconv.Itoa(m.MemoryMiB), "-vga", "std", "-serial", "stdio")...)
	if err != nil {
		return err
	}
	w := &watcher{out: m.Console, until: []byte(until), found: end}
	var complaints bytes.Buffer
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = files, w, &complaints
	err = run(cmd)
	switch {
	case w.said:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case booting.Err() != nil:
		return fmt.Errorf("%w: its console did not show %q in %v; its last lines:\n%s", ErrSilent, until, limit, w.lastLines())
	}
	return fmt.Errorf("%w: it ended before its console showed %q (%s, %s); its last lines:\n%s",
		ErrSilent, until, ending(err), strings.TrimSpace(complaints.String()), w.lastLines())
}

// accelerator returns the accelerator, and logs a message if it is not the best one.
func (m Machine) accelerator(ctx context.Context) (string, error) {
	name, why, err := m.KVM.Accelerator(ctx)
	if why != "" && m.Log != nil {
		m.Log("without KVM: %s", why)
	}
	return name, err
}

// ending returns a description of QEMU's end.
func ending(err error) string {
	if err == nil {
		return "by itself"
	}
	return err.Error()
}

// disk is the drive of the machine's disk. QEMU inherits open files, so that no names have to be
// removed: descriptor 3 is the disk, and descriptor 4 the firmware's variables.
var disk = []string{"-drive", "if=virtio,format=raw,cache=unsafe,file=/proc/self/fd/3"}

// flash returns the drives of a firmware.
func flash(code string) []string {
	return []string{
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + code,
		"-drive", "if=pflash,unit=1,format=raw,file=/proc/self/fd/4",
	}
}

// firmwares are the paths of UEFI firmware in distributions: the code, and the initial variables.
// Debian's are first, then Fedora's.
var firmwares = []struct{ code, variables string }{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
	{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
}

// firmware returns the code of a UEFI firmware, and variables for one machine.
func firmware() (code string, variables *os.File, err error) {
	for _, firmware := range firmwares {
		fresh, err := os.ReadFile(firmware.variables)
		if err != nil {
			continue
		}
		variables, err := unnamed(fresh)
		return firmware.code, variables, err
	}
	return "", nil, fmt.Errorf("a UEFI for the machine is %w: Debian's package is ovmf", ErrMissing)
}

// command returns a QEMU command without default devices. It ends with ctx.
func command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("%s is %w: Debian's package is %s", program, ErrMissing, debian)
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"-nodefaults", "-no-reboot", "-display", "none"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	return cmd, nil
}

// run runs the command to its end. The kernel ends the command with the thread that started it,
// so the goroutine keeps its thread.
func run(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return cmd.Run()
}
