package chroot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// orphan is a root of a killed build: the record in its journal, and its client.
type orphan struct {
	chroot.RootRecord
	client *chroot.Client
	root   *chroot.Remote
	// top is the first directory that was created for it.
	top string
}

// orphaned mounts a root on a disk, with another mount and a process in it, and kills its
// keeper if kill is set.
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
	if err := r.MountBelow(t.Context(), chroot.Submount{Type: "tmpfs", Source: "tmpfs", Target: "/below"}); err != nil {
		t.Fatal(err)
	}
	sh(t, r, "(sleep 1000 >/dev/null 2>&1 & )")
	t.Cleanup(func() { // whatever state the test has left
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

// reclaim has another keeper leave the root, which is mounted from the build's disk.
func (o orphan) reclaim(ctx context.Context, reclaimer *chroot.Client) error {
	_, err := reclaimer.Reclaim(ctx, o.RootRecord, chroot.Claim{Disk: o.Device})
	return err
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
	reclaimer := launch(t, nil)
	for range 2 { // a second call is not an error
		if err := o.reclaim(t.Context(), reclaimer); err != nil {
			t.Fatal(err)
		}
		o.gone(t)
	}
}

// TestReclaimFromAKeeperThatLeaves checks that Reclaim waits for a keeper that leaves by
// itself.
func TestReclaimFromAKeeperThatLeaves(t *testing.T) {
	o := orphaned(t, false)
	reclaimer := launch(t, nil)
	closed := make(chan error, 1)
	go func() { closed <- o.client.Close() }()
	if err := o.reclaim(t.Context(), reclaimer); err != nil {
		t.Fatal(err)
	}
	o.gone(t)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestReclaimFromRunningKeeper checks that a root is not taken over from a keeper that runs.
func TestReclaimFromRunningKeeper(t *testing.T) {
	o := orphaned(t, false)
	reclaimer := launch(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := o.reclaim(ctx, reclaimer); !errors.Is(err, context.DeadlineExceeded) {
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
		// change changes the present state, or the record.
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
			reclaimer := launch(t, nil)
			truth := o.RootRecord
			test.change(t, &o)
			switch err := o.reclaim(t.Context(), reclaimer); {
			case test.says == "" && err != nil:
				t.Error(err)
			case test.says != "":
				says(t, err, test.says, o.Path)
			}
			o.untouched(t)
			if test.says != "" {
				_ = unix.Unmount(o.Path, 0)
			}
			o.RootRecord = truth
			if err := o.reclaim(t.Context(), reclaimer); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReclaimOfAnotherDisk has a record name a mount of a disk that is not the claimed one.
func TestReclaimOfAnotherDisk(t *testing.T) {
	reclaimer := launch(t, nil)
	other := loop(t, disk(t, 16, "mkfs.ext4", "-q"))
	for _, claim := range []chroot.Claim{{}, {Disk: other}, {Disk: "/dev/null"}} {
		o := orphaned(t, true)
		inside := processes(t, o.Path)
		if _, err := reclaimer.Reclaim(t.Context(), o.RootRecord, claim); !errors.Is(err, chroot.ErrNotClaimed) {
			t.Errorf("claimed from %q: %v", claim.Disk, err)
		}
		o.untouched(t)
		if now := processes(t, o.Path); len(inside) == 0 || !slices.Equal(inside, now) {
			t.Errorf("processes %v were in it, and now %v are", inside, now)
		}
		if err := o.reclaim(t.Context(), reclaimer); err != nil {
			t.Error(err)
		}
		o.gone(t)
	}
}

// processes lists those that have a directory as their root.
func processes(t *testing.T, root string) (pids []string) {
	t.Helper()
	links, _ := filepath.Glob("/proc/[0-9]*/root")
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == root {
			pids = append(pids, filepath.Base(filepath.Dir(link)))
		}
	}
	return pids
}

// TestReclaimOfAPartition checks that the root on a partition is matched with the partition's
// disk, and not with the disk beside it.
func TestReclaimOfAPartition(t *testing.T) {
	whole := loop(t, disk(t, 32, "mkfs.ext4", "-q"))
	host(t, "addpart", whole, "1", "2048", "40960")
	t.Cleanup(func() { host(t, "delpart", whole, "1") })
	part := whole + "p1"
	host(t, "mkfs.ext4", "-q", part)
	c, reclaimer := launch(t, nil), launch(t, nil)
	spec := chroot.MountSpec{Device: part, Type: "ext4", Path: filepath.Join(stage(t), "root")}
	record, err := c.Record(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Mount(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(spec.Path, unix.MNT_DETACH) })
	if err := unix.Kill(c.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	beside := loop(t, disk(t, 16, "mkfs.ext4", "-q"))
	if _, err := reclaimer.Reclaim(t.Context(), record, chroot.Claim{Disk: beside}); !errors.Is(err, chroot.ErrNotClaimed) {
		t.Errorf("claimed from %s: %v", beside, err)
	}
	if _, err := reclaimer.Reclaim(t.Context(), record, chroot.Claim{Disk: whole}); err != nil {
		t.Error(err)
	}
	if left := mountsBelow(t, spec.Path); len(left) > 0 {
		t.Errorf("left mounted: %v", left)
	}
}

// TestReclaimDirectories checks that directories that the build created during this boot are
// removed if they are empty, and that others are left and reported.
func TestReclaimDirectories(t *testing.T) {
	reclaimer := launch(t, nil)
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	top := filepath.Join(testdir.New(t), "made")
	made := []string{top, filepath.Join(top, "for"), filepath.Join(top, "for", "it")}
	record := chroot.RootRecord{Path: made[2], Made: made, Device: "/dev/none", Boot: strings.TrimSpace(string(boot)), Keeper: 1 << 30}
	reclaim := func(since time.Time) (left []string) {
		t.Helper()
		left, err := reclaimer.Reclaim(t.Context(), record, chroot.Claim{Since: since})
		if err != nil {
			t.Error(err)
		}
		return left
	}
	for n := range made { // the keeper was killed while it created or removed them
		begun := time.Now()
		if err := os.MkdirAll(made[n], 0o755); err != nil {
			t.Fatal(err)
		}
		if left := reclaim(begun); len(left) > 0 || exists(top) {
			t.Errorf("of %v, %s is left: %v", made[:n+1], top, left)
		}
	}
	begun := time.Now()
	if err := os.MkdirAll(record.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	if left := reclaim(begun.Add(time.Hour)); len(left) != 3 || !exists(record.Path) {
		t.Errorf("directories that are older than the build: %v", left)
	}
	now := record.Boot
	record.Boot = "before"
	if left := reclaim(begun); len(left) != 3 || !exists(record.Path) {
		t.Errorf("directories of another boot: %v", left)
	}
	record.Boot = now
	write(t, filepath.Join(top, "mine"), "a user's", 0o644)
	if reclaim(begun); exists(record.Path) || !exists(filepath.Join(top, "mine")) {
		t.Error("not only the empty directories are removed")
	}
}
