package chroot_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// startForkers starts processes in a root that fork and exit all the time: each has another
// process ID when it is looked for. They end when the test does.
func startForkers(t *testing.T, path string, run func(line string)) {
	t.Helper()
	script := filepath.Join(path, "forker")
	write(t, script, "#!/bin/sh\ntrap '' TERM HUP INT\n/forker &\n", 0o755)
	run("for i in 1 2 3 4; do setsid /forker </dev/null >/dev/null 2>&1 & done; sleep 0.2")
	t.Cleanup(func() { _ = os.Remove(script) })
}

// TestLeaveEndsForkingProcess checks that a process that forks all the time is ended. No scan
// of /proc finds it, but it cannot leave its command's cgroup.
func TestLeaveEndsForkingProcess(t *testing.T) {
	k, j, spec := cage(t)
	m := mount(t, k, spec)
	startForkers(t, spec.Path, func(line string) { sh(t, m, line) })
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Fatalf("%v; the log says\n%s", err, j)
	}
}

// TestLeaveAsksDaemonsBeforeTheirGroupIsKilled checks that a daemon that a command has left
// behind gets time to end before its cgroup is killed.
func TestLeaveAsksDaemonsBeforeTheirGroupIsKilled(t *testing.T) {
	testroot.Need(t, "mounting")
	j := &journal{}
	k, err := chroot.Start(chroot.Options{Grace: time.Minute, Log: j.log})
	if err != nil {
		t.Fatal(err)
	}
	spec := chroot.MountSpec{Device: loop(t, disk(t, 16, "mkfs.ext4", "-q")), Path: filepath.Join(stage(t), "root")}
	m := mount(t, k, spec)
	furnish(t, spec.Path)
	proof := filepath.Join(testdir.New(t), "proof")
	write(t, proof, "", 0o644)
	if err := m.MountBelow(t.Context(), chroot.Submount{Type: "bind", Source: filepath.Dir(proof), Target: "/proof"}); err != nil {
		t.Fatal(err)
	}
	sh(t, m, "setsid sh -c 'trap \"sleep 0.3; echo asked >/proof/proof; exit\" TERM; echo ready >/proof/proof; while :; do sleep 0.1; done' >/dev/null 2>&1 </dev/null & while [ ! -s /proof/proof ]; do sleep 0.1; done")
	if err := k.Leave(t.Context(), spec.Path); err != nil {
		t.Fatalf("%v; the log says\n%s", err, j)
	}
	if got := strings.TrimSpace(read(t, proof)); got != "asked" {
		t.Errorf("the daemon said %q: it was not given the time to end", got)
	}
}

// TestReclaimEndsForkingProcess checks that a process that forks all the time is ended after
// the build and its keeper were killed.
func TestReclaimEndsForkingProcess(t *testing.T) {
	o := orphaned(t, false)
	startForkers(t, o.Path, func(line string) { sh(t, o.root, line) })
	o.kill(t)
	if err := o.reclaim(t.Context(), launch(t, nil)); err != nil {
		t.Fatal(err)
	}
	o.gone(t)
}
