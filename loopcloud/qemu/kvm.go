//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// KVM selects the use of hardware virtualization.
type KVM string

// The values of KVM.
const (
	// Auto uses KVM if it runs a guest at the speed of the processor.
	Auto KVM = "auto"
	Yes  KVM = "yes"
	No   KVM = "no"
)

// ParseKVM parses a value of KVM.
func ParseKVM(s string) (KVM, error) {
	switch k := KVM(s); k {
	case Auto, Yes, No:
		return k, nil
	}
	return "", fmt.Errorf("%q is not auto, yes or no", s)
}

// The accelerators, by QEMU's names.
const (
	// byKVM runs the guest on the processor.
	byKVM = "kvm"
	// byTCG translates the guest's code. It works everywhere and is slower.
	byTCG = "tcg"
)

// probeLimit is the time limit of a guest that needs a tenth of a second on a processor.
const probeLimit = 2 * time.Second

// probeDone is QEMU's exit status after the probe: isa-debug-exit turns the n written to its port
// into 2n+1.
const (
	probeAnswer = 0x10
	probeDone   = 2*probeAnswer + 1
)

// probe returns a boot sector that counts down from 2^26 in real mode and then writes to
// isa-debug-exit. The existence of /dev/kvm is not sufficient: without virtualization in the
// processor some kernels offer it and interpret the code that they cannot run, and some nested
// machines hang. Both start this guest without an error, but it does not end.
func probe() []byte {
	code := []byte{
		0x66, 0xb9, 0x00, 0x00, 0x00, 0x04, // mov ecx, 1<<26
		0x66, 0x49, // dec ecx
		0x75, 0xfc, // jnz, to the dec
		0xb0, probeAnswer, // mov al, probeAnswer
		0xe6, 0xf4, // out 0xf4, al
		0xf4, // hlt
	}
	return bootSector(code)
}

// bootSector returns a BIOS boot sector: 512 bytes with a signature at the end.
func bootSector(code []byte) []byte {
	sector := make([]byte, 512)
	copy(sector, code)
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

// Accelerator returns the QEMU name of the accelerator to use, and the reason if it is not the
// best one. With Auto it runs a probe.
func (k KVM) Accelerator(ctx context.Context) (name, why string, err error) {
	switch k {
	case Yes:
		return byKVM, "", nil
	case No:
		return byTCG, "", nil
	}
	if !offered() {
		return byTCG, "there is no /dev/kvm", nil
	}
	works, err := works(ctx, byKVM, probeLimit)
	if err != nil || works {
		return byKVM, "", err
	}
	return byTCG, fmt.Sprintf("a guest that counts to 2^26 took more than %v with KVM, or did not run", probeLimit), nil
}

// offered reports whether the kernel offers KVM.
func offered() bool {
	_, err := os.Stat("/dev/kvm")
	return err == nil
}

// works reports whether the probe ends in time.
func works(ctx context.Context, accelerator string, limit time.Duration) (bool, error) {
	disk, err := unnamed(probe())
	if err != nil {
		return false, err
	}
	defer disk.Close()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd, err := command(limited, "-machine", "pc,accel="+accelerator, "-m", "16",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive", "file=/proc/self/fd/3,format=raw,if=ide")
	if err != nil {
		return false, err
	}
	cmd.ExtraFiles = []*os.File{disk}
	err = run(cmd)
	if err := context.Cause(ctx); err != nil {
		return false, err
	}
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == probeDone, nil
}

// unnamed returns a file with this content that is in no directory.
func unnamed(content []byte) (*os.File, error) {
	f, err := os.CreateTemp("", "loopcloud-qemu-*")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
