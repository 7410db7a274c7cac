package acceptance

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// filler is what makes a small file system full.
const filler = "filler"

// small puts a file system of 256 blocks of a KiB each on a directory of the box. A file
// that has been written to can grow to its block's end, and no further when that is full.
func (b *box) small(name string) (dir string) {
	b.t.Helper()
	dir = filepath.Join(b.dir, name)
	mountSmall(b.t, dir, 256)
	return dir
}

// mountSmall puts a file system of so many KiB on a directory.
func mountSmall(t testing.TB, dir string, kib int) {
	t.Helper()
	file := dir + ".ext4"
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Truncate(file, int64(kib)<<10))
	for _, command := range [][]string{
		{"mkfs.ext4", "-q", "-b", "1024", "-m", "0", "-O", "^has_journal", file},
		{"mkdir", "-p", dir},
		{"mount", "-o", "loop", file, dir},
		{"rmdir", filepath.Join(dir, "lost+found")},
		{"chmod", "0700", dir},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", command, err, out)
		}
	}
}

// newNarrowBox is a box whose cloud has a file system of its own, of so many MiB.
func newNarrowBox(t testing.TB, mib int) *box {
	t.Helper()
	needRoot(t)
	cloud := filepath.Join(shortDir(t), "cloud")
	mountSmall(t, cloud, mib<<10)
	t.Cleanup(func() { must(t, unix.Unmount(cloud, 0)) })
	return newBoxOn(t, shortDir(t), cloud)
}

// large takes the small file system away. Nothing but what has filled it may be in it.
func (b *box) large(dir string) {
	b.t.Helper()
	fillers, _ := filepath.Glob(filepath.Join(dir, filler+"*"))
	for _, path := range fillers {
		b.must(os.Remove(path))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		b.t.Errorf("left in %s: %v, %v", dir, left, err)
	}
	b.must(unix.Unmount(dir, unix.MNT_DETACH))
}

// fill is a shell command that makes a small file system full: no block is free, and no
// file can be made.
func fill(dir string) string {
	path := filepath.Join(dir, filler)
	return "dd if=/dev/zero of=" + path + " bs=1024 2>/dev/null || sync -f " + dir +
		"; i=0; while (: >" + path + ".$i) 2>/dev/null; do i=$((i+1)); done"
}

// filled is fill, now.
func (b *box) filled(dir string) {
	b.t.Helper()
	if out, err := exec.Command("sh", "-c", fill(dir)).CombinedOutput(); err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
}

// TestJournalsDiskIsFull has no room for a build's journal, or for its next acts: what
// cannot be written down is not begun, and what is begun is undone.
func TestJournalsDiskIsFull(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		for _, when := range []string{"from the start", "in the middle"} {
			t.Run(when, func(t *testing.T) {
				b := newBox(t)
				// what is written of an image that is to be replaced is longer than a block
				options := map[string]any{"force_deregister": true, "tags": map[string]string{"a": strings.Repeat("a", 250), "b": strings.Repeat("b", 250),
					"c": strings.Repeat("c", 250), "d": strings.Repeat("d", 250)}}
				b.build(b.template(f.basic(options)))
				before := b.inventory()
				dir := b.small("state")
				step := shell("true")
				if when == "in the middle" {
					step = map[string]any{"type": "shell-local", "inline": []string{fill(dir)}}
				} else {
					b.filled(dir)
				}
				b.calls()
				raw, err := b.packer("build", "-color=false", b.template(f.basic(options), step))
				if err == nil {
					t.Error("the build succeeded")
				}
				if when == "from the start" {
					b.neverCalled("Create")
				}
				b.large(dir)
				b.as(before, flat(raw), err == nil, dir+`\S*: no space left on device`)
			})
		}
	})
}

// TestOwnDirectoriesAreFull has no room where a build makes files and directories of its
// own on the host: it does without them, or says where there is no room.
func TestOwnDirectoriesAreFull(t *testing.T) {
	const full = "no space left on device"
	both(t, func(t *testing.T, f flavor) {
		for _, test := range []struct {
			name, dir string
			middle    bool
			says      string
			// never is how no call may begin, if anything.
			never string
		}{
			{name: "reservations", dir: "lock", says: "cannot reserve device names: .*/lock: " + full, never: "Create"},
			{name: "temporary files", dir: "tmp", says: "/tmp\\S*: " + full, never: "Create"},
			{name: "temporary files, in the middle", dir: "tmp", middle: true, says: "/tmp\\S*: " + full},
			{name: "mount point", dir: "mounts", says: "cannot mount /dev/\\w+ on .*/mounts/of/root: mkdir .*/mounts/of: " + full, never: "CreateSnapshot"},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := newBox(t)
				before := b.inventory()
				dir := b.small(test.dir)
				step := shell("true")
				if test.middle {
					step = map[string]any{"type": "shell-local", "inline": []string{fill(dir)}}
				} else {
					b.filled(dir)
				}
				b.calls()
				template := b.template(f.basic(o{"mount_path": filepath.Join(b.dir, "mounts", "of", "root")}), step, shell("true"))
				raw, err := b.packer("build", "-color=false", template)
				b.neverCalled(test.never)
				b.large(dir)
				b.as(before, flat(raw), err == nil, test.says)
			})
		}
	})
}

// neverCalled fails the test if there was a call whose name begins so.
func (b *box) neverCalled(prefix string) {
	b.t.Helper()
	for _, c := range b.calls() {
		if prefix != "" && strings.HasPrefix(c.Action, prefix) {
			b.t.Errorf("%s was asked for", c.Action)
		}
	}
}

// TestMountPointIsReadOnly cannot make the directory to mount on.
func TestMountPointIsReadOnly(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		dir := b.small("mounts")
		b.must(unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		raw, err := b.packer("build", "-color=false", b.template(f.basic(o{"mount_path": filepath.Join(dir, "root")}), shell("true")))
		if err == nil {
			t.Error("the build succeeded")
		}
		b.large(dir)
		b.as(before, flat(raw), err == nil, "cannot mount /dev/\\w+ on "+dir+"/root: mkdir "+dir+"/root: read-only file system")
	})
}

// TestImageIsFull has no room in the image for what is to come into it.
func TestImageIsFull(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		big := filepath.Join(b.dir, "big")
		b.must(os.WriteFile(big, bytes.Repeat([]byte("full of bytes"), 20<<20), 0o600))
		for _, test := range []struct {
			name    string
			options map[string]any
			step    map[string]any
		}{
			{"by a command", nil, shell("dd if=/dev/zero of=/big bs=1M count=260")},
			{"by an upload", nil, map[string]any{"type": "file", "source": big, "destination": "/big"}},
			{"by copy_files", map[string]any{"copy_files": []string{big}}, shell("true")},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := *b
				b.t = t
				raw, err := b.packer("build", "-color=false", b.template(f.basic(test.options), test.step))
				b.as(before, flat(raw), err == nil, "(?i)no space left on device")
			})
		}
	})
}

// TestStoreIsFull has no room in the cloud for what is written to its disks: an image
// whose disk has lost writes is not made, whoever noticed.
func TestStoreIsFull(t *testing.T) {
	const dd = "dd if=/dev/zero of=/big bs=1M count="
	plain := map[string]any{"pre_mount_commands": []string{"tune2fs -O ^has_journal {{.Device}}1"}}
	both(t, func(t *testing.T, f flavor) {
		b := newNarrowBox(t, 64)
		b.env = append(b.env, "PACKER_CHROOT_PATIENCE="+patience.String())
		before := b.inventory()
		for _, test := range []struct {
			name    string
			options map[string]any
			steps   []string
			says    string
		}{
			{"nobody is told", nil, []string{dd + "90"}, "not everything could be written to /dev/.*input/output error"},
			{"nobody cares", plain, []string{dd + "90; sync -f /big || true", "true"}, "not everything could be written to /dev/.*(no space|input/output error)"},
			{"the file system ends", nil, []string{dd + "90; sync; true"}, "(?i)read-only file system|input/output error"},
			{"the snapshot has no room", nil, []string{dd + "36"}, `cannot create a snapshot of (volume )?vol-.*no space left on device`},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := *b
				b.t = t
				var steps []map[string]any
				for _, inline := range test.steps {
					step := shell(inline)
					step["start_retry_timeout"] = "1s" // Packer's own, of what cannot be written
					steps = append(steps, step)
				}
				options := f.basic(test.options)
				if f.name == "amazon-chroot" {
					options["max_retries"] = 1
				}
				raw, err := b.packer("build", "-color=false", b.template(options, steps...))
				if err == nil {
					t.Error("the build succeeded")
				}
				b.as(before, flat(raw), err == nil, test.says)
			})
		}
	})
}

// TestClocksJump moves the clock of the cloud's things, and the one by which it judges
// signatures, before a build and in the middle of one: a build that cannot go on says why,
// and leaves nothing that the command reap does not find.
func TestClocksJump(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		for _, jump := range []string{"advance=-10m", "advance=10m", "skew=20m", "skew=-20m"} {
			for _, when := range []string{"before", "in the middle of"} {
				t.Run(jump+" "+when+" the build", func(t *testing.T) {
					b := newBox(t)
					b.env = append(b.env, "PACKER_CHROOT_PATIENCE="+patience.String())
					before := b.inventory()
					step := shell("true")
					if when == "before" {
						b.control(http.MethodPost, "clock?"+jump, nil, nil)
					} else {
						move := fmt.Sprintf("curl -sf -X POST -H 'Authorization: Bearer %s' '%s/_loopcloud/clock?%s' >/dev/null", b.token(), b.endpoint, jump)
						step = map[string]any{"type": "shell-local", "inline": []string{move}}
					}
					raw, err := b.packer("build", "-color=false", b.template(f.basic(nil), step))
					b.control(http.MethodDelete, "clock", nil, nil)
					if err == nil == strings.HasPrefix(jump, "skew") && jump != "advance=-10m" {
						t.Errorf("packer ended with %v", err)
					}
					b.reapedAll(f)
					b.as(before, flat(raw), err == nil, "(?i)clock|gave up on|source image .*pending")
				})
			}
		}
	})
}
