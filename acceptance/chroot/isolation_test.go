package chroot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// TestHostIsolation attacks the host from a provisioner, through the default mounts, the environment and the host name.
// docs/design.md has the list.
func TestHostIsolation(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		b.Env = append(b.Env, "http_proxy=http://proxy.invalid:3128", "PASSED=by name", "HOSTNAME=host", "BASH_ENV=/x", "APT_CONFIG=/x", "PYTHONHOME=/x")
		before, err := os.Hostname()
		b.Must(err)
		probe := filepath.Base(b.Dir) // in /dev and /dev/shm of the host nothing else has this name
		for _, dir := range []string{"/dev", "/dev/shm"} {
			path := filepath.Join(dir, probe)
			t.Cleanup(func() {
				if err := os.Remove(path); err == nil {
					t.Errorf("the build made %s on the host", path)
				}
			})
		}
		source := source(b, layout{
			script: "label: dos\n1: start=1MiB, size=100MiB, type=83\n2: start=120MiB, size=16MiB, type=82\n", parts: []part{rootOf(1, 100, ext4)},
		})
		b.Build(b.Template(f.Basic(map[string]any{"source_PREFIX": source, "pass_environment": []string{"PASSED"}}),
			harness.Shell(
				"env > /root/env", "awk '$2 ~ \"^/dev\"' /proc/mounts > /root/mounts",
				"! touch /dev/"+probe, "! mknod /dev/"+probe+" c 1 3", "! chmod 600 /dev/null", "echo x > /dev/null",
				"echo 'app:x:1234:1234::/:/bin/sh' >> /etc/passwd", "su app -c 'echo x > /dev/shm/"+probe+"'",
				"mkswap {{build `Device`}}2", "hostname of-the-image",
			),
			harness.Shell("hostname > /root/hostname", "cat /dev/shm/"+probe+" > /root/shm"),
			map[string]any{"type": "shell-local", "inline": []string{"hostname > " + b.Dir + "/hostname"}},
		))
		raw, root := b.Disk(latest(b).ID), rootOf(1, 100, nil)
		env := "\n" + inPart(b, raw, root, "root/env")
		for _, entry := range []string{"http_proxy=http://proxy.invalid:3128", "PASSED=by name", "HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} {
			if !strings.Contains(env, "\n"+entry+"\n") {
				t.Errorf("%s is missing in the environment%s", entry, env)
			}
		}
		for _, name := range []string{"AWS_", "OSC_", "HOSTNAME", "BASH_ENV", "APT_CONFIG", "PYTHONHOME", "PACKER_PLUGIN", "TMPDIR", harness.Secret} {
			if strings.Contains(env, name) {
				t.Errorf("%s is in the environment%s", name, env)
			}
		}
		if mounts := inPart(b, raw, root, "root/mounts"); !strings.Contains(mounts, " /dev devtmpfs ro,") || !strings.Contains(mounts, "tmpfs /dev/shm tmpfs rw,nosuid,nodev,") {
			t.Errorf("mounted is\n%s", mounts)
		}
		if got := inPart(b, raw, root, "root/hostname") + inPart(b, raw, root, "root/shm"); got != "of-the-image\nx\n" {
			t.Errorf("the second provisioner found %q", got)
		}
		if after, err := os.Hostname(); harness.Read(b.Dir+"/hostname") != before+"\n" || after != before || err != nil {
			t.Errorf("the host is named %q, and was %q", after, before)
		}
		onHost(b, "dd if=%s of=%s.swap bs=1M skip=120 count=16 status=none", raw, raw)
		if kind := onHost(b, "blkid -p -o value -s TYPE %s.swap", raw); kind != "swap" {
			t.Errorf("the second partition holds %q", kind)
		}
	})
}

// TestOwnChrootMountsAreAsWritten checks that chroot_mounts replaces the default mounts, so that a writable /dev is
// possible.
func TestOwnChrootMountsAreAsWritten(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		b.Build(b.Template(f.Basic(map[string]any{"chroot_mounts": [][]string{{"proc", "proc", "/proc"}, {"bind", "/dev", "/dev"}}}),
			harness.Shell("awk '$2 ~ \"^/dev\" { print $1, $2, substr($4, 1, 3) }' /proc/mounts > /root/mounts")))
		if got := b.Content(b.Disk(b.Made().ID), "/root/mounts"); got != "devtmpfs /dev rw,\n" {
			t.Errorf("mounted is\n%s", got)
		}
	})
}

// TestSELinuxLabels checks that new unlabelled files of an image that needs labels are listed
// once, on a host that sets none, unless the image relabels them itself.
func TestSELinuxLabels(t *testing.T) {
	if strings.Contains(harness.Read("/proc/filesystems"), "\tselinuxfs\n") {
		const why = "this host uses SELinux, and labels new files"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		source := source(b, layout{parts: []part{{size: 100, mkfs: ext4, root: true, files: map[string]string{"etc/selinux/config": "SELINUX=enforcing\n"}}}})
		out := harness.Flat(b.Build(b.Template(f.Basic(map[string]any{"source_PREFIX": source}), harness.Shell("true"))))
		if strings.Count(out, "this host, which does not use SELinux, gives it none") != 1 || !strings.Contains(out, "touch /.autorelabel") {
			t.Errorf("nothing is said of labels:\n%s", out)
		}
		raw := b.Disk(latest(b).ID)
		mounted(b, raw, 0, func(dir string) {
			onHost(b, "find %s -exec setfattr -h -n security.selinux -v system_u:object_r:etc_t:s0 {} +", dir)
		})
		labelled := b.Loopcloud("image", "import", "--endpoint", b.Endpoint, "--name", "labelled", raw)
		for _, test := range []struct{ line, says string }{
			{"echo x > /etc/by-the-build", `"/etc/by-the-build"`}, {"true", ""}, {"echo x > /etc/by-the-build; touch /.autorelabel", ""},
		} {
			out := harness.Flat(b.Build(b.Template(f.Basic(map[string]any{"source_PREFIX": labelled, "force_deregister": true, "PREFIX_name": "labelled again"}), harness.Shell(test.line))))
			if !strings.Contains(out, "this host does not: files that the build creates get no labels") {
				t.Errorf("%s: nothing is said before provisioning:\n%s", test.line, out)
			}
			if told := strings.Contains(out, "no SELinux label, for"); told != (test.says != "") || !strings.Contains(out, test.says) {
				t.Errorf("%s: it is said of labels\n%s", test.line, out)
			}
		}
	})
}
