package chroot

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// TestKillEach kills what forks all the time on a kernel without cgroup.kill.
func TestKillEach(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("cgroups need root")
	}
	g, err := newGroup()
	if err != nil {
		t.Skipf("no cgroups here: %v", err)
	}
	script := filepath.Join(testdir.New(t), "hydra")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ntrap '' TERM HUP INT\n\"$0\" &\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		cmd := exec.Command(script)
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.dir.Fd()), Setsid: true}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	}
	g.killEach() // once: the kernel may take a moment to end them
	for begun := time.Now(); g.populated(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > lastBreath {
			t.Error("processes are left")
			_ = os.Remove(script)
			g.kill(lastBreath)
		}
	}
	if !g.remove() {
		t.Error("the group is left")
	}
}

func TestFreezerPath(t *testing.T) {
	for list, want := range map[string]string{
		"":                                      "",
		"0::/user.slice\n":                      "",
		"7:freezer:/a/b\n0::/x\n":               "/a/b",
		"9:cpu,freezer:/with:colon\n":           "/with:colon",
		"1:name=freezer:/not\n3:freezer:/yes\n": "/yes",
		"freezer\n":                             "",
	} {
		if got := freezerPath(list); got != want {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
	}
}
