package acceptance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// changed imports an image that is the usual one and what change does to its root.
func (b *box) changed(change func(root string)) string {
	b.t.Helper()
	root := filepath.Join(b.dir, "source root")
	b.sh("cp -a '" + programs.root + "' '" + root + "'")
	change(root)
	id := b.loopcloud("image", "import", "--endpoint", b.endpoint, "--name", "changed", root)
	b.must(remove.All(root))
	return id
}

// builtFrom is the one image that a build made of a source.
func (b *box) builtFrom(source string) image {
	b.t.Helper()
	var made []image
	for _, img := range b.images() {
		if img.ID != sourceID && img.ID != source {
			made = append(made, img)
		}
	}
	if len(made) != 1 {
		b.t.Fatalf("builds made %d images, not one: %v", len(made), made)
	}
	return made[0]
}

func file(from, to string) map[string]any {
	return map[string]any{"type": "file", "source": from, "destination": to}
}

func download(from, to string) map[string]any {
	return map[string]any{"type": "file", "direction": "download", "source": from, "destination": to}
}

// TestHostileLinks builds from an image whose links lead out of it. In the image
// the same paths exist: that is where they lead.
func TestHostileLinks(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		outside := filepath.Dir(b.write("outside/canary", "of the host\n"))
		id := b.changed(func(root string) {
			b.must(os.MkdirAll(root+outside, 0o755))
			b.must(os.WriteFile(root+outside+"/canary", []byte("of the image\n"), 0o644))
			b.must(os.Symlink(outside, root+"/absolute"))
			b.must(os.Symlink(strings.Repeat("../", 30)+outside, root+"/relative"))
			b.must(os.Symlink(outside+"/canary", root+"/file"))
		})
		up := b.write("up", "uploaded\n")
		tree := filepath.Dir(b.write("tree/below", "uploaded\n"))
		down := filepath.Join(b.dir, "down")
		b.build(b.template(f.basic(map[string]any{"source_PREFIX": id}),
			download("/file", down),
			download("/relative/", down+".d/"),
			file(up, "/absolute/new"),
			file(up, "/relative/newer"),
			file(up, "/file"),
			file(tree+"/", "/absolute"),
		))
		disk := b.disk(b.builtFrom(id).ID)
		for _, name := range []string{"new", "newer", "canary", "below"} {
			if got := b.content(disk, outside+"/"+name); got != "uploaded\n" {
				t.Errorf("%s holds %q in the image", name, got)
			}
		}
		if got := read(down) + read(down+".d/canary"); got != "of the image\nof the image\n" {
			t.Errorf("downloaded %q", got)
		}
		if entries, _ := os.ReadDir(outside); len(entries) != 1 || read(outside+"/canary") != "of the host\n" {
			t.Errorf("the host has %v, the first holds %q", entries, read(outside+"/canary"))
		}
	})
}

// TestFilesThatCannotBeCopied says why, and never waits for a pipe.
func TestFilesThatCannotBeCopied(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		id := b.changed(func(root string) {
			b.must(unix.Mkfifo(root+"/srv-pipe", 0o600))
			b.must(os.Mkdir(root+"/nodes", 0o755))
			b.must(unix.Mknod(root+"/nodes/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200))))
		})
		up := b.write("up", "uploaded\n")
		before := b.inventory()
		for _, test := range []struct {
			provisioner map[string]any
			says        []string
		}{
			{file(up, "/srv-pipe"), []string{"/srv-pipe", "a named pipe"}},
			{file(up, "/dev/null"), []string{"/dev/null", "a device"}},
			{file(up, "/bin/busybox/x"), []string{"/bin/busybox", "not a directory"}},
			{download("/srv-pipe", b.dir+"/down"), []string{"/srv-pipe", "a named pipe"}},
			{download("/nodes/", b.dir+"/down.d/"), []string{"nodes/disk", "a device"}},
			{download("/none", b.dir+"/down"), []string{"/none", "no such file"}},
		} {
			b.fails(b.template(f.basic(map[string]any{"source_PREFIX": id}), test.provisioner), test.says...)
		}
		b.unchanged(before)
	})
}

// TestDirectoriesAreKeptWhole uploads modes, links, times, holes and odd names.
func TestDirectoriesAreKeptWhole(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		odd := filepath.Join(b.dir, "tree", "it's \"odd\"\n$HOME")
		b.must(os.MkdirAll(odd, 0o755))
		b.must(os.WriteFile(filepath.Join(odd, "not utf-8 \xff"), []byte("in"), 0o644))
		b.sh("cd " + b.dir + `/tree; mkdir sub; echo one > one; ln one two; ln -s one link; chmod 4750 one
			touch -d 2001-02-03T04:05:06Z sub; truncate -s 20M holes`)
		down := filepath.Join(b.dir, "down")
		b.build(b.template(f.basic(nil),
			file(b.dir+"/tree", "/srv"),
			shell(`test "$(stat -c %a /srv/tree/one)" = 4750`, `test "$(stat -c %h /srv/tree/two)" = 2`, `test "$(readlink /srv/tree/link)" = one`,
				`test "$(stat -c %Y /srv/tree/sub)" = 981173106`, `test "$(stat -c %b /srv/tree/holes)" -lt 1000`),
			download("/srv/tree/", down+"/"),
		))
		b.sh("cd " + b.dir + `; diff -r --no-dereference tree down; cd down
			test "$(stat -c '%a %h' one)" = '4750 2'; test "$(stat -c %Y sub)" = 981173106; test "$(stat -c %b holes)" -lt 1000`)
	})
}

// TestUploadsAsOtherCommunicators uploads onto directories and existing files, and
// replaces /etc/resolv.conf as a package does.
func TestUploadsAsOtherCommunicators(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		up := b.write("app.conf", "uploaded\n")
		b.build(b.template(f.basic(map[string]any{"chroot_mounts": []any{
			[]any{"proc", "proc", "/proc"}, []any{"tmpfs", "cache", "/var/cache/build"},
		}}),
			shell("echo old > /etc/secret", "chmod 600 /etc/secret", "chown 12:34 /etc/secret", "ln -s /etc /configs"),
			file(up, "/configs"),
			file(up, "/etc/secret"),
			shell("ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf"),
			shell("grep -q nameserver /etc/resolv.conf", "touch /var/cache/build/file"),
		))
		disk := b.disk(b.builtFrom(sourceID).ID)
		if got := b.content(disk, "/etc/app.conf"); got != "uploaded\n" {
			t.Errorf("/etc/app.conf holds %q", got)
		}
		if got := b.debugfs(disk, 1<<20, "stat /etc/secret"); !strings.Contains(got, "Mode:  0600") || !strings.Contains(flat(got), "User: 12 Group: 34") {
			t.Errorf("/etc/secret lost its mode or its owner:\n%s", got)
		}
		if got := b.content(disk, "/etc/secret"); got != "uploaded\n" {
			t.Errorf("/etc/secret holds %q", got)
		}
		if got := b.describe(disk, "/etc/resolv.conf"); got != "symlink ../run/systemd/resolve/stub-resolv.conf" {
			t.Errorf("/etc/resolv.conf is %q", got)
		}
		for _, path := range []string{"/run/systemd", "/var/cache/build"} {
			if b.has(disk, path) {
				t.Errorf("%s is in the image", path)
			}
		}
	})
}

// TestFailedDownloadLeavesNothing: Packer creates the destination before it asks for the
// file.
func TestFailedDownloadLeavesNothing(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		old := b.write("old", "before\n")
		for _, dst := range []string{filepath.Join(b.dir, "new"), old} {
			b.fails(b.template(f.basic(nil), download("/none", dst)), "/none")
			if _, err := os.Lstat(dst); err == nil {
				t.Errorf("%s is there, and holds %q", dst, read(dst))
			}
		}
	})
}
