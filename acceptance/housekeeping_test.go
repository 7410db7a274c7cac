package acceptance

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// TestResolvConfComesBack: whatever the image has there, link or file, it has
// afterwards, unless a provisioner changed it.
func TestResolvConfComesBack(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
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
				b := newBox(t)
				id := b.changed(func(root string) { b.must(test.before(root)) })
				b.build(b.template(f.basic(map[string]any{"source_PREFIX": id}), shell("cat /etc/resolv.conf > /root/seen", test.change)))
				disk := b.disk(b.builtFrom(id).ID)
				if got, want := b.content(disk, "/root/seen"), read("/etc/resolv.conf"); got != want {
					t.Errorf("the provisioner saw %q, the host has %q", got, want)
				}
				if got := b.describe(disk, "/etc/resolv.conf"); got != test.after {
					t.Errorf("the image has %q, want %q", got, test.after)
				}
				if names := b.debugfs(disk, 1<<20, "ls -p /etc"); strings.Contains(names, "packer-chroot") {
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

// describe says what a file of an image is: mode and content, or where a link
// leads. It is empty if there is none.
func (b *box) describe(disk, path string) string {
	b.t.Helper()
	if !b.has(disk, path) {
		return ""
	}
	told := b.debugfs(disk, 1<<20, "stat "+path)
	if link := debugfsLink.FindStringSubmatch(told); link != nil {
		return "symlink " + link[1]
	}
	mode := debugfsMode.FindStringSubmatch(told)
	if mode == nil {
		b.t.Fatalf("debugfs tells no mode of %s: %s", path, told)
	}
	return mode[1] + " " + b.content(disk, path)
}

// The seeds' recipe against services.
var recipe = []map[string]any{
	shell("echo '#!/bin/sh' > /usr/sbin/policy-rc.d", "echo 'exit 101' >> /usr/sbin/policy-rc.d", "chmod a+x /usr/sbin/policy-rc.d"),
	shell("rm -f /usr/sbin/policy-rc.d"),
}

func TestBlockServices(t *testing.T) {
	const asked = "if /usr/sbin/policy-rc.d; then s=0; else s=$?; fi; echo $s [$SYSTEMD_OFFLINE] >> /root/asked"
	both(t, func(t *testing.T, f flavor) {
		for _, test := range []struct {
			name         string
			blocked, own bool
			provisioners []map[string]any
			asked, after string
		}{
			{"blocked", true, false, []map[string]any{shell(asked)}, "101 [1]\n", ""},
			{"blocked, the image's own", true, true, []map[string]any{shell(asked)}, "101 [1]\n", "0755 exit 0\n"},
			{"by default", false, true, []map[string]any{shell(asked)}, "0 []\n", "0755 exit 0\n"},
			{"the recipe", false, false, []map[string]any{recipe[0], shell(asked), recipe[1]}, "101 []\n", ""},
			{"blocked, and the recipe", true, false, []map[string]any{recipe[0], shell(asked), recipe[1]}, "101 [1]\n", ""},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := newBox(t)
				id := b.changed(func(root string) {
					if test.own {
						b.must(os.WriteFile(root+"/usr/sbin/policy-rc.d", []byte("exit 0\n"), 0o755))
					}
				})
				options := f.basic(map[string]any{"source_PREFIX": id})
				if test.blocked {
					options["block_services"] = true
				}
				b.build(b.template(options, test.provisioners...))
				disk := b.disk(b.builtFrom(id).ID)
				if got := b.content(disk, "/root/asked"); got != test.asked {
					t.Errorf("asked, it said %q, want %q", got, test.asked)
				}
				if got := b.describe(disk, "/usr/sbin/policy-rc.d"); got != test.after {
					t.Errorf("afterwards it is %q, want %q", got, test.after)
				}
			})
		}
	})
}

// TestCleanUploads has a shell provisioner leave its script behind, as one does
// that is killed.
func TestCleanUploads(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		for _, clean := range []bool{false, true} {
			b := newBox(t)
			up := b.write("up", "uploaded\n")
			id := b.changed(func(root string) { b.must(os.WriteFile(root+"/tmp/before", nil, 0o644)) })
			options := f.basic(map[string]any{"source_PREFIX": id})
			if clean {
				options["clean_uploads"] = true
			}
			b.build(b.template(options,
				map[string]any{"type": "shell", "inline": []string{"echo > /tmp/made"}, "skip_clean": true},
				file(up, "/tmp/up"), file(up, "/root/up")))
			disk := b.disk(b.builtFrom(id).ID)
			left := b.debugfs(disk, 1<<20, "ls -p /tmp")
			for name, want := range map[string]bool{"script_": !clean, "/up/": !clean, "/before/": true, "/made/": true} {
				if strings.Contains(left, name) != want {
					t.Errorf("clean_uploads %t: %s is there: %t\n%s", clean, name, !want, left)
				}
			}
			if got := b.content(disk, "/root/up"); got != "uploaded\n" {
				t.Errorf("elsewhere: %q", got)
			}
		}
	})
}

func TestPreUnmountCommands(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		log := filepath.Join(b.dir, "log")
		b.build(b.template(f.basic(map[string]any{
			"command_wrapper": "env WRAPPED=yes {{.Command}}",
			"mount_path":      filepath.Join(b.dir, "mnt"),
			"pre_unmount_commands": []string{
				"sh -c 'echo $WRAPPED {{.Device}} {{.MountPath}}' >> " + log,
				"cat {{.MountPath}}/root/done >> " + log,
				"grep -c ' {{.MountPath}}/proc ' /proc/self/mounts >> " + log,
				"echo of the host > {{.MountPath}}/root/added",
			},
		}), shell("echo provisioned > /root/done")))
		want := regexp.MustCompile(`^yes /dev/xvd[a-z]+ ` + regexp.QuoteMeta(filepath.Join(b.dir, "mnt")) + "\nprovisioned\n1\n$")
		if got := read(log); !want.MatchString(got) {
			t.Errorf("the commands wrote %q", got)
		}
		if got := b.content(b.disk(b.made().ID), "/root/added"); got != "of the host\n" {
			t.Errorf("the image holds %q", got)
		}

		failing := newBox(t)
		before := failing.inventory()
		failing.fails(failing.template(f.basic(map[string]any{"pre_unmount_commands": []string{"echo not today; exit 9"}}), shell("true")),
			"not today", "pre_unmount_commands", "status 9")
		failing.unchanged(before)
	})
}

// terminal runs packer on a terminal, for it asks on nothing else, and types each
// answer as soon as its question is asked.
func (b *box) terminal(args string, questions, answers []string) (string, error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, "script", "-qec", "exec "+programs.packer+" "+args, "/dev/null")
	cmd.Env, cmd.Dir = b.env, b.dir
	keys, err := cmd.StdinPipe()
	b.must(err)
	defer keys.Close()
	typist := &typist{keys: keys, questions: questions, answers: answers}
	cmd.Stdout, cmd.Stderr = typist, typist
	err = cmd.Run()
	return typist.said.String(), err
}

// typist answers questions as they appear.
type typist struct {
	keys               io.Writer
	questions, answers []string
	said               strings.Builder
	read               int
}

func (t *typist) Write(p []byte) (int, error) {
	t.said.Write(p)
	if len(t.questions) == 0 {
		return len(p), nil
	}
	if i := strings.Index(t.said.String()[t.read:], t.questions[0]); i >= 0 {
		t.read += i + len(t.questions[0])
		_, _ = io.WriteString(t.keys, t.answers[0]+"\r") // a terminal's Enter
		t.questions, t.answers = t.questions[1:], t.answers[1:]
	}
	return len(p), nil
}

// TestOnErrorAsk answers each of what can be answered.
func TestOnErrorAsk(t *testing.T) {
	const question = "Clean up and exit"
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		failing := b.template(f.basic(nil), shell("exit 5"))
		out, err := b.terminal("build -color=false -on-error=ask "+failing, []string{question, question}, []string{"what?", "c"})
		if err == nil || !strings.Contains(out, `Not an answer: "what?"`) || !strings.Contains(flat(out), "undone: mount of") {
			t.Errorf("clean up: %v\n%s", err, out)
		}
		b.clean()
		b.unchanged(before)

		out, err = b.terminal("build -color=false -on-error=ask "+failing, []string{question}, []string{"a"})
		if err == nil {
			t.Errorf("abort succeeded:\n%s", out)
		}
		b.followAdvice(out)

		mark := filepath.Join(b.dir, "tried")
		retrying := b.template(f.basic(nil), map[string]any{"type": "shell-local", "inline": []string{"test -e " + mark + " || { touch " + mark + "; exit 6; }"}})
		if out, err := b.terminal("build -color=false -on-error=ask "+retrying, []string{question}, []string{"r"}); err != nil {
			t.Errorf("retry: %v\n%s", err, out)
		}
		b.clean()
		b.made()
	})
}

var (
	lookAdvice   = regexp.MustCompile(`To look at the root: sudo (chroot \S+ /bin/sh)`)
	removeAdvice = regexp.MustCompile(`run: sudo (umount -R \S+); detach volume (vol-[0-9a-f]+) from (i-[0-9a-f]+) \(/dev/\w+\); delete volume (vol-[0-9a-f]+)`)
)

// followAdvice does what a build that was told to leave everything says can be
// done then. After that nothing is left.
func (b *box) followAdvice(out string) {
	b.t.Helper()
	look, undo := lookAdvice.FindStringSubmatch(flat(out)), removeAdvice.FindStringSubmatch(flat(out))
	if look == nil || undo == nil {
		b.t.Fatalf("no advice how to look and how to remove:\n%s", out)
	}
	if got := b.sh("echo 'echo in $(cat /etc/hostname)' | " + look[1]); got != "in busybox\n" {
		b.t.Errorf("a look shows %q", got)
	}
	b.sh(undo[1])
	if undo[2] != undo[4] {
		b.t.Errorf("%s is to be detached, and %s deleted", undo[2], undo[4])
	}
	b.detach(undo[2])
	b.must(remove.All(filepath.Join(b.dir, "lock")))
	_ = os.Remove(strings.Fields(undo[1])[2]) // the mount path, if the build made it
}

// TestOnErrorKeepsEverything: with abort and with run-cleanup-provisioner; only the
// latter runs the error-cleanup-provisioner.
func TestOnErrorKeepsEverything(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		for policy, cleaned := range map[string]string{"abort": "", "run-cleanup-provisioner": "cleaned\n"} {
			b := newBox(t)
			template := b.write("template.json", fmt.Sprintf(`{"builders": [%s], "provisioners": [{"type": "shell", "inline": ["exit 3"]}],
				"error-cleanup-provisioner": {"type": "shell-local", "inline": ["echo cleaned > %s/cleaned"]}}`, toJSON(f.basic(nil)), b.dir))
			out, err := b.packer("build", "-color=false", "-on-error="+policy, template)
			if err == nil {
				t.Errorf("%s: the build succeeded:\n%s", policy, out)
			}
			if got := read(filepath.Join(b.dir, "cleaned")); got != cleaned {
				t.Errorf("%s: the cleanup provisioner wrote %q, want %q", policy, got, cleaned)
			}
			b.followAdvice(out)
		}
	})
}
