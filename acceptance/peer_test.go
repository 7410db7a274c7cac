package acceptance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPeer builds an image with the public amazon plugin, unmodified: loopcloud
// is EC2 to a client that nobody here wrote. `make peer` builds the plugin and
// names it in PEER_PLUGIN; without it there is nothing to run.
func TestPeer(t *testing.T) {
	plugin := os.Getenv("PEER_PLUGIN")
	if plugin == "" {
		t.Skip("PEER_PLUGIN is not set: make peer sets it")
	}
	b := newBox(t)
	b.env = append(b.env, "PACKER_PLUGIN_PATH="+peerPlugins(t, plugin))

	template := b.template(map[string]any{
		"type":       "amazon-chroot",
		"region":     region,
		"source_ami": sourceID,
		"ami_name":   "made by the peer",
		// it has no other way to be pointed somewhere
		"custom_endpoint_ec2":     b.endpoint,
		"skip_region_validation":  true,
		"ami_virtualization_type": "hvm",
		"root_volume_size":        2,
		"mount_path":              filepath.Join(b.dir, "mnt"),
		// left alone it guesses the prefix from the host's own disks, which are no
		// xvd or sd everywhere
		"device_path":   freeDevice(t),
		"chroot_mounts": [][]string{{"proc", "proc", "/proc"}, {"bind", "/dev", "/dev"}},
		"copy_files":    []string{},
		"tags":          map[string]string{"by": "peer"},
	}, shell("echo peer > /root/mark"))
	out, err := b.packer("build", "-color=false", template)
	if err != nil {
		t.Fatalf("packer build: %v\n%s\n%s", err, out, b.log)
	}
	made := b.made()
	if got := b.content(b.disk(made.ID), "/root/mark"); got != "peer\n" {
		t.Errorf("the image holds %q\n%s", got, out)
	}
	if made.Tags["by"] != "peer" {
		t.Errorf("tags %v", made.Tags)
	}
	if !strings.Contains(out, region+": "+made.ID) {
		t.Errorf("the artifact is not shown:\n%s", out)
	}
	_ = os.RemoveAll(filepath.Join(b.dir, "mnt")) // it leaves its mount directory
}

// freeDevice is a device name that nothing on the host has, from the end of the
// alphabet, where builds do not begin.
func freeDevice(t *testing.T) string {
	t.Helper()
	for letter := 'p'; letter >= 'f'; letter-- {
		if name := "/dev/xvd" + string(letter); !exists(name) {
			return name
		}
	}
	t.Fatal("no device name is free")
	return ""
}
