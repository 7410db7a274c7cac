package chroot

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// needAnsible skips a test if Ansible is not installed; in CI it is.
func needAnsible(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ansible-playbook"); err == nil {
		return
	}
	if harness.CI {
		t.Fatal("no ansible-playbook")
	}
	t.Skip("needs ansible-playbook (Debian's package ansible)")
}

// pythonRoot creates a root file system of busybox and the host's Python.
func pythonRoot(b *harness.Box) string {
	b.Helper()
	root := filepath.Join(b.Dir, "python")
	b.Sh(`cp -a ` + harness.Programs.Root + ` ` + root + `
cd ` + root + `
python=$(readlink -f /usr/bin/python3)
lib=$($python -c 'import os; print(os.path.dirname(os.__file__))')
mkdir -p usr/bin usr/lib
cp $python usr/bin/python3
mkdir -p .$lib
tar -C $lib --exclude=test --exclude=dist-packages --exclude=__pycache__ --exclude='config-*' -cf - . | tar -C .$lib -xf -
ldd $python $lib/lib-dynload/*.so | grep -o '/[^ ]*\.so[^ :]*' | grep -v lib-dynload | sort -u | while read -r so; do
  mkdir -p .$(dirname $so)
  cp -Ln $so .$so
done`)
	return root
}

// TestAnsible runs the example: Ansible's chroot connection, from the host, with
// modules that are Python in the image.
func TestAnsible(t *testing.T) {
	needAnsible(t)
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		source := b.Loopcloud("image", "import", "--endpoint", b.Endpoint, "--name", "python", pythonRoot(b))
		before := b.Images()
		out := b.Build(filepath.Join(harness.Programs.Repo, "examples", f.Name, "ansible.pkr.hcl"), "-var", "source="+source)
		if !strings.Contains(out, "changed=3") || !strings.Contains(out, "failed=0") {
			t.Errorf("Ansible says\n%s", out)
		}
		disk := b.Disk(newest(b, before).ID)
		if got := b.Content(disk, "/etc/motd"); !strings.HasPrefix(got, "made by Ansible on /dev/xvd") {
			t.Errorf("/etc/motd holds %q", got)
		}
		if got := b.Content(disk, "/etc/hosts"); got != "192.0.2.1 from-ansible\n" {
			t.Errorf("/etc/hosts holds %q", got)
		}
	})
}

// TestAnsibleDaemon runs a playbook that starts a daemon, in an image without Python.
func TestAnsibleDaemon(t *testing.T) {
	needAnsible(t)
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		playbook := b.Write("playbook.yml", `
- hosts: all
  gather_facts: false
  tasks:
    - raw: |
        echo from Ansible > /etc/motd
        setsid sleep 4321 </dev/null >/dev/null 2>&1 &
`)
		out := b.Build(b.Template(f.Basic(nil), map[string]any{
			"type":             "shell-local",
			"environment_vars": []string{"LC_ALL=C.UTF-8"},
			"inline":           []string{"ansible-playbook -c community.general.chroot -i '{{build `MountPath`}},' " + playbook},
		}))
		if !strings.Contains(harness.Flat(out), "(sleep 4321), which has its root there") {
			t.Errorf("what was ended is not named:\n%s", out)
		}
		if got := b.Content(b.Disk(b.Made().ID), "/etc/motd"); got != "from Ansible\n" {
			t.Errorf("/etc/motd holds %q", got)
		}
	})
}

// newest returns the image that was created since.
func newest(b *harness.Box, before []harness.Image) harness.Image {
	b.Helper()
	for _, img := range b.Images() {
		known := false
		for _, old := range before {
			known = known || old.ID == img.ID
		}
		if !known {
			return img
		}
	}
	b.Fatal("no image was made")
	return harness.Image{}
}
