package chroot_test

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// eachWithoutGroups tests on a host without cgroup v2, and on one whose kernel cannot start a
// process in a cgroup.
func eachWithoutGroups(t *testing.T, test func(t *testing.T, m *chroot.MountedRoot)) {
	for name, lose := range map[string]func(*chroot.MountedRoot){
		"no cgroup v2": (*chroot.MountedRoot).WithoutGroups, "dead groups": (*chroot.MountedRoot).WithDeadGroups,
	} {
		t.Run(name, func(t *testing.T) {
			m := tiny(t, nil)
			lose(m)
			test(t, m)
		})
	}
}

func TestRunWithoutGroups(t *testing.T) {
	eachWithoutGroups(t, func(t *testing.T, m *chroot.MountedRoot) {
		var out, errs bytes.Buffer
		status, err := m.Run(t.Context(), chroot.Command{Line: "cat; echo bad >&2; exit 7", Stdin: strings.NewReader("given"), Stdout: &out, Stderr: &errs})
		if status != 7 || err != nil || out.String() != "given" || errs.String() != "bad\n" {
			t.Errorf("status %d, %v, printed %q and %q", status, err, &out, &errs)
		}
	})
}

// TestCancelWithoutGroups ends everything in the root, including daemons of earlier commands,
// because they cannot be distinguished.
func TestCancelWithoutGroups(t *testing.T) {
	eachWithoutGroups(t, func(t *testing.T, m *chroot.MountedRoot) {
		sh(t, m, "setsid sleep 1000 >/dev/null 2>&1 &")
		ctx, cancel := context.WithCancel(t.Context())
		ready := &notice{waitFor: "ready", do: cancel}
		_, err := m.Run(ctx, chroot.Command{
			Line:   "sleep 1000 & (setsid setsid sh -c 'sleep 1000; true' &) ; trap '' TERM INT HUP; echo ready; sleep 1000",
			Stdout: ready,
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if left := processesIn(t, m.Path()); len(left) > 0 {
			t.Errorf("still there: %q", left)
		}
	})
}

// TestDaemonsEndWithoutGroups checks that daemons are ended without cgroups.
func TestDaemonsEndWithoutGroups(t *testing.T) {
	eachWithoutGroups(t, func(t *testing.T, m *chroot.MountedRoot) {
		sh(t, m, "trap '' TERM; setsid sleep 1000 >/dev/null 2>&1 &")
		if left := processesIn(t, m.Path()); len(left) != 1 {
			t.Fatalf("started are %q", left)
		}
		if err := m.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestLeaveEndsProcessWithReusedID checks that a process is not spared because it has the ID
// of an ended parent of the keeper.
func TestLeaveEndsProcessWithReusedID(t *testing.T) {
	m := tiny(t, nil)
	pid, err := strconv.Atoi(strings.TrimSpace(sh(t, m, "sleep 1000 >/dev/null 2>&1 & echo $!")))
	if err != nil {
		t.Fatal(err)
	}
	m.TakeForAParent(pid)
	if err := m.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}
