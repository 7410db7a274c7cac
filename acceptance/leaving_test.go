package acceptance

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLeavingEndsWhatRuns leaves behind what a build must end: in the chroot, and
// from the host.
func TestLeavingEndsWhatRuns(t *testing.T) {
	const apart = " </dev/null >/dev/null 2>&1 "
	local := func(line string) map[string]any {
		return map[string]any{"type": "shell-local", "inline": []string{line}}
	}
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		out := b.build(b.template(f.basic(nil),
			shell(
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
		if got := b.content(b.disk(b.made().ID), "/root/held"); got != "written\n" {
			t.Errorf("/root/held holds %q", got)
		}
	})
}

// TestLeavingFails has the shell that started packer go into the root: it is
// named, and nothing is detached or snapshotted.
func TestLeavingFails(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		template := b.template(f.basic(map[string]any{"mount_path": filepath.Join(b.dir, "mnt")}), map[string]any{
			"type":   "shell-local",
			"inline": []string{"echo '{{build `MountPath`}}' > where.new; mv where.new where; until [ -e there ]; do sleep 0.1; done"},
		})
		script := `"$0" build -color=false "$1" > out 2>&1 &
until [ -e where ]; do sleep 0.1; done
home=$PWD; cd "$(cat where)" && touch "$home/there"; wait $!`
		cmd := exec.Command("/bin/sh", "-c", script, programs.packer, template)
		cmd.Dir, cmd.Env = b.dir, b.env
		err := cmd.Run()
		out, where := read(filepath.Join(b.dir, "out")), strings.TrimSpace(read(filepath.Join(b.dir, "where")))
		if err == nil || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("packer build: %v\n%s", err, out)
		}
		if want := regexp.MustCompile(`cannot leave ` + where + `: .* is in use by process \d+ \(/bin/sh -c`); !want.MatchString(flat(out)) {
			t.Errorf("packer does not say who holds %s:\n%s", where, out)
		}
		for _, thing := range b.inventory() {
			if strings.HasPrefix(thing, "volume") && strings.HasSuffix(thing, "available") || strings.HasSuffix(thing, "pending") {
				t.Errorf("detached or snapshotted: %s", thing)
			}
		}
		if len(b.images()) != 1 {
			t.Errorf("the images are %v", b.images())
		}
		if !strings.Contains(read("/proc/self/mountinfo"), where) {
			t.Errorf("%s is no longer mounted", where)
		}
		b.reaped(f, before) // the shell is gone by now
	})
}

// TestPolicyRcD: the recipe of the documentation against services that packages
// start, as it is printed there.
func TestPolicyRcD(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		b.build(b.template(f.basic(nil),
			shell(
				"echo '#!/bin/sh' > /usr/sbin/policy-rc.d",
				"echo 'exit 101' >> /usr/sbin/policy-rc.d",
				"chmod a+x /usr/sbin/policy-rc.d",
			),
			shell("status=0; /usr/sbin/policy-rc.d || status=$?; echo $status > /root/policy"),
			shell("rm -f /usr/sbin/policy-rc.d"),
		))
		disk := b.disk(b.made().ID)
		if got := b.content(disk, "/root/policy"); got != "101\n" {
			t.Errorf("the policy answered %q", got)
		}
		if b.has(disk, "/usr/sbin/policy-rc.d") {
			t.Error("the policy is left")
		}
	})
}

// TestProvisionersHideTheRoot: a build whose next script cannot be uploaded any more fails
// with the cause, and does not try again for five minutes.
func TestProvisionersHideTheRoot(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		for line, says := range map[string]string{
			"mount -t tmpfs t /":          "something is mounted over the root of the image",
			"mount -o remount,ro /":       "read-only file system",
			"rm -rf /tmp; touch /tmp":     "not a directory",
			"mount -t tmpfs -o ro t /tmp": "read-only file system",
			"rm -rf /tmp; ln -s /no /tmp": "a link is there that leads nowhere",
		} {
			before := b.inventory()
			b.fails(b.template(f.basic(nil), shell(line), shell("true")), says)
			b.unchanged(before)
		}
	})
}
