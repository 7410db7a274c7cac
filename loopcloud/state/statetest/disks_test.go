package statetest_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func TestDisksImportAndExportText(t *testing.T) {
	dir, d := testdir.New(t), statetest.NewDisks()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, err := range []error{
		d.ImportSnapshot("snap-1", in), d.CopySnapshot("snap-2", "snap-1"), d.CreateVolume("vol-1", 1<<30, "snap-2"),
		d.ResizeVolume("vol-1", 2<<30), d.CreateSnapshot("snap-3", "vol-1"), d.ExportSnapshot("snap-3", out, 2<<30),
		d.DeleteSnapshot("snap-2"), d.DeleteVolume("vol-1"),
	} {
		if err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	text, err := os.ReadFile(out)
	if err != nil || string(text) != "text[2 GiB], 2 GiB" {
		t.Errorf("exported %q, %v", text, err)
	}
	if got, want := d.Snapshots(), map[string]string{"snap-1": "text", "snap-3": "text[2 GiB]"}; !maps.Equal(got, want) {
		t.Errorf("snapshots %v, want %v", got, want)
	}
	if got := d.Volumes(); len(got) != 0 {
		t.Errorf("volumes %v are left", got)
	}
}

func TestDisksRefuse(t *testing.T) {
	broken := errors.New("broken")
	d := statetest.NewDisks()
	if err := d.CreateVolume("vol-1", 1<<30, ""); err != nil {
		t.Fatal(err)
	}
	d.Take("/dev/sdf")
	d.Fail("CreateSnapshot", broken)
	_, taken := d.AttachVolume("vol-1", "/dev/sdf")
	_, attached := d.AttachVolume("vol-1", "/dev/sdg")
	d.SetBusy("vol-1", true)
	for what, c := range map[string]struct{ got, want error }{
		"a name that is taken":  {taken, state.ErrDeviceTaken},
		"a name that is free":   {attached, nil},
		"a device in use":       {d.DetachVolume("vol-1", false), state.ErrBusy},
		"a device in use, hard": {d.DetachVolume("vol-1", true), nil},
		"no snapshot":           {d.CreateVolume("vol-2", 1<<30, "snap-9"), fs.ErrNotExist},
		"no volume":             {d.DeleteVolume("vol-9"), fs.ErrNotExist},
		"made to fail":          {d.CreateSnapshot("snap-1", "vol-1"), broken},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", what, c.got, c.want)
		}
	}
}

func TestClashesAreNoted(t *testing.T) {
	d, gate := statetest.NewDisks(), make(chan struct{})
	d.Hold(gate)
	var under sync.WaitGroup
	under.Go(func() { _ = d.CreateVolume("vol-1", 1<<30, "") })
	for d.Working() == 0 {
		runtime.Gosched()
	}
	d.Hold(nil)
	_ = d.DeleteVolume("vol-1")
	close(gate)
	under.Wait()
	if got := d.Clashes(); len(got) != 1 || got[0] != "DeleteVolume vol-1" {
		t.Errorf("noted were %q", got)
	}
}

func TestClockAndIDs(t *testing.T) {
	start := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	clock, id := statetest.NewClock(start), statetest.CountingIDs()
	clock.Pass(time.Hour)
	if got := clock.Now().Sub(start); got != time.Hour {
		t.Errorf("%v have passed", got)
	}
	if a, b := id("vol", 8), id("snap", 17); a != "vol-00000001" || b != "snap-00000000000000002" {
		t.Errorf("the ids are %s and %s", a, b)
	}
}
