package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// endTimeout is the time limit for killed processes to end.
const endTimeout = 10 * time.Second

// TestKillEach kills a process that forks all the time, on a kernel without cgroup.kill.
func TestKillEach(t *testing.T) {
	testroot.Need(t, "cgroups")
	g, err := New()
	if err != nil {
		t.Skipf("no cgroups here: %v", err)
	}
	script := filepath.Join(testdir.New(t), "forker")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ntrap '' TERM HUP INT\n\"$0\" &\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		cmd := exec.Command(script)
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: g.FD(), Setsid: true}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	}
	g.killEach() // once: the kernel may take a moment to end them
	for begun := time.Now(); g.Populated(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > endTimeout {
			t.Error("processes are left")
			_ = os.Remove(script)
			g.Kill(endTimeout)
		}
	}
	if !g.Remove() {
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

// FuzzFreezerPath reads lists of cgroups that a kernel could write.
func FuzzFreezerPath(f *testing.F) {
	f.Add("7:freezer:/a/b\n0::/x")
	f.Fuzz(func(t *testing.T, list string) {
		if got := freezerPath(list); !strings.Contains(list, got) {
			t.Errorf("%q is read as %q", list, got)
		}
	})
}

// TestCreateBesideOthers checks that a new cgroup is created if a killed keeper with the same
// process ID has left one.
func TestCreateBesideOthers(t *testing.T) {
	parent := testdir.New(t)
	first, err := create(parent)
	if err != nil {
		t.Fatal(err)
	}
	created.Add(^uint64(0))
	second, err := create(parent)
	if err != nil || second == first {
		t.Errorf("beside %s: %s, %v", first, second, err)
	}
	if _, err := create(filepath.Join(parent, "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// TestLeftIn checks LeftIn after another process was given the ID of a killed keeper.
func TestLeftIn(t *testing.T) {
	own, err := Own()
	if err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and cgroups: ", err)
	}
	left := filepath.Join(own, prefixSince(os.Getpid(), 1)+"7")
	if err := os.Mkdir(left, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(left)
	mine, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Remove()
	groups := LeftIn(own, os.Getpid(), 1)
	if len(groups) != 1 || groups[0].Path() != left {
		t.Fatalf("found %v, not only %s", groups, left)
	}
	if !groups[0].Remove() {
		t.Error("it cannot be removed")
	}
}
