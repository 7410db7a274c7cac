package faults

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
	"github.com/packer-chroot/packer-plugin-chroot/polling"
)

// filler is the name of the file that fills a small file system.
const filler = "filler"

// small mounts a file system of 256 blocks of 1 KiB on a directory of the box. A file that has been written
// to can grow to the end of its block, and no further when the file system is full.
func small(b *harness.Box, name string) (dir string) {
	b.Helper()
	dir = filepath.Join(b.Dir, name)
	mountSmall(b.TB, dir, 256)
	return dir
}

// mountSmall mounts a file system of this size in KiB on a directory.
func mountSmall(t testing.TB, dir string, kib int) {
	t.Helper()
	file := dir + ".ext4"
	harness.Must(t, os.WriteFile(file, nil, 0o600))
	harness.Must(t, os.Truncate(file, int64(kib)<<10))
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

// newNarrowBox returns a box whose cloud is on a separate file system of this size in MiB.
func newNarrowBox(t testing.TB, mib int) *harness.Box {
	t.Helper()
	harness.NeedRoot(t)
	cloud := filepath.Join(harness.ShortDir(t), "cloud")
	mountSmall(t, cloud, mib<<10)
	t.Cleanup(func() { harness.Must(t, unix.Unmount(cloud, 0)) })
	return harness.NewOn(t, harness.ShortDir(t), cloud)
}

// large unmounts the small file system, which must be empty except for the filler and the durations of waits.
func large(b *harness.Box, dir string) {
	b.Helper()
	fillers, _ := filepath.Glob(filepath.Join(dir, filler+"*"))
	for _, path := range fillers {
		b.Must(os.Remove(path))
	}
	left, err := os.ReadDir(dir)
	left = slices.DeleteFunc(left, func(entry os.DirEntry) bool { return entry.Name() == polling.FileName })
	if err != nil || len(left) > 0 {
		b.Errorf("left in %s: %v, %v", dir, left, err)
	}
	b.Must(unix.Unmount(dir, unix.MNT_DETACH))
}

// fill returns a shell command that fills a small file system: no block is free, and no file can be
// created.
func fill(dir string) string {
	path := filepath.Join(dir, filler)
	return "dd if=/dev/zero of=" + path + " bs=1024 2>/dev/null || sync -f " + dir +
		"; i=0; while (: >" + path + ".$i) 2>/dev/null; do i=$((i+1)); done"
}

// filled fills a small file system now.
func filled(b *harness.Box, dir string) {
	b.Helper()
	if out, err := exec.Command("sh", "-c", fill(dir)).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
}

// TestJournalsDiskIsFull fills the disk of the journal. An act that cannot be recorded must not begin, and begun acts
// must be undone.
func TestJournalsDiskIsFull(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		for _, when := range []string{"from the start", "in the middle"} {
			t.Run(when, func(t *testing.T) {
				b := harness.New(t)
				// the record of a replaced image is longer than a block
				options := map[string]any{"force_deregister": true, "tags": map[string]string{"a": strings.Repeat("a", 250), "b": strings.Repeat("b", 250),
					"c": strings.Repeat("c", 250), "d": strings.Repeat("d", 250)}}
				b.Build(b.Template(f.Basic(options)))
				before := b.Inventory()
				dir := small(b, "state")
				step := harness.Shell("true")
				if when == "in the middle" {
					step = map[string]any{"type": "shell-local", "inline": []string{fill(dir)}}
				} else {
					filled(b, dir)
				}
				b.Calls()
				raw, err := b.Packer("build", "-color=false", b.Template(f.Basic(options), step))
				if err == nil {
					t.Error("the build succeeded")
				}
				if when == "from the start" {
					neverCalled(b, "Create")
				}
				large(b, dir)
				checkOutcome(b, before, harness.Flat(raw), err == nil, dir+`\S*: no space left on device`)
			})
		}
	})
}

// TestHostDirectoriesAreFull checks that if there is no space where a build creates files and directories on
// the host, it does without them, or names the full file system.
func TestHostDirectoriesAreFull(t *testing.T) {
	const full = "no space left on device"
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		for _, test := range []struct {
			name, dir string
			middle    bool
			says      string
			// never is the prefix of calls that must not be made.
			never string
		}{
			{name: "reservations", dir: "lock", says: "cannot reserve device names: .*/lock: " + full, never: "Create"},
			{name: "temporary files", dir: "tmp", says: "/tmp\\S*: " + full, never: "Create"},
			{name: "temporary files, in the middle", dir: "tmp", middle: true, says: "/tmp\\S*: " + full},
			{name: "mount point", dir: "mounts", says: "cannot mount /dev/\\w+ on .*/mounts/of/root: mkdir .*/mounts/of: " + full, never: "CreateSnapshot"},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := harness.New(t)
				before := b.Inventory()
				dir := small(b, test.dir)
				if test.dir == "lock" {
					b.Env = append(b.Env, "PACKER_CHROOT_LOCK_DIR="+dir)
				}
				step := harness.Shell("true")
				if test.middle {
					step = map[string]any{"type": "shell-local", "inline": []string{fill(dir)}}
				} else {
					filled(b, dir)
				}
				b.Calls()
				template := b.Template(f.Basic(harness.O{"mount_path": filepath.Join(b.Dir, "mounts", "of", "root")}), step, harness.Shell("true"))
				raw, err := b.Packer("build", "-color=false", template)
				neverCalled(b, test.never)
				large(b, dir)
				checkOutcome(b, before, harness.Flat(raw), err == nil, test.says)
			})
		}
	})
}

// neverCalled fails the test if there was a call with this prefix.
func neverCalled(b *harness.Box, prefix string) {
	b.Helper()
	for _, c := range b.Calls() {
		if prefix != "" && strings.HasPrefix(c.Action, prefix) {
			b.Errorf("%s was asked for", c.Action)
		}
	}
}

// TestMountPointIsReadOnly checks a build that cannot create the directory to mount on.
func TestMountPointIsReadOnly(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		dir := small(b, "mounts")
		b.Must(unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		raw, err := b.Packer("build", "-color=false", b.Template(f.Basic(harness.O{"mount_path": filepath.Join(dir, "root")}), harness.Shell("true")))
		if err == nil {
			t.Error("the build succeeded")
		}
		large(b, dir)
		checkOutcome(b, before, harness.Flat(raw), err == nil, "cannot mount /dev/\\w+ on "+dir+"/root: mkdir "+dir+"/root: read-only file system")
	})
}

// TestImageIsFull fills the file system of the image.
func TestImageIsFull(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		big := filepath.Join(b.Dir, "big")
		b.Must(os.WriteFile(big, bytes.Repeat([]byte("full of bytes"), 20<<20), 0o600))
		for _, test := range []struct {
			name    string
			options map[string]any
			step    map[string]any
		}{
			{"by a command", nil, harness.Shell("dd if=/dev/zero of=/big bs=1M count=260")},
			{"by an upload", nil, map[string]any{"type": "file", "source": big, "destination": "/big"}},
			{"by copy_files", map[string]any{"copy_files": []string{big}}, harness.Shell("true")},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := b.In(t)
				raw, err := b.Packer("build", "-color=false", b.Template(f.Basic(test.options), test.step))
				checkOutcome(b, before, harness.Flat(raw), err == nil, "(?i)no space left on device")
			})
		}
	})
}

// TestCloudDiskIsFull fills the disk of the cloud. A volume that has lost writes must not become an image, even if no
// provisioner noticed.
func TestCloudDiskIsFull(t *testing.T) {
	const dd = "dd if=/dev/zero of=/big bs=1M count="
	plain := map[string]any{"pre_mount_commands": []string{"tune2fs -O ^has_journal {{.Device}}1"}}
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := newNarrowBox(t, 64)
		b.Env = append(b.Env, "PACKER_CHROOT_PATIENCE="+waitLimit.String())
		before := b.Inventory()
		for _, test := range []struct {
			name    string
			options map[string]any
			steps   []string
			says    string
		}{
			{"nobody is told", nil, []string{dd + "90"}, "not everything could be written to /dev/.*(input/output error|read-only file system)"},
			{"nobody cares", plain, []string{dd + "90; sync -f /big || true", "true"}, "not everything could be written to /dev/.*(no space|input/output error)"},
			{"the file system ends", nil, []string{dd + "90; sync; true"}, "(?i)read-only file system|input/output error"},
			{"the snapshot has no room", nil, []string{dd + "36"}, `cannot create a snapshot of (volume )?vol-.*no space left on device`},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := b.In(t)
				var steps []map[string]any
				for _, inline := range test.steps {
					step := harness.Shell(inline)
					step["start_retry_timeout"] = "1s" // Packer's own, of what cannot be written
					steps = append(steps, step)
				}
				options := f.Basic(test.options)
				if f.Name == "amazon-chroot" {
					options["max_retries"] = 1
				}
				raw, err := b.Packer("build", "-color=false", b.Template(options, steps...))
				if err == nil {
					t.Error("the build succeeded")
				}
				checkOutcome(b, before, harness.Flat(raw), err == nil, test.says)
			})
		}
	})
}

// TestClocksJump changes the clock of the cloud's resources, and the clock for signatures, before and during a
// build. A build that fails names the reason, and reap removes everything that it leaves.
func TestClocksJump(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		for _, jump := range []string{"advance=-10m", "advance=10m", "skew=20m", "skew=-20m"} {
			for _, when := range []string{"before", "in the middle of"} {
				t.Run(jump+" "+when+" the build", func(t *testing.T) {
					b := harness.New(t)
					b.Env = append(b.Env, "PACKER_CHROOT_PATIENCE="+waitLimit.String())
					before := b.Inventory()
					step := harness.Shell("true")
					if when == "before" {
						b.Control(http.MethodPost, "clock?"+jump, nil, nil)
					} else {
						move := fmt.Sprintf("curl -sf -X POST -H 'Authorization: Bearer %s' '%s/_loopcloud/clock?%s' >/dev/null", b.Token(), b.Endpoint, jump)
						step = map[string]any{"type": "shell-local", "inline": []string{move}}
					}
					raw, err := b.Packer("build", "-color=false", b.Template(f.Basic(nil), step))
					b.Control(http.MethodDelete, "clock", nil, nil)
					if err == nil == strings.HasPrefix(jump, "skew") && jump != "advance=-10m" {
						t.Errorf("packer ended with %v", err)
					}
					reapedAll(b, f)
					checkOutcome(b, before, harness.Flat(raw), err == nil, "(?i)clock|gave up on|source image .*pending")
				})
			}
		}
	})
}
