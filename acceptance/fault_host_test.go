package acceptance

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// limited mounts a file system of so many bytes on a directory, until it is taken away.
func limited(t testing.TB, dir string, bytes int) (away func()) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("limited", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// small limits a directory of the box: it is full, or has room for so many bytes. Taking it
// away fails the test if anything is left in it.
func (b *box) small(name string, bytes int) (away func()) {
	b.t.Helper()
	dir := filepath.Join(b.dir, name)
	unmount := limited(b.t, dir, max(bytes, 4096))
	filler := filepath.Join(dir, "filler")
	if bytes == 0 {
		b.must(os.WriteFile(filler, make([]byte, 4096), 0o600))
	}
	return func() {
		_ = os.Remove(filler)
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 && name != "tmp" {
			b.t.Errorf("left in %s: %v, %v", name, left, err)
		}
		unmount()
	}
}

// TestFullDisks has each disk that a build writes to be full, or become so: the build
// ends with an error that says so.
func TestFullDisks(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		counts := newCount("A disk is full: " + f.name)
		big := filepath.Join(t.TempDir(), "big")
		if err := os.WriteFile(big, bytes.Repeat([]byte("full of bytes"), 10<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			name    string
			setUp   func(b *box) (away func())
			options map[string]any
			step    map[string]any
			// says is what the error holds; if it is empty, the build succeeds.
			says string
		}{
			{name: "directory of the journals, from the start", setUp: func(b *box) func() { return b.small("state", 0) }, step: shell("true"), says: "no space left on device"},
			{name: "directory of the journals, in the middle", setUp: func(b *box) func() { return b.small("state", 4096) }, step: shell("true"), says: ""},
			{name: "TMPDIR", setUp: func(b *box) func() { return b.small("tmp", 0) }, step: shell("true"), says: "no space left on device"},
			{name: "the image, by a command", step: shell("dd if=/dev/zero of=/big bs=1M count=200"), says: "No space left on device"},
			{name: "the image, by an upload", step: file(big, "/big"), says: "no space left on device"},
			{name: "the image, by copy_files", options: map[string]any{"copy_files": []string{big}},
				step: shell("true"), says: "no space left on device"},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := newBox(t)
				before := b.inventory()
				away := func() {}
				if test.setUp != nil {
					away = test.setUp(b)
				}
				raw, err := b.packer("build", "-color=false", b.template(f.basic(test.options), test.step))
				away()
				counts.add(test.name, map[bool]int{true: succeeded, false: failedClearly}[err == nil])
				if (err == nil) != (test.says == "") {
					t.Errorf("packer ended with %v", err)
				}
				b.as(before, flat(raw), err == nil, test.says)
			})
		}
		counts.print(t)
	})
}

// TestFullCloud has the disk below the cloud's volumes full while the image is written
// to: what could not be written is no image.
func TestFullCloud(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		b.stop()
		home := b.cloud
		b.cloud = filepath.Join(b.dir, "small")
		away := limited(t, b.cloud, 48<<20)
		defer away()
		b.loopcloud("image", "import", "--dir", b.cloud, "--name", "busybox", "--id", sourceID, programs.root)
		b.serve()
		b.env = b.environment()
		before := b.inventory()
		raw, err := b.packer("build", "-color=false", b.template(f.basic(nil), shell("dd if=/dev/urandom of=/big bs=1M count=50; sync; true")))
		if err == nil {
			t.Error("the build succeeded")
		}
		b.reapedAll(f)
		b.as(before, flat(raw), err == nil, "(?i)input/output error|I/O error")
		b.stop()
		b.cloud = home
		b.serve()
	})
}

// TestClocksJump moves the clock of the cloud's things, and the one by which it judges
// signatures, before a build and in the middle of one.
func TestClocksJump(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		counts := newCount("A clock jumps: " + f.name)
		jumps := []string{"advance=10m", "skew=20m", "skew=-20m"}
		for _, jump := range jumps {
			for _, when := range []string{"before the build", "in the middle"} {
				t.Run(jump+" "+when, func(t *testing.T) {
					b := newBox(t)
					b.env = append(b.env, "PACKER_CHROOT_PATIENCE="+patience.String())
					before := b.inventory()
					move := fmt.Sprintf("curl -sf -X POST '%s/_loopcloud/clock?%s' >/dev/null", b.endpoint, jump)
					step := shell("true")
					if when == "in the middle" {
						step = map[string]any{"type": "shell-local", "inline": []string{move}}
					} else {
						b.control(http.MethodPost, "clock?"+jump, nil, nil)
					}
					raw, err := b.packer("build", "-color=false", b.template(f.basic(nil), step))
					b.control(http.MethodDelete, "clock", nil, nil)
					counts.add(strings.Split(jump, "=")[0]+", "+when, map[bool]int{true: succeeded, false: failedClearly}[err == nil])
					if err != nil && !strings.HasPrefix(jump, "skew") {
						t.Errorf("packer ended with %v", err)
					}
					if err != nil {
						b.reapedAll(f)
					}
					b.as(before, flat(raw), err == nil, "(?i)clock")
				})
			}
		}
		counts.print(t)
	})
}
