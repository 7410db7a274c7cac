package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func TestRestart(t *testing.T) {
	c := newTestCloud(t, seconds)
	c.clock.Pass(0)
	img := func() state.Image {
		v := c.volume()
		c.clock.Pass(seconds.VolumeCreate)
		s := must[state.Snapshot](t)(c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v.ID, Tags: map[string]string{"a": "b"}}))
		c.clock.Pass(seconds.Snapshot + 8*seconds.SnapshotPerGiB)
		c.attach(v.ID, "/dev/sdf")
		return must[state.Image](t)(c.CreateImage(mine, imageOf("kept", s.ID)))
	}()
	images, snapshots, vms := c.Images(mine), c.Snapshots(mine), c.VMs(mine)
	c.restart()
	if got := c.Images(mine); !reflect.DeepEqual(got, images) {
		t.Errorf("the images are %+v, not %+v", got, images)
	}
	if got := c.Snapshots(mine); !reflect.DeepEqual(got, snapshots) {
		t.Errorf("the snapshots are %+v, not %+v", got, snapshots)
	}
	if got := c.VMs(mine); !reflect.DeepEqual(got, vms) {
		t.Errorf("the VMs are %+v, not %+v", got, vms)
	}
	for _, v := range c.Volumes(mine) {
		if v.Attachment != nil && v.Attachment.Device != "/dev/sda1" {
			t.Errorf("%s is still %s", v.ID, v.State)
		}
	}
	if c.readImage(img.ID).State != state.ImagePending {
		t.Error("the image became available by the restart")
	}
	if c.disks.Released() != 3 { // at each start and once at the end
		t.Errorf("devices were released %d times", c.disks.Released())
	}
}

// TestReopenAfterKill opens the state file as it is in the middle of each kind of work.
func TestReopenAfterKill(t *testing.T) {
	tc := newTestCloud(t, state.Instant())
	v, img := tc.volume(), tc.image("source")
	gone := tc.volume()
	works := map[string]func(){
		"create volume":   func() { _, _ = tc.CreateVolume(mine, state.VolumeRequest{Zone: zone, SizeGiB: 1, Token: "t"}) },
		"create snapshot": func() { _, _ = tc.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v.ID}) },
		"copy image":      func() { _, _ = tc.CopyImage(mine, state.ImageCopyRequest{SourceID: img.ID, Name: "copy"}) },
		"delete volume":   func() { _ = tc.DeleteVolume(mine, gone.ID, false) },
	}
	slow := make(chan struct{})
	tc.disks.Hold(slow)
	var under sync.WaitGroup
	for _, work := range works {
		under.Go(work)
	}
	tc.waitWorking(len(works))
	for what, n := range map[string]int{
		"volumes": len(tc.Volumes(mine)) - 5, "snapshots": len(tc.Snapshots(mine)) - 3, "images": len(tc.Images(mine)) - 2,
	} {
		if n != 0 {
			t.Errorf("%+d %s are listed meanwhile", n, what)
		}
	}
	killed := tc.afterKill()
	close(slow)
	under.Wait()

	c, err := state.Open(killed)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n := len(c.Images(mine)); n != 1 {
		t.Errorf("%d images are there after the kill", n)
	}
	if n := len(c.Snapshots(mine)); n != 1 {
		t.Errorf("%d snapshots are there after the kill", n)
	}
	for _, left := range c.Volumes(mine) {
		if left.ID == gone.ID || left.State == state.VolumeCreating {
			t.Errorf("%s is there after the kill, %s", left.ID, left.State)
		}
	}
}

// waitWorking returns when this many calls wait in Disks.
func (c *testCloud) waitWorking(n int) {
	for c.disks.Working() != n {
		runtime.Gosched()
	}
}

// afterKill returns a configuration whose directory has a copy of the current file.
func (c *testCloud) afterKill() state.Config {
	c.t.Helper()
	text := must[[]byte](c.t)(os.ReadFile(filepath.Join(c.dir, "state.json")))
	cfg := c.cfg
	cfg.Dir, cfg.Disks = testdir.New(c.t), statetest.NewDisks()
	if err := os.WriteFile(filepath.Join(cfg.Dir, "state.json"), text, 0o644); err != nil {
		c.t.Fatal(err)
	}
	return cfg
}

func TestCallsAfterClose(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateVolume(mine, state.VolumeRequest{Zone: zone, SizeGiB: 1}); err == nil || len(c.disks.Volumes()) != 0 {
		t.Errorf("closed, it made a volume (%v)", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("closing it again: %v", err)
	}
}

func TestDirectoryIsLocked(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	_, err := state.Open(c.cfg)
	if err == nil {
		t.Fatal("two have the directory open")
	}
	for _, part := range []string{c.dir, strconv.Itoa(os.Getpid())} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
}

func TestOpenRefusesInvalidStateFile(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	c.volume()
	good := bytes.TrimSpace(must[[]byte](t)(os.ReadFile(filepath.Join(c.dir, "state.json"))))
	for name, text := range map[string][]byte{
		"torn":          good[:len(good)-10],
		"empty":         nil,
		"other version": bytes.Replace(good, []byte(`"Version":1`), []byte(`"Version":2`), 1),
		"no version":    []byte(`{}`),
		"null entry":    []byte(`{"Version":1,"Volumes":{"vol-1":null}}`),
		"wrong entry":   []byte(`{"Version":1,"Images":{"ami-1":{"ID":"ami-2"}}}`),
		"null table":    []byte(`{"Version":1,"Images":null}`),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := c.cfg
			cfg.Dir = testdir.New(t)
			file := filepath.Join(cfg.Dir, "state.json")
			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := state.Open(cfg)
			if err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("the error is %v", err)
			}
			if kept, _ := os.ReadFile(file); !bytes.Equal(kept, text) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestRemovedRegionsAndAccountsStay(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	img := c.image("of mine")
	c.cfg.Accounts = []state.Account{{ID: other}}
	c.cfg.Regions = []state.Region{state.NewRegion(away)}
	c.restart()
	if got := c.Accounts(); len(got) != 2 || got[0].ID != other || got[1].ID != me {
		t.Errorf("the accounts are %v", got)
	}
	if c.DefaultRegion() != away || len(c.Regions()) != 7 {
		t.Errorf("the regions are %v, by default %s", c.Regions(), c.DefaultRegion())
	}
	c.readImage(img.ID)
}

func TestOpenRefusesInvalidConfig(t *testing.T) {
	failing := statetest.NewDisks()
	failing.Fail("ReleaseAll", errors.New("a device is mounted"))
	for name, cfg := range map[string]state.Config{
		"no directory":   {Disks: statetest.NewDisks()},
		"no disks":       {Dir: testdir.New(t)},
		"region unknown": {Dir: testdir.New(t), Disks: statetest.NewDisks(), DefaultRegion: "mars-1"},
		"devices stay":   {Dir: testdir.New(t), Disks: failing},
	} {
		if _, err := state.Open(cfg); err == nil {
			t.Errorf("%s: it was opened", name)
		}
	}
}

func TestDefaults(t *testing.T) {
	c, err := state.Open(state.Config{
		Dir: testdir.New(t), Disks: statetest.NewDisks(),
		Keys: []state.Key{{ID: "a", Secret: "s"}, {ID: "b", Secret: "s", Account: "210987654321"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.DefaultRegion() != "eu-west-2" || len(c.Regions()) != 7 {
		t.Errorf("the regions are %v by default %s", c.Regions(), c.DefaultRegion())
	}
	if got := fmt.Sprint(c.Accounts()); got != "[{123456789012 } {210987654321 }]" {
		t.Errorf("the accounts are %s", got)
	}
	if k, ok := c.Key("a"); !ok || k.Account != state.DefaultAccount {
		t.Errorf("the key is %+v", k)
	}
	if _, ok := c.Key("c"); ok {
		t.Error("there is a key that nobody configured")
	}
	caller := state.Caller{Account: state.DefaultAccount, Region: "eu-west-2"}
	v, err := c.CreateVolume(caller, state.VolumeRequest{Zone: "eu-west-2a", SizeGiB: 1, IDDigits: 8})
	if err != nil || len(v.ID) != len("vol-01234567") {
		t.Errorf("a volume is %+v (%v)", v, err)
	}
}

func TestImportAndExport(t *testing.T) {
	c := newTestCloud(t, state.AWS(1))
	file := filepath.Join(testdir.New(t), "disk")
	if err := os.WriteFile(file, []byte("a disk"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := must[state.Snapshot](t)(c.ImportSnapshot(mine, state.SnapshotImport{File: file, SizeGiB: 3, IDDigits: 8}))
	if s.State != state.SnapshotCompleted || s.SizeGiB != 3 {
		t.Errorf("it is %+v", s)
	}
	out := file + ".out"
	if err := c.ExportSnapshot(mine, s.ID, out); err != nil {
		t.Fatal(err)
	}
	if text := must[[]byte](t)(os.ReadFile(out)); string(text) != "a disk, 3 GiB" {
		t.Errorf("exported was %q", text)
	}
	if one := must[state.Snapshot](t)(c.ImportSnapshot(mine, state.SnapshotImport{File: file})); one.SizeGiB != 1 {
		t.Errorf("six bytes have %d GiB", one.SizeGiB)
	}
	if _, err := c.ImportSnapshot(mine, state.SnapshotImport{File: file + ".none"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	wantRefusal(t, c.ExportSnapshot(theirs, s.ID, out), state.NotFound, "snapshot")
}

func TestManyAtOnce(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	s := c.snapshot().ID
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { oneBuild(t, c, s, i) })
	}
	all.Go(func() {
		for range 50 {
			c.Volumes(mine)
			c.Tags(mine)
		}
	})
	all.Wait()
	if n := len(c.Images(mine)); n != 8 {
		t.Errorf("%d images were made", n)
	}
	if err := c.DeleteSnapshot(mine, s, false); err != nil {
		t.Error(err)
	}
}

// oneBuild makes the calls of a build, each twice with the same token.
func oneBuild(t *testing.T, c *testCloud, source string, i int) {
	fail := func(err error) bool {
		if err != nil {
			t.Error(err)
		}
		return err != nil
	}
	token := fmt.Sprint("build ", i)
	req := state.VolumeRequest{Zone: zone, SnapshotID: source, Token: token}
	var twice sync.WaitGroup
	ids := make([]string, 2)
	for k := range ids {
		twice.Go(func() {
			v, err := c.CreateVolume(mine, req)
			fail(err)
			ids[k] = v.ID
		})
	}
	twice.Wait()
	if ids[0] != ids[1] {
		t.Errorf("one token made %v", ids)
		return
	}
	device := fmt.Sprintf("/dev/sd%c", 'f'+i)
	if _, err := c.AttachVolume(mine, state.AttachRequest{VolumeID: ids[0], VMID: c.host(), Device: device}); fail(err) {
		return
	}
	var end sync.WaitGroup // the snapshot during the detaching
	end.Go(func() {
		_, err := c.DetachVolume(mine, state.DetachRequest{VolumeID: ids[0]})
		fail(err)
	})
	s, err := c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: ids[0], Token: token})
	end.Wait()
	if fail(err) || fail(c.DeleteVolume(mine, ids[0], false)) {
		return
	}
	_, err = c.CreateImage(mine, imageOf(token, s.ID))
	fail(err)
}

func TestTimings(t *testing.T) {
	if state.AWS(0) != state.Instant() || state.Outscale(0) != state.Instant() {
		t.Error("scaled to nothing they are not instant")
	}
	if state.AWS(0.5).Attach*2 != state.AWS(1).Attach {
		t.Error("half of it is not half")
	}
}
