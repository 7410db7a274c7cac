package build

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// mostFetchedAgain is the number of bytes that a second build from the same source may fetch.
const mostFetchedAgain = 5e6

// TestDirectInstallsNginx installs nginx with apt on a Debian of 200 MB in 8 GiB, in two direct builds. Each fetches and
// uploads at most twice as much as the file system reads and writes, and the second one fetches next to nothing. The build
// reports what the kernel has counted, except for zeros: ext4 fills its inode tables with them, and none are uploaded.
func TestDirectInstallsNginx(t *testing.T) {
	b := outside(t)
	debian := harness.NeedDebian(t)
	packages := httptest.NewServer(http.FileServer(http.Dir(debian.Packages)))
	defer packages.Close()
	source := b.Loopcloud("image", "import", "--endpoint", b.Endpoint, "--name", "debian", "--size", "8", debian.Root)
	for n := range 2 {
		moved, used := nginxBuild(b, source, packages.URL, n)
		t.Logf("build %d: %+v MiB; the device: %+v MiB", n+1, moved, used)
		if moved.fetched+moved.uploaded > 2*(used.read+min(used.written, moved.written)) || moved.uploaded > 2*moved.written || moved.uploaded == 0 {
			t.Errorf("build %d moves %+v MiB, more than twice the traffic of the device: %+v MiB", n+1, moved, used)
		}
		if moved.read < used.read-1 || moved.read > used.read+1 || moved.written > used.written+1 {
			t.Errorf("build %d reports %+v MiB, and the kernel %+v MiB", n+1, moved, used)
		}
		switch {
		case n == 0 && moved.fetched == 0:
			t.Error("the first build fetches nothing")
		case n == 1 && moved.fetched*(1<<20) > mostFetchedAgain:
			t.Errorf("the second build fetches %v MiB", moved.fetched)
		}
		made := b.BuiltFrom(source).ID
		checkNginx(b, made)
		b.Remove(made)
	}
}

// nginxBuild builds with nginx from a repository, and returns the figures of the build, and those of the kernel about the
// device: the file system's reads and writes.
func nginxBuild(b *harness.Box, source, packages string, n int) (moved traffic, used device) {
	b.Helper()
	copied := func(name string) string {
		return "cat /sys/block/$(basename {{.Device}})/stat > " + filepath.Join(b.Dir, name)
	}
	template := b.Template(harness.Direct.Basic(harness.O{
		"source_ami": source, "ami_name": "nginx " + strconv.Itoa(n), "block_services": true,
		"pre_mount_commands":   []string{copied("stat-before")},
		"pre_unmount_commands": []string{"sync -f {{.MountPath}}", copied("stat-after")},
	}), harness.Shell(
		"echo 'deb [trusted=yes] "+packages+" ./' > /etc/apt/sources.list",
		"export DEBIAN_FRONTEND=noninteractive",
		"apt-get update",
		"apt-get install -y nginx",
	))
	moved = trafficOf(b.TB, b.Build(template))
	before, after := deviceOf(b, "stat-before"), deviceOf(b, "stat-after")
	return moved, device{after.read - before.read, after.written - before.written}
}

// device holds the figures of the kernel about a block device, in MiB.
type device struct{ read, written float64 }

// deviceOf returns the figures in a copy of /sys/block/DEVICE/stat, which count from the start of the machine.
func deviceOf(b *harness.Box, name string) (d device) {
	b.Helper()
	fields := strings.Fields(harness.Read(filepath.Join(b.Dir, name)))
	if len(fields) < 7 {
		b.Fatalf("%s holds %q", name, fields)
	}
	const sectors = 2048 // of a MiB
	for i, into := range map[int]*float64{2: &d.read, 6: &d.written} {
		n, err := strconv.ParseFloat(fields[i], 64)
		b.Must(err)
		*into = n / sectors
	}
	return d
}

// checkNginx checks that nginx is installed in an image, and that its file system is consistent.
func checkNginx(b *harness.Box, image string) {
	b.Helper()
	disk := b.Disk(image)
	if !b.Has(disk, "/usr/sbin/nginx") || !strings.Contains(b.Content(disk, "/var/lib/dpkg/status"), "Package: nginx\nStatus: install ok installed\n") {
		b.Errorf("nginx is not installed in %s", image)
	}
	b.Sh("e2fsck -f -n '" + disk + "?offset=1048576'")
}
