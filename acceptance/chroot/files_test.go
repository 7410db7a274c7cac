package chroot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// changed imports an image of the usual root file system after change has modified it.
func changed(b *harness.Box, change func(root string)) string {
	b.Helper()
	root := filepath.Join(b.Dir, "source root")
	b.Sh("cp -a '" + harness.Programs.Root + "' '" + root + "'")
	change(root)
	id := b.Loopcloud("image", "import", "--endpoint", b.Endpoint, "--name", "changed", root)
	b.Must(remove.All(root))
	return id
}

func file(from, to string) map[string]any {
	return map[string]any{"type": "file", "source": from, "destination": to}
}

func download(from, to string) map[string]any {
	return map[string]any{"type": "file", "direction": "download", "source": from, "destination": to}
}

// TestHostileLinks builds from an image with links that point outside of it. They must resolve to the same paths in the
// image.
func TestHostileLinks(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		outside := filepath.Dir(b.Write("outside/canary", "of the host\n"))
		id := changed(b, func(root string) {
			b.Must(os.MkdirAll(root+outside, 0o755))
			b.Must(os.WriteFile(root+outside+"/canary", []byte("of the image\n"), 0o644))
			b.Must(os.Symlink(outside, root+"/absolute"))
			b.Must(os.Symlink(strings.Repeat("../", 30)+outside, root+"/relative"))
			b.Must(os.Symlink(outside+"/canary", root+"/file"))
		})
		up := b.Write("up", "uploaded\n")
		tree := filepath.Dir(b.Write("tree/below", "uploaded\n"))
		down := filepath.Join(b.Dir, "down")
		b.Build(b.Template(f.Basic(map[string]any{"source_PREFIX": id}),
			download("/file", down),
			download("/relative/", down+".d/"),
			file(up, "/absolute/new"),
			file(up, "/relative/newer"),
			file(up, "/file"),
			file(tree+"/", "/absolute"),
		))
		disk := b.Disk(b.BuiltFrom(id).ID)
		for _, name := range []string{"new", "newer", "canary", "below"} {
			if got := b.Content(disk, outside+"/"+name); got != "uploaded\n" {
				t.Errorf("%s holds %q in the image", name, got)
			}
		}
		if got := harness.Read(down) + harness.Read(down+".d/canary"); got != "of the image\nof the image\n" {
			t.Errorf("downloaded %q", got)
		}
		if entries, _ := os.ReadDir(outside); len(entries) != 1 || harness.Read(outside+"/canary") != "of the host\n" {
			t.Errorf("the host has %v, the first holds %q", entries, harness.Read(outside+"/canary"))
		}
	})
}

// TestFilesThatCannotBeCopied checks that the error names the reason, and that no pipe is waited for.
func TestFilesThatCannotBeCopied(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		id := changed(b, func(root string) {
			b.Must(unix.Mkfifo(root+"/srv-pipe", 0o600))
			b.Must(os.Mkdir(root+"/nodes", 0o755))
			b.Must(unix.Mknod(root+"/nodes/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200))))
		})
		up := b.Write("up", "uploaded\n")
		before := b.Inventory()
		for _, test := range []struct {
			provisioner map[string]any
			says        []string
		}{
			{file(up, "/srv-pipe"), []string{"/srv-pipe", "a named pipe"}},
			{file(up, "/dev/null"), []string{"/dev/null", "a device"}},
			{file(up, "/bin/busybox/x"), []string{"/bin/busybox", "not a directory"}},
			{download("/srv-pipe", b.Dir+"/down"), []string{"/srv-pipe", "a named pipe"}},
			{download("/nodes/", b.Dir+"/down.d/"), []string{"nodes/disk", "a device"}},
			{download("/none", b.Dir+"/down"), []string{"/none", "no such file"}},
		} {
			b.Fails(b.Template(f.Basic(map[string]any{"source_PREFIX": id}), test.provisioner), test.says...)
		}
		b.Unchanged(before)
	})
}

// TestDirectoriesAreKeptWhole uploads modes, links, times, holes and odd names.
func TestDirectoriesAreKeptWhole(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		odd := filepath.Join(b.Dir, "tree", "it's \"odd\"\n$HOME")
		b.Must(os.MkdirAll(odd, 0o755))
		b.Must(os.WriteFile(filepath.Join(odd, "not utf-8 \xff"), []byte("in"), 0o644))
		b.Sh("cd " + b.Dir + `/tree; mkdir sub; echo one > one; ln one two; ln -s one link; chmod 4750 one
			touch -d 2001-02-03T04:05:06Z sub; truncate -s 20M holes`)
		down := filepath.Join(b.Dir, "down")
		b.Build(b.Template(f.Basic(nil),
			file(b.Dir+"/tree", "/srv"),
			harness.Shell(`test "$(stat -c %a /srv/tree/one)" = 4750`, `test "$(stat -c %h /srv/tree/two)" = 2`, `test "$(readlink /srv/tree/link)" = one`,
				`test "$(stat -c %Y /srv/tree/sub)" = 981173106`, `test "$(stat -c %b /srv/tree/holes)" -lt 1000`),
			download("/srv/tree/", down+"/"),
		))
		b.Sh("cd " + b.Dir + `; diff -r --no-dereference tree down; cd down
			test "$(stat -c '%a %h' one)" = '4750 2'; test "$(stat -c %Y sub)" = 981173106; test "$(stat -c %b holes)" -lt 1000`)
	})
}

// TestUploadsAsOtherCommunicators uploads onto directories and existing files, and
// replaces /etc/resolv.conf as a package does.
func TestUploadsAsOtherCommunicators(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		up := b.Write("app.conf", "uploaded\n")
		b.Build(b.Template(f.Basic(map[string]any{"chroot_mounts": []any{
			[]any{"proc", "proc", "/proc"}, []any{"tmpfs", "cache", "/var/cache/build"},
		}}),
			harness.Shell("echo old > /etc/secret", "chmod 600 /etc/secret", "chown 12:34 /etc/secret", "ln -s /etc /configs"),
			file(up, "/configs"),
			file(up, "/etc/secret"),
			harness.Shell("ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf"),
			harness.Shell("grep -q nameserver /etc/resolv.conf", "touch /var/cache/build/file"),
		))
		disk := b.Disk(b.BuiltFrom(harness.SourceID).ID)
		if got := b.Content(disk, "/etc/app.conf"); got != "uploaded\n" {
			t.Errorf("/etc/app.conf holds %q", got)
		}
		if got := b.Debugfs(disk, 1<<20, "stat /etc/secret"); !strings.Contains(got, "Mode:  0600") || !strings.Contains(harness.Flat(got), "User: 12 Group: 34") {
			t.Errorf("/etc/secret lost its mode or its owner:\n%s", got)
		}
		if got := b.Content(disk, "/etc/secret"); got != "uploaded\n" {
			t.Errorf("/etc/secret holds %q", got)
		}
		if got := describe(b, disk, "/etc/resolv.conf"); got != "symlink ../run/systemd/resolve/stub-resolv.conf" {
			t.Errorf("/etc/resolv.conf is %q", got)
		}
		for _, path := range []string{"/run/systemd", "/var/cache/build"} {
			if b.Has(disk, path) {
				t.Errorf("%s is in the image", path)
			}
		}
	})
}

// TestFailedDownloadLeavesNothing checks that a failed download leaves no file, although
// Packer creates the destination before it requests the file.
func TestFailedDownloadLeavesNothing(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		old := b.Write("old", "before\n")
		for _, dst := range []string{filepath.Join(b.Dir, "new"), old} {
			b.Fails(b.Template(f.Basic(nil), download("/none", dst)), "/none")
			if _, err := os.Lstat(dst); err == nil {
				t.Errorf("%s is there, and holds %q", dst, harness.Read(dst))
			}
		}
	})
}
