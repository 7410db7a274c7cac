//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// talking returns a disk whose boot sector writes a text to the first serial port.
func talking(text string) []byte {
	code := []byte{
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xbe, 0x15, 0x7c, // mov si, the text
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xac,       // lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x03, // jz, to the hlt
		0xee,       // out dx, al
		0xeb, 0xf8, // jmp, to the lodsb
		0xf4,       // hlt
		0xeb, 0xfd, // jmp, to the hlt
	}
	disk := make([]byte, 1<<20)
	copy(disk, append(code, text...))
	disk[510], disk[511] = 0x55, 0xaa
	return disk
}

// needQEMU skips a test unless make qemu, which installs QEMU, runs it.
func needQEMU(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86_64: make qemu installs it")
	}
}

// imported creates a cloud with one image of a disk.
func imported(t *testing.T, disk []byte, more ...string) (dir, id string) {
	t.Helper()
	dir, source := testdir.New(t), filepath.Join(testdir.New(t), "disk.raw")
	if err := os.WriteFile(source, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	got := runProgram(t, append([]string{"image", "import", "--dir", dir, "--name", "bootable", source}, more...)...)
	if got.status != 0 {
		t.Fatalf("the import is %+v", got)
	}
	return dir, strings.TrimSpace(got.stdout)
}

// TestQEMUBoots runs machines that consist of a boot sector.
func TestQEMUBoots(t *testing.T) {
	needQEMU(t)
	const greeting = "first line\r\nmy machine login: "
	dir, id := imported(t, talking(greeting))
	uefi, withUEFI := imported(t, talking(greeting), "--boot-mode", "uefi")
	cloud := testdir.New(t)
	running := serve(t, cloud)
	source := filepath.Join(testdir.New(t), "disk.raw")
	if err := os.WriteFile(source, talking(greeting), 0o644); err != nil {
		t.Fatal(err)
	}
	at := []string{"--endpoint", running.endpoint, "--dir", cloud}
	got := runProgram(t, append([]string{"image", "import", source, "--name", "xyz"}, at...)...)
	if got.status != 0 {
		t.Fatalf("%+v", got)
	}
	there := strings.TrimSpace(got.stdout)

	for _, test := range []struct {
		name   string
		args   []string
		status int
		out    string
		err    []string
	}{
		{"login prompt", []string{id, "--dir", dir}, 0, "my machine login:", nil},
		{"text", []string{id, "--dir", dir, "--until", "my machine"}, 0, "my machine", nil},
		{"memory", []string{id, "--dir", dir, "--memory", "64", "--kvm", "no"}, 0, "login:", nil},
		{"of a running cloud", append([]string{there, "--kvm=no"}, at...), 0, "login:", nil},
		{"silence", []string{id, "--dir", dir, "--until", "good bye", "--timeout", "10s", "--kvm", "no"}, statusFailed, "login:", []string{id, `"good bye"`, "10s", "first line\nmy machine login:"}},
		{"against its boot mode", []string{withUEFI, "--dir", uefi, "--uefi=false", "--kvm", "no"}, 0, "login:", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := programWith(t, append([]string{"image", "boot"}, test.args...)...)
			got := outcomeOf(t, cmd)
			if got.status != test.status || !strings.Contains(got.stdout, test.out) {
				t.Errorf("%+v", got)
			}
			for _, want := range test.err {
				if !strings.Contains(got.stderr, want) {
					t.Errorf("it does not say %q: %s", want, got.stderr)
				}
			}
			wantNoneLeft(t, cmd)
		})
	}
}

// TestQEMUBootsUEFI recognizes the firmware by its message about a disk that it cannot boot.
func TestQEMUBootsUEFI(t *testing.T) {
	needQEMU(t)
	if _, err := os.Stat("/usr/share/OVMF"); err != nil {
		t.Skip("needs ovmf: make qemu installs it")
	}
	const firmwares = "BdsDxe"
	dir, id := imported(t, talking("login:"), "--boot-mode", "uefi")
	if got := runProgram(t, "image", "boot", "--dir", dir, id, "--until", firmwares, "--kvm", "no"); got.status != 0 {
		t.Errorf("%+v", got)
	}
}

// TestBootMode checks that the image determines the boot mode unless an option overrides it.
func TestBootMode(t *testing.T) {
	for _, test := range []struct {
		image, option string
		want          bool
	}{
		{"", "", false}, {"legacy-bios", "", false}, {"uefi", "", true}, {"uefi-preferred", "", true},
		{"", "--uefi", true}, {"legacy-bios", "--uefi=true", true}, {"uefi", "--uefi=false", false},
	} {
		args := []string{"ami-01234567", "--dir", "x", test.option}
		if test.option == "" {
			args = args[:3]
		}
		flags, _, err := parseBoot(args)
		if err != nil {
			t.Fatal(err)
		}
		if got := flags.wantsUEFI(loopcloud.Image{BootMode: test.image}); got != test.want {
			t.Errorf("%q with %q: %v", test.image, test.option, got)
		}
	}
}

// wantNoneLeft checks that a program's directory for temporary files is empty.
func wantNoneLeft(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	for _, entry := range cmd.Environ() {
		if dir, is := strings.CutPrefix(entry, "TMPDIR="); is {
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("%s has %v (%v)", dir, left, err)
			}
		}
	}
}

// TestQEMUEndsWithItsProgram checks that QEMU ends with loopcloud, however loopcloud ends.
func TestQEMUEndsWithItsProgram(t *testing.T) {
	needQEMU(t)
	dir, id := imported(t, talking("started"))
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		cmd := programWith(t, "image", "boot", "--dir", dir, id, "--until", "never", "--kvm", "no")
		console, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for said := (bytes.Buffer{}); !strings.Contains(said.String(), "started"); {
			next := make([]byte, 64)
			n, err := console.Read(next)
			if err != nil {
				t.Fatalf("the console ended with %q: %v", said.String(), err)
			}
			said.Write(next[:n])
		}
		machines := childrenOf(t, cmd.Process.Pid)
		if len(machines) != 1 {
			t.Fatalf("it runs %v", machines)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		for _, err := os.Stat(machines[0] + "/exe"); err == nil; _, err = os.Stat(machines[0] + "/exe") {
			runtime.Gosched() // the kernel is ending it
		}
		wantNoneLeft(t, cmd)
	}
}

// childrenOf returns the /proc directories of a process's children.
func childrenOf(t *testing.T, pid int) (dirs []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		if status, err := os.ReadFile(file); err == nil && bytes.Contains(status, fmt.Appendf(nil, "\nPPid:\t%d\n", pid)) {
			dirs = append(dirs, filepath.Dir(file))
		}
	}
	return dirs
}

// TestBootWithoutQEMU checks that the error names the package to install.
func TestBootWithoutQEMU(t *testing.T) {
	dir, id := imported(t, talking("login:"))
	cmd := programWith(t, "image", "boot", "--dir", dir, id)
	cmd.Env = append(cmd.Env, "PATH=/nonexistent")
	if got := outcomeOf(t, cmd); got.status != statusFailed || !strings.Contains(got.stderr, "Debian's package is qemu-system-x86") {
		t.Errorf("%+v", got)
	}
	wantNoneLeft(t, cmd)
}

func TestBootRefuses(t *testing.T) {
	dir, arm := imported(t, talking("login:"), "--arch", "arm64")
	for _, test := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"ami-01234567", "--dir", dir}, statusFailed, "ami-01234567: the image does not exist"},
		{[]string{arm, "--dir", dir}, statusFailed, "arm64"},
		{[]string{arm}, statusUsage, "--dir"},
		{[]string{"--dir", dir}, statusUsage, "ID"},
		{[]string{arm, "--dir", dir, "--memory", "0"}, statusUsage, "--memory 0"},
		{[]string{arm, "--dir", dir, "--timeout", "-1s"}, statusUsage, "--timeout -1s"},
		{[]string{arm, "--dir", dir, "--until", ""}, statusUsage, "--until"},
		{[]string{arm, "--dir", dir, "--kvm", "maybe"}, statusUsage, "auto, yes or no"},
	} {
		if got := runProgram(t, append([]string{"image", "boot"}, test.args...)...); got.status != test.status || !strings.Contains(got.stderr, test.says) {
			t.Errorf("%q: %+v", test.args, got)
		}
	}
}
