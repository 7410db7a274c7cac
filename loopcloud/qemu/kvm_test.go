//go:build linux

package qemu

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestQEMUProbe checks that the probe ends where guests run, and fails without an accelerator.
func TestQEMUProbe(t *testing.T) {
	if _, err := exec.LookPath(program); err != nil {
		t.Skip("needs qemu-system-x86_64: make qemu installs it")
	}
	for accelerator, want := range map[string]bool{byTCG: true, "none": false} {
		if got, err := works(t.Context(), accelerator, time.Minute); err != nil || got != want {
			t.Errorf("with %s: %v, %v", accelerator, got, err)
		}
	}
}

// TestAccelerator checks that an explicit accelerator is not probed.
func TestAccelerator(t *testing.T) {
	for _, test := range []struct {
		word, want string
	}{{"yes", byKVM}, {"no", byTCG}} {
		kvm, err := ParseKVM(test.word)
		if err != nil {
			t.Fatal(err)
		}
		if got, why, err := kvm.Accelerator(t.Context()); err != nil || got != test.want || why != "" {
			t.Errorf("%s: %s, %q, %v", test.word, got, why, err)
		}
	}
	for _, word := range []string{"", "on", "Yes"} {
		if kvm, err := ParseKVM(word); err == nil {
			t.Errorf("%q is read as %s", word, kvm)
		}
	}
}

// TestWithoutKVM checks that the reason is reported if there is no KVM.
func TestWithoutKVM(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err == nil {
		t.Skip("there is a /dev/kvm: TestQEMUProbe covers what is done with it")
	}
	if got, why, err := Auto.Accelerator(t.Context()); err != nil || got != byTCG || why == "" {
		t.Errorf("%s, %q, %v", got, why, err)
	}
}
