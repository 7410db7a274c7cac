package chroot

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// TestResolvConfComesBack checks that the image's resolv.conf, file or link, is restored unless a provisioner changed
// it.
func TestResolvConfComesBack(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		const stub = "../run/systemd/resolve/stub-resolv.conf"
		asLink := func(root string) error { return os.Symlink(stub, root+"/etc/resolv.conf") }
		asFile := func(root string) error { return os.WriteFile(root+"/etc/resolv.conf", []byte("the image's\n"), 0o640) }
		for _, test := range []struct {
			name   string
			before func(root string) error
			change string
			after  string
		}{
			{"a link", asLink, "true", "symlink " + stub},
			{"a file", asFile, "true", "0640 the image's\n"},
			{"a link, changed", asLink, "rm /etc/resolv.conf; echo mine > /etc/resolv.conf", "0644 mine\n"},
			{"a file, made a link", asFile, "ln -sf /run/mine /etc/resolv.conf", "symlink /run/mine"},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := harness.New(t)
				id := changed(b, func(root string) { b.Must(test.before(root)) })
				b.Build(b.Template(f.Basic(map[string]any{"source_PREFIX": id}), harness.Shell("cat /etc/resolv.conf > /root/seen", test.change)))
				disk := b.Disk(b.BuiltFrom(id).ID)
				if got, want := b.Content(disk, "/root/seen"), harness.Read("/etc/resolv.conf"); got != want {
					t.Errorf("the provisioner saw %q, the host has %q", got, want)
				}
				if got := describe(b, disk, "/etc/resolv.conf"); got != test.after {
					t.Errorf("the image has %q, want %q", got, test.after)
				}
				if names := b.Debugfs(disk, 1<<20, "ls -p /etc"); strings.Contains(names, "packer-chroot") {
					t.Errorf("left in the image:\n%s", names)
				}
			})
		}
	})
}

var (
	debugfsMode = regexp.MustCompile(`Mode:\s+(\d+)`)
	debugfsLink = regexp.MustCompile(`Fast link dest: "(.*)"`)
)

// describe returns the mode and content of a file of an image, or the target of a link, or "" if there is none.
func describe(b *harness.Box, disk, path string) string {
	b.Helper()
	if !b.Has(disk, path) {
		return ""
	}
	told := b.Debugfs(disk, 1<<20, "stat "+path)
	if link := debugfsLink.FindStringSubmatch(told); link != nil {
		return "symlink " + link[1]
	}
	mode := debugfsMode.FindStringSubmatch(told)
	if mode == nil {
		b.Fatalf("debugfs tells no mode of %s: %s", path, told)
	}
	return mode[1] + " " + b.Content(disk, path)
}

// recipe prevents services from starting, with policy-rc.d. Users' templates have it.
var recipe = []map[string]any{
	harness.Shell("echo '#!/bin/sh' > /usr/sbin/policy-rc.d", "echo 'exit 101' >> /usr/sbin/policy-rc.d", "chmod a+x /usr/sbin/policy-rc.d"),
	harness.Shell("rm -f /usr/sbin/policy-rc.d"),
}

func TestBlockServices(t *testing.T) {
	const asked = "if /usr/sbin/policy-rc.d; then s=0; else s=$?; fi; echo $s [$SYSTEMD_OFFLINE] >> /root/asked"
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		for _, test := range []struct {
			name         string
			blocked, own bool
			provisioners []map[string]any
			asked, after string
		}{
			{"blocked", true, false, []map[string]any{harness.Shell(asked)}, "101 [1]\n", ""},
			{"blocked, the image's own", true, true, []map[string]any{harness.Shell(asked)}, "101 [1]\n", "0755 exit 0\n"},
			{"by default", false, true, []map[string]any{harness.Shell(asked)}, "0 []\n", "0755 exit 0\n"},
			{"the recipe", false, false, []map[string]any{recipe[0], harness.Shell(asked), recipe[1]}, "101 []\n", ""},
			{"blocked, and the recipe", true, false, []map[string]any{recipe[0], harness.Shell(asked), recipe[1]}, "101 [1]\n", ""},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := harness.New(t)
				id := changed(b, func(root string) {
					if test.own {
						b.Must(os.WriteFile(root+"/usr/sbin/policy-rc.d", []byte("exit 0\n"), 0o755))
					}
				})
				options := f.Basic(map[string]any{"source_PREFIX": id})
				if test.blocked {
					options["block_services"] = true
				}
				b.Build(b.Template(options, test.provisioners...))
				disk := b.Disk(b.BuiltFrom(id).ID)
				if got := b.Content(disk, "/root/asked"); got != test.asked {
					t.Errorf("asked, it said %q, want %q", got, test.asked)
				}
				if got := describe(b, disk, "/usr/sbin/policy-rc.d"); got != test.after {
					t.Errorf("afterwards it is %q, want %q", got, test.after)
				}
			})
		}
	})
}

// TestCleanUploads checks the removal of a script that a shell provisioner has left, as a killed one does.
func TestCleanUploads(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		for _, clean := range []bool{false, true} {
			b := harness.New(t)
			up := b.Write("up", "uploaded\n")
			id := changed(b, func(root string) { b.Must(os.WriteFile(root+"/tmp/before", nil, 0o644)) })
			options := f.Basic(map[string]any{"source_PREFIX": id})
			if clean {
				options["clean_uploads"] = true
			}
			b.Build(b.Template(options,
				map[string]any{"type": "shell", "inline": []string{"echo > /tmp/made"}, "skip_clean": true},
				file(up, "/tmp/up"), file(up, "/root/up")))
			disk := b.Disk(b.BuiltFrom(id).ID)
			left := b.Debugfs(disk, 1<<20, "ls -p /tmp")
			for name, want := range map[string]bool{"script_": !clean, "/up/": !clean, "/before/": true, "/made/": true} {
				if strings.Contains(left, name) != want {
					t.Errorf("clean_uploads %t: %s is there: %t\n%s", clean, name, !want, left)
				}
			}
			if got := b.Content(disk, "/root/up"); got != "uploaded\n" {
				t.Errorf("elsewhere: %q", got)
			}
		}
	})
}

func TestPreUnmountCommands(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		log := filepath.Join(b.Dir, "log")
		b.Build(b.Template(f.Basic(map[string]any{
			"command_wrapper": "env WRAPPED=yes {{.Command}}",
			"mount_path":      filepath.Join(b.Dir, "mnt"),
			"pre_unmount_commands": []string{
				"sh -c 'echo $WRAPPED {{.Device}} {{.MountPath}}' >> " + log,
				"cat {{.MountPath}}/root/done >> " + log,
				"grep -c ' {{.MountPath}}/proc ' /proc/self/mounts >> " + log,
				"echo of the host > {{.MountPath}}/root/added",
			},
		}), harness.Shell("echo provisioned > /root/done")))
		want := regexp.MustCompile(`^yes /dev/xvd[a-z]+ ` + regexp.QuoteMeta(filepath.Join(b.Dir, "mnt")) + "\nprovisioned\n1\n$")
		if got := harness.Read(log); !want.MatchString(got) {
			t.Errorf("the commands wrote %q", got)
		}
		if got := b.Content(b.Disk(b.Made().ID), "/root/added"); got != "of the host\n" {
			t.Errorf("the image holds %q", got)
		}

		failing := harness.New(t)
		before := failing.Inventory()
		failing.Fails(failing.Template(f.Basic(map[string]any{"pre_unmount_commands": []string{"echo not today; exit 9"}}), harness.Shell("true")),
			"not today", "pre_unmount_commands", "status 9")
		failing.Unchanged(before)
	})
}
