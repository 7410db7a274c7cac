package build

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// TestDirectBasicExample builds the Basic Example of the reference with ebs_direct on a machine that is not an
// instance: the metadata service refuses, and no volume is created.
func TestDirectBasicExample(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	b.Stop()
	template := b.Write("template.json", `{"builders": [{
  "type": "amazon-chroot",
  "access_key": "YOUR KEY HERE",
  "secret_key": "YOUR SECRET KEY HERE",
  "source_ami": "ami-e81d5881",
  "ami_name": "packer-amazon-chroot {{timestamp}}",
  "ebs_direct": true
}], "provisioners": [{"type": "shell", "inline": ["echo direct > /root/direct", "rm /etc/hostname"]}]}`)
	cmd := exec.Command(harness.Programs.Loopcloud, "run", "--dir", b.Store, "--hosts", "0", "--", harness.Programs.Packer, "build", "-color=false", template)
	cmd.Dir = b.Dir
	cmd.Env = slices.DeleteFunc(slices.Clone(b.Env), func(e string) bool {
		return strings.HasPrefix(e, "AWS_") || strings.HasPrefix(e, "OSC_")
	})
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("loopcloud run: %v\n%s", err, out)
	}
	t.Log(string(out))
	b.Serve("--hosts", "0")
	made := b.Made()
	if !strings.HasPrefix(made.Name, "packer-amazon-chroot ") {
		t.Errorf("the image is %+v", made)
	}
	disk := b.Disk(made.ID)
	if got := b.Content(disk, "/root/direct"); got != "direct\n" {
		t.Errorf("the provisioner's file holds %q", got)
	}
	if b.Has(disk, "/etc/hostname") || !b.Has(disk, "/bin/busybox") {
		t.Error("the root is not the source's with the provisioner's changes")
	}
	b.Clean()
}
