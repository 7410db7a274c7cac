package harness

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// TestReservationOfTwoBuilds checks that a file which a killed build has left, and another box's build has used since,
// belongs to that box alone.
func TestReservationOfTwoBuilds(t *testing.T) {
	NeedRoot(t)
	dir := testdir.New(t)
	path := filepath.Join(dir, "device-f")
	first := &Reservations{TB: t, dir: dir, marker: "PACKER_BUILD_TEST=" + dir + "/1"}
	second := &Reservations{TB: t, dir: dir, marker: "PACKER_BUILD_TEST=" + dir + "/2"}
	both := func() [][]string { return [][]string{first.Left(), second.Left()} }
	want := func(when string, left ...[]string) {
		t.Helper()
		if got := both(); !slices.EqualFunc(got, left, slices.Equal[[]string]) {
			t.Errorf("%s: %v is left, not %v", when, got, left)
		}
	}

	release := lockedBy(t, first.marker, path)
	second.add("device-f") // a build with a lock directory of its own requests the same name
	first.add("device-f")
	want("held by a build", nil, nil)
	release()
	want("after the build was killed", []string{path}, nil)
	release = lockedBy(t, second.marker, path)
	second.add("device-f")
	want("held by the next build", nil, nil)
	release()
	want("after the next build was killed", nil, []string{path})
	if removed := append(first.Remove(), second.Remove()...); !slices.Equal(removed, []string{path}) {
		t.Errorf("removed are %v", removed)
	}
	want("after the removal", nil, nil)
}

// lockedBy starts a process with a marker that holds a lock on a file. It returns a function that ends the process.
func lockedBy(t *testing.T, marker, path string) (end func()) {
	t.Helper()
	cmd := exec.Command("flock", path, "sh", "-c", "echo locked; exec cat")
	cmd.Env = append(cmd.Environ(), marker)
	in, err := cmd.StdinPipe()
	Must(t, err)
	out, err := cmd.StdoutPipe()
	Must(t, err)
	Must(t, cmd.Start())
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		Must(t, in.Close())
		Must(t, cmd.Wait())
	}
}
