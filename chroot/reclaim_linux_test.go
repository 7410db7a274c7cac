package chroot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// orphan is a root whose build is killed: what its journal says of it, and the
// client that the build had.
type orphan struct {
	chroot.RootRecord
	client *chroot.Client
	root   *chroot.Remote
	// top is the first directory that was made for it.
	top string
}

// orphaned mounts a root on a disk, with something mounted and somebody running in
// it, and kills its keeper if that is wanted.
func orphaned(t *testing.T, kill bool) orphan {
	t.Helper()
	c := launch(t, nil)
	top := filepath.Join(stage(t), "made")
	spec := chroot.MountSpec{Device: loop(t, disk(t, 16, "mkfs.ext4", "-q")), Type: "ext4", Path: filepath.Join(top, "for", "it")}
	record, err := c.Record(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	written, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	o := orphan{client: c, top: top}
	if err := json.Unmarshal(written, &o.RootRecord); err != nil {
		t.Fatal(err)
	}
	r, err := c.Mount(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	o.root = r
	furnish(t, spec.Path)
	if err := r.MountBelow(t.Context(), chroot.ExtraMount{Type: "tmpfs", Source: "tmpfs", Target: "/below"}); err != nil {
		t.Fatal(err)
	}
	sh(t, r, "(sleep 1000 >/dev/null 2>&1 & )")
	t.Cleanup(func() { // whatever the test has made of it
		for range mountsBelow(t, top) {
			_ = unix.Unmount(spec.Path, unix.MNT_DETACH)
		}
	})
	if kill {
		o.kill(t)
	}
	return o
}

// kill kills the keeper.
func (o orphan) kill(t *testing.T) {
	t.Helper()
	if err := unix.Kill(o.client.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// gone fails the test if anything of the root is left.
func (o orphan) gone(t *testing.T) {
	t.Helper()
	if left := mountsBelow(t, o.top); len(left) > 0 {
		t.Errorf("left mounted: %v", left)
	}
	if exists(o.top) {
		t.Errorf("%s is left", o.top)
	}
	if groups, _ := filepath.Glob(filepath.Join(o.Group, fmt.Sprintf("packer-chroot-%d-*", o.Keeper))); len(groups) > 0 {
		t.Errorf("left: %v", groups)
	}
	if fd, err := unix.Open(o.Device, unix.O_RDONLY|unix.O_EXCL, 0); err != nil {
		t.Errorf("the disk is in use: %v", err)
	} else {
		unix.Close(fd)
	}
}

// untouched fails the test if the root is not as it was.
func (o orphan) untouched(t *testing.T) {
	t.Helper()
	if n := len(mountsBelow(t, o.top)); n < 2 {
		t.Errorf("%d mounts are left", n)
	}
}

func TestReclaim(t *testing.T) {
	o := orphaned(t, true)
	heir := launch(t, nil)
	for range 2 { // nothing left to do is no error
		if err := heir.Reclaim(t.Context(), o.RootRecord); err != nil {
			t.Fatal(err)
		}
		o.gone(t)
	}
}

// TestReclaimFromAKeeperThatLeaves: it leaves by itself, and is waited for.
func TestReclaimFromAKeeperThatLeaves(t *testing.T) {
	o := orphaned(t, false)
	heir := launch(t, nil)
	closed := make(chan error, 1)
	go func() { closed <- o.client.Close() }()
	if err := heir.Reclaim(t.Context(), o.RootRecord); err != nil {
		t.Fatal(err)
	}
	o.gone(t)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestReclaimFromTheLiving: what has a keeper is that one's.
func TestReclaimFromTheLiving(t *testing.T) {
	o := orphaned(t, false)
	heir := launch(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := heir.Reclaim(ctx, o.RootRecord); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reclaimed: %v", err)
	}
	o.untouched(t)
	if err := o.client.Leave(t.Context(), o.Path); err != nil {
		t.Error(err)
	}
}

func TestReclaimLeavesOthersAlone(t *testing.T) {
	tests := []struct {
		name string
		// change makes something else of what is there, or of what is known.
		change func(t *testing.T, o *orphan)
		says   string
	}{
		{"the machine was booted since", func(_ *testing.T, o *orphan) { o.Boot = "another" }, ""},
		{"the volume is not there any more", func(_ *testing.T, o *orphan) { o.Device = "" }, ""},
		{"another device is mounted", func(_ *testing.T, o *orphan) { o.Number++ }, ""},
		{"another disk with its number is", func(t *testing.T, o *orphan) {
			if o.Count == "" {
				t.Skip("this kernel does not count disks: Linux 5.15 does")
			}
			o.Count = "0"
		}, ""},
		{"something is mounted over it", func(t *testing.T, o *orphan) {
			if err := unix.Mount("tmpfs", o.Path, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
		}, "something else is mounted over it"},
		{"it was no disk", func(_ *testing.T, o *orphan) { o.Number = 0 }, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := orphaned(t, true)
			heir := launch(t, nil)
			truth := o.RootRecord
			test.change(t, &o)
			switch err := heir.Reclaim(t.Context(), o.RootRecord); {
			case test.says == "" && err != nil:
				t.Error(err)
			case test.says != "":
				says(t, err, test.says, o.Path)
			}
			o.untouched(t)
			if test.says != "" {
				_ = unix.Unmount(o.Path, 0)
			}
			if err := heir.Reclaim(t.Context(), truth); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReclaimDirectories: after a boot they are all that is left.
func TestReclaimDirectories(t *testing.T) {
	o := orphaned(t, true)
	heir := launch(t, nil)
	if err := heir.Reclaim(t.Context(), o.RootRecord); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(o.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(o.top, "mine"), "a user's", 0o644)
	o.Boot = "before"
	if err := heir.Reclaim(t.Context(), o.RootRecord); err != nil {
		t.Fatal(err)
	}
	if exists(o.Path) || !exists(filepath.Join(o.top, "mine")) {
		t.Error("not only the empty directories are removed")
	}
}

// TestReclaimSomeDirectories: the keeper was killed while it made them, or removed them.
func TestReclaimSomeDirectories(t *testing.T) {
	heir := launch(t, nil)
	top := filepath.Join(testdir.New(t), "made")
	made := []string{top, filepath.Join(top, "for"), filepath.Join(top, "for", "it")}
	for n := range made {
		if err := os.MkdirAll(made[n], 0o755); err != nil {
			t.Fatal(err)
		}
		if err := heir.Reclaim(t.Context(), chroot.RootRecord{Path: made[2], Made: made, Boot: "before"}); err != nil {
			t.Error(err)
		}
		if exists(top) {
			t.Errorf("of %v, %s is left", made[:n+1], top)
		}
	}
}
