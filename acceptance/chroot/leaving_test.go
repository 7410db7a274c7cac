package chroot

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// TestLeavingEndsWhatRuns checks that a build ends the processes that provisioners left in the chroot and on the host.
func TestLeavingEndsWhatRuns(t *testing.T) {
	const apart = " </dev/null >/dev/null 2>&1 "
	local := func(line string) map[string]any {
		return map[string]any{"type": "shell-local", "inline": []string{line}}
	}
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		out := b.Build(b.Template(f.Basic(nil),
			harness.Shell(
				"sleep 4001"+apart+"&",
				"(setsid sh -c 'sleep 4002 & wait'"+apart+"&)",
				"sh -c 'kill -STOP $$; exec sleep 4003'"+apart+"&",
				"exec 3>/root/held; setsid sleep 4004"+apart+"&",
				"echo written >> /root/held",
				"mkdir -p /root/mounted; mount -t tmpfs tmpfs /root/mounted; cd /root/mounted; setsid sleep 4005"+apart+"&",
			),
			local("cd '{{build `MountPath`}}' && setsid sleep 4006"+apart+"&"),
			local("exec 3<'{{build `MountPath`}}/etc/passwd'; setsid sleep 4007"+apart+"&"),
			local("setsid unshare --mount sh -c 'mount -t tmpfs tmpfs {{build `MountPath`}}/tmp && exec sleep 4008'"+apart+"& until tr '\\000' ' ' </proc/$!/cmdline | grep -q '^sleep 4008'; do sleep 0.1; done"),
			local("setsid chroot '{{build `MountPath`}}' sh -c 'trap \"\" TERM; sleep 4009'"+apart+"& sleep 0.5"),
		))
		for _, want := range []string{"4001", "4002", "4003", "4004", "4005", "4006", "4007", "4008", "4009"} {
			if !regexp.MustCompile(`process \d+ \(.*sleep ` + want).MatchString(out) {
				t.Errorf("that sleep %s was ended is not told:\n%s", want, out)
			}
		}
		if got := b.Content(b.Disk(b.Made().ID), "/root/held"); got != "written\n" {
			t.Errorf("/root/held holds %q", got)
		}
	})
}

// TestLeavingFails checks that if the shell that started packer enters the root, it is named, and nothing is
// detached or snapshotted.
func TestLeavingFails(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		template := b.Template(f.Basic(map[string]any{"mount_path": filepath.Join(b.Dir, "mnt")}), map[string]any{
			"type":   "shell-local",
			"inline": []string{"echo '{{build `MountPath`}}' > where.new; mv where.new where; until [ -e there ]; do sleep 0.1; done"},
		})
		script := `"$0" build -color=false "$1" > out 2>&1 &
until [ -e where ]; do sleep 0.1; done
home=$PWD; cd "$(cat where)" && touch "$home/there"; wait $!`
		cmd := exec.Command("/bin/sh", "-c", script, harness.Programs.Packer, template)
		cmd.Dir, cmd.Env = b.Dir, b.Env
		err := cmd.Run()
		out, where := harness.Read(filepath.Join(b.Dir, "out")), strings.TrimSpace(harness.Read(filepath.Join(b.Dir, "where")))
		if err == nil || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("packer build: %v\n%s", err, out)
		}
		if want := regexp.MustCompile(`cannot leave ` + where + `: .* is in use by process \d+ \(/bin/sh -c`); !want.MatchString(harness.Flat(out)) {
			t.Errorf("packer does not say who holds %s:\n%s", where, out)
		}
		for _, thing := range b.Inventory() {
			if strings.HasPrefix(thing, "volume") && strings.HasSuffix(thing, "available") || strings.HasSuffix(thing, "pending") {
				t.Errorf("detached or snapshotted: %s", thing)
			}
		}
		if len(b.Images()) != 1 {
			t.Errorf("the images are %v", b.Images())
		}
		if !strings.Contains(harness.Read("/proc/self/mountinfo"), where) {
			t.Errorf("%s is no longer mounted", where)
		}
		b.Reaped(f, before) // the shell is gone by now
	})
}

// TestPolicyRcD checks that the policy-rc.d recipe of the documentation, exactly as it is
// printed there, keeps packages from starting services.
func TestPolicyRcD(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		b.Build(b.Template(f.Basic(nil),
			harness.Shell(
				"echo '#!/bin/sh' > /usr/sbin/policy-rc.d",
				"echo 'exit 101' >> /usr/sbin/policy-rc.d",
				"chmod a+x /usr/sbin/policy-rc.d",
			),
			harness.Shell("status=0; /usr/sbin/policy-rc.d || status=$?; echo $status > /root/policy"),
			harness.Shell("rm -f /usr/sbin/policy-rc.d"),
		))
		disk := b.Disk(b.Made().ID)
		if got := b.Content(disk, "/root/policy"); got != "101\n" {
			t.Errorf("the policy answered %q", got)
		}
		if b.Has(disk, "/usr/sbin/policy-rc.d") {
			t.Error("the policy is left")
		}
	})
}

// TestProvisionersHideTheRoot checks that a build fails with the cause, and does not retry for five minutes, if the
// next script cannot be uploaded.
func TestProvisionersHideTheRoot(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		for line, says := range map[string]string{
			"mount -t tmpfs t /":          "something is mounted over the root of the image",
			"mount -o remount,ro /":       "read-only file system",
			"rm -rf /tmp; touch /tmp":     "not a directory",
			"mount -t tmpfs -o ro t /tmp": "read-only file system",
			"rm -rf /tmp; ln -s /no /tmp": "a link is there that leads nowhere",
		} {
			before := b.Inventory()
			b.Fails(b.Template(f.Basic(nil), harness.Shell(line), harness.Shell("true")), says)
			b.Unchanged(before)
		}
	})
}
