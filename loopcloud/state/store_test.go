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
	w := newWorld(t, seconds)
	w.clock.Pass(0)
	img := func() state.Image {
		v := w.volume()
		w.clock.Pass(seconds.VolumeCreate)
		s := must[state.Snapshot](t)(w.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v.ID, Tags: map[string]string{"a": "b"}}))
		w.clock.Pass(seconds.Snapshot + 8*seconds.SnapshotPerGiB)
		w.attach(v.ID, "/dev/sdf")
		return must[state.Image](t)(w.CreateImage(mine, imageOf("kept", s.ID)))
	}()
	images, snapshots, vms := w.Images(mine), w.Snapshots(mine), w.VMs(mine)
	w.restart()
	if got := w.Images(mine); !reflect.DeepEqual(got, images) {
		t.Errorf("the images are %+v, not %+v", got, images)
	}
	if got := w.Snapshots(mine); !reflect.DeepEqual(got, snapshots) {
		t.Errorf("the snapshots are %+v, not %+v", got, snapshots)
	}
	if got := w.VMs(mine); !reflect.DeepEqual(got, vms) {
		t.Errorf("the VMs are %+v, not %+v", got, vms)
	}
	for _, v := range w.Volumes(mine) {
		if v.Attachment != nil && v.Attachment.Device != "/dev/sda1" {
			t.Errorf("%s is still %s", v.ID, v.State)
		}
	}
	if w.readImage(img.ID).State != state.ImagePending {
		t.Error("the image became available by the restart")
	}
	if w.disks.Released() != 3 { // at each start and once at the end
		t.Errorf("devices were released %d times", w.disks.Released())
	}
}

// TestReopenAfterKill opens the state file as it is in the middle of each kind of work.
func TestReopenAfterKill(t *testing.T) {
	w := newWorld(t, state.Instant())
	v, img := w.volume(), w.image("source")
	gone := w.volume()
	works := map[string]func(){
		"create volume":   func() { _, _ = w.CreateVolume(mine, state.VolumeRequest{Zone: zone, SizeGiB: 1, Token: "t"}) },
		"create snapshot": func() { _, _ = w.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v.ID}) },
		"copy image":      func() { _, _ = w.CopyImage(mine, state.ImageCopyRequest{SourceID: img.ID, Name: "copy"}) },
		"delete volume":   func() { _ = w.DeleteVolume(mine, gone.ID, false) },
	}
	slow := make(chan struct{})
	w.disks.Hold(slow)
	var under sync.WaitGroup
	for _, work := range works {
		under.Go(work)
	}
	w.waitWorking(len(works))
	for what, n := range map[string]int{
		"volumes": len(w.Volumes(mine)) - 5, "snapshots": len(w.Snapshots(mine)) - 3, "images": len(w.Images(mine)) - 2,
	} {
		if n != 0 {
			t.Errorf("%+d %s are listed meanwhile", n, what)
		}
	}
	killed := w.afterKill()
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
func (w *world) waitWorking(n int) {
	for w.disks.Working() != n {
		runtime.Gosched()
	}
}

// afterKill returns a configuration whose directory has a copy of the current file.
func (w *world) afterKill() state.Config {
	w.t.Helper()
	text := must[[]byte](w.t)(os.ReadFile(filepath.Join(w.dir, "state.json")))
	cfg := w.cfg
	cfg.Dir, cfg.Disks = testdir.New(w.t), statetest.NewDisks()
	if err := os.WriteFile(filepath.Join(cfg.Dir, "state.json"), text, 0o644); err != nil {
		w.t.Fatal(err)
	}
	return cfg
}

func TestCallsAfterClose(t *testing.T) {
	w := newWorld(t, state.Instant())
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateVolume(mine, state.VolumeRequest{Zone: zone, SizeGiB: 1}); err == nil || len(w.disks.Volumes()) != 0 {
		t.Errorf("closed, it made a volume (%v)", err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("closing it again: %v", err)
	}
}

func TestDirectoryIsLocked(t *testing.T) {
	w := newWorld(t, state.Instant())
	_, err := state.Open(w.cfg)
	if err == nil {
		t.Fatal("two have the directory open")
	}
	for _, part := range []string{w.dir, strconv.Itoa(os.Getpid())} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
}

func TestOpenRefusesInvalidStateFile(t *testing.T) {
	w := newWorld(t, state.Instant())
	w.volume()
	good := bytes.TrimSpace(must[[]byte](t)(os.ReadFile(filepath.Join(w.dir, "state.json"))))
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
			cfg := w.cfg
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
	w := newWorld(t, state.Instant())
	img := w.image("of mine")
	w.cfg.Accounts = []state.Account{{ID: other}}
	w.cfg.Regions = []state.Region{state.NewRegion(away)}
	w.restart()
	if got := w.Accounts(); len(got) != 2 || got[0].ID != other || got[1].ID != me {
		t.Errorf("the accounts are %v", got)
	}
	if w.DefaultRegion() != away || len(w.Regions()) != 7 {
		t.Errorf("the regions are %v, by default %s", w.Regions(), w.DefaultRegion())
	}
	w.readImage(img.ID)
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
	w := newWorld(t, state.AWS(1))
	file := filepath.Join(testdir.New(t), "disk")
	if err := os.WriteFile(file, []byte("a disk"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := must[state.Snapshot](t)(w.ImportSnapshot(mine, state.SnapshotImport{File: file, SizeGiB: 3, IDDigits: 8}))
	if s.State != state.SnapshotCompleted || s.SizeGiB != 3 {
		t.Errorf("it is %+v", s)
	}
	out := file + ".out"
	if err := w.ExportSnapshot(mine, s.ID, out); err != nil {
		t.Fatal(err)
	}
	if text := must[[]byte](t)(os.ReadFile(out)); string(text) != "a disk, 3 GiB" {
		t.Errorf("exported was %q", text)
	}
	if one := must[state.Snapshot](t)(w.ImportSnapshot(mine, state.SnapshotImport{File: file})); one.SizeGiB != 1 {
		t.Errorf("six bytes have %d GiB", one.SizeGiB)
	}
	if _, err := w.ImportSnapshot(mine, state.SnapshotImport{File: file + ".none"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	wantRefusal(t, w.ExportSnapshot(theirs, s.ID, out), state.NotFound, "snapshot")
}

func TestManyAtOnce(t *testing.T) {
	w := newWorld(t, state.Instant())
	s := w.snapshot().ID
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { oneBuild(t, w, s, i) })
	}
	all.Go(func() {
		for range 50 {
			w.Volumes(mine)
			w.Tags(mine)
		}
	})
	all.Wait()
	if n := len(w.Images(mine)); n != 8 {
		t.Errorf("%d images were made", n)
	}
	if err := w.DeleteSnapshot(mine, s, false); err != nil {
		t.Error(err)
	}
}

// oneBuild makes the calls of a build, each twice with the same token.
func oneBuild(t *testing.T, w *world, source string, i int) {
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
			v, err := w.CreateVolume(mine, req)
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
	if _, err := w.AttachVolume(mine, state.AttachRequest{VolumeID: ids[0], VMID: w.host(), Device: device}); fail(err) {
		return
	}
	var end sync.WaitGroup // the snapshot during the detaching
	end.Go(func() {
		_, err := w.DetachVolume(mine, state.DetachRequest{VolumeID: ids[0]})
		fail(err)
	})
	s, err := w.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: ids[0], Token: token})
	end.Wait()
	if fail(err) || fail(w.DeleteVolume(mine, ids[0], false)) {
		return
	}
	_, err = w.CreateImage(mine, imageOf(token, s.ID))
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
