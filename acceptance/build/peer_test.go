package build

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// TestPeer builds an image with the unmodified public amazon plugin, an independent client of loopcloud's EC2 API.
// `make peer` builds the plugin and sets PEER_PLUGIN; without it the test is skipped.
func TestPeer(t *testing.T) {
	b := newPeerBox(t)
	out := b.Build(b.Template(forPeer(b, harness.O{
		"ami_name":         "made by the peer",
		"root_volume_size": 2,
		"chroot_mounts":    [][]string{{"proc", "proc", "/proc"}, {"bind", "/dev", "/dev"}},
		"tags":             map[string]string{"by": "peer"},
	}), harness.Shell("echo peer > /root/mark")))
	made := b.Made()
	if got := b.Content(b.Disk(made.ID), "/root/mark"); got != "peer\n" {
		t.Errorf("the image holds %q\n%s", got, out)
	}
	if made.Tags["by"] != "peer" {
		t.Errorf("tags %v", made.Tags)
	}
	if !strings.Contains(out, harness.Region+": "+made.ID) {
		t.Errorf("the artifact is not shown:\n%s", out)
	}
}

// newPeerBox returns a box with the public plugin.
func newPeerBox(t testing.TB, args ...string) *harness.Box {
	t.Helper()
	plugin := os.Getenv("PEER_PLUGIN")
	if plugin == "" {
		t.Skip("PEER_PLUGIN is not set: make peer sets it")
	}
	b := harness.New(t, args...)
	b.Env = append(b.Env, "PACKER_PLUGIN_PATH="+harness.PeerPlugins(t, plugin))
	return b
}

// forPeer returns options that the public plugin can build here too, with others over them.
func forPeer(b *harness.Box, more harness.O) harness.O {
	b.Helper()
	all := harness.O{
		"region": harness.Region,
		// it has no option for an endpoint
		"custom_endpoint_ec2":    b.Endpoint,
		"skip_region_validation": true,
		"mount_path":             filepath.Join(b.Dir, "mnt"),
		// left alone it guesses the prefix from the host's own disks, which are no
		// xvd or sd everywhere
		"device_path":             freeDevice(b.TB),
		"ami_virtualization_type": "hvm",
		"copy_files":              []string{},
	}
	maps.Copy(all, more)
	// it leaves its mount directory
	b.Cleanup(func() { b.Must(remove.All(filepath.Join(b.Dir, "mnt"))) })
	return harness.Flavors[0].Basic(all)
}

// devices counts the names that freeDevice has given.
var devices atomic.Int32

// freeDevice returns a device name that is free on the host, that no other test uses, and that builders do not
// try by themselves: those end with xvdaz and xvdbz.
func freeDevice(t testing.TB) string {
	t.Helper()
	for range 26 {
		if name := "/dev/xvdc" + string('a'+devices.Add(1)%26); !harness.Exists(name) {
			return name
		}
	}
	t.Fatal("no device name is free")
	return ""
}
