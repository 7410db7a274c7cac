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

// program is what machines run in, and debian the package that has it.
const (
	program = "qemu-system-x86_64"
	debian  = "qemu-system-x86"
)

// LoginPrompt is what the console of a machine says when it has come up.
const LoginPrompt = "login:"

// Machine is a virtual PC with one disk.
type Machine struct {
	// Disk is a raw disk. The machine writes to it.
	Disk *os.File
	// UEFI gives it that firmware, of Debian's package ovmf, instead of a BIOS.
	UEFI bool
	// MemoryMiB is its memory.
	MemoryMiB int
	// KVM says how its code is run.
	KVM KVM
	// Console gets what the machine says on its serial port.
	Console io.Writer
	// Log is told how the machine is run.
	Log func(format string, args ...any)
}

// Errors of Boot.
var (
	// ErrMissing is wrapped when a program or a firmware is not installed.
	ErrMissing = errors.New("not installed")
	// ErrSilent is wrapped when a machine did not say what was waited for.
	ErrSilent = errors.New("the machine did not come up")
)

// Boot starts the machine and ends it as soon as its console has said a text. The
// error wraps ErrSilent, and has the last lines of the console, when the machine
// ends or limit is over before. Nothing is left of the machine: it ends with this
// process too.
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
		return fmt.Errorf("%w: it did not say %q in %v; its last lines:\n%s", ErrSilent, until, limit, w.lastLines())
	}
	return fmt.Errorf("%w: it ended before it said %q (%s, %s); its last lines:\n%s",
		ErrSilent, until, ending(err), strings.TrimSpace(complaints.String()), w.lastLines())
}

// accelerator tells the log if it is not the best one.
func (m Machine) accelerator(ctx context.Context) (string, error) {
	name, why, err := m.KVM.Accelerator(ctx)
	if why != "" && m.Log != nil {
		m.Log("without KVM: %s", why)
	}
	return name, err
}

// ending says how QEMU ended.
func ending(err error) string {
	if err == nil {
		return "by itself"
	}
	return err.Error()
}

// disk is the drive of the machine's disk. QEMU gets its files open, so that they need
// no name that somebody would have to remove: the disk is descriptor 3, the firmware's
// variables are 4.
var disk = []string{"-drive", "if=virtio,format=raw,cache=unsafe,file=/proc/self/fd/3"}

// flash are the drives of a firmware.
func flash(code string) []string {
	return []string{
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + code,
		"-drive", "if=pflash,unit=1,format=raw,file=/proc/self/fd/4",
	}
}

// firmwares are where distributions have a UEFI: its code, and its variables as
// they are in the beginning. First Debian's, then Fedora's.
var firmwares = []struct{ code, variables string }{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
	{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
}

// firmware is the code of a UEFI, and variables for one machine.
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

// command is QEMU with nothing but what the arguments say. It ends with ctx.
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

// run runs it to its end. The kernel ends it with the thread that started it, which
// therefore stays this goroutine's.
func run(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return cmd.Run()
}
