package namespace

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"

	"github.com/moby/sys/mountinfo"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// TestNamespacesBesideVisitors has threads of this process enter another mount namespace and
// leave it all the time, as keepers do that unmount their roots there. The namespace is found
// with its mounts each time.
func TestNamespacesBesideVisitors(t *testing.T) {
	testroot.Need(t, "mounts")
	dir := testdir.New(t)
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs tmpfs "$0" && echo ready && exec sleep 1000`, dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	process := "/proc/" + strconv.Itoa(cmd.Process.Pid)
	name, err := os.Readlink(process + "/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	theirs, ok := openMount(process, name)
	if !ok {
		t.Fatal("the namespace cannot be read")
	}
	defer theirs.file.Close()
	const visitors = 4
	stop, stopped := make(chan struct{}), make(chan error, visitors)
	for range visitors {
		go func() { stopped <- visit(theirs, stop) }()
	}
	for range 100 {
		found := false
		EachMount(func(n Mount) {
			found = found || n.Name == name && slices.ContainsFunc(n.Mounts, func(m *mountinfo.Info) bool { return m.Mountpoint == dir })
		})
		if !found {
			t.Error("the namespace is not found, or without its mounts")
			break
		}
	}
	close(stop)
	for range visitors {
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
}

// visit enters a namespace and leaves it until stop is closed.
func visit(n Mount, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := n.Do(func(*os.File) error { return nil }); err != nil {
			return err
		}
	}
}
