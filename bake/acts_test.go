package bake

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestActsAreWrittenDown holds acts to what they are called in errors, before and
// after their calls are answered, and to be the same when they are read again.
func TestActsAreWrittenDown(t *testing.T) {
	tests := map[string]act{
		"volume of build b-1":                  {Kind: actVolume, Build: "b-1"},
		"volume vol-1":                         {Kind: actVolume, Answered: true, Build: "b-1", Volume: "vol-1"},
		"reservation of a device name":         {Kind: actReservation},
		"reservation of /dev/sdf and /dev/sdg": {Kind: actReservation, Answered: true, Reserved: []DeviceName{"/dev/sdf", "/dev/sdg"}},
		"attachment of vol-1 to i-1":           {Kind: actAttachment, Volume: "vol-1", Host: "i-1", Device: "/dev/sdf"},
		"mount of /dev/xvdf1 on /mnt":          {Kind: actMount, Node: "/dev/xvdf1", Path: "/mnt"},
		"snapshot of vol-1":                    {Kind: actSnapshot, Volume: "vol-1"},
		"snapshot snap-1":                      {Kind: actSnapshot, Volume: "vol-1", Snapshot: "snap-1"},
		"image of snap-1":                      {Kind: actImage, Snapshot: "snap-1"},
		"image ami-1":                          {Kind: actImage, Snapshot: "snap-1", Image: "ami-1"},
		"copy of ami-1 in there":               {Kind: actCopy, Region: "there", Source: "ami-1", Name: "golden"},
		"copy ami-2 in there":                  {Kind: actCopy, Answered: true, Region: "there", Source: "ami-1", Name: "golden", Image: "ami-2"},
		"copy ami-2 (snapshot snap-2 and snapshot snap-3) in there": {Kind: actCopy, Region: "there", Image: "ami-2", Snapshots: []SnapshotID{"snap-2", "snap-3"}},
		"snapshot snap-3 of the copy ami-2 in there":                {Kind: actFurther, Region: "there", Image: "ami-2", Snapshot: "snap-3"},
		"deregistration of image ami-0 in there": {
			Kind: actReplaced, Region: "there", Image: "ami-0",
			Record: &Record{Image: "ami-0", Name: "golden", Snapshots: []SnapshotID{"snap-0"}, Data: []byte("as it was")},
		},
		"snapshot snap-0 of the replaced image ami-0 in there": {Kind: actOldSnapshot, Region: "there", Image: "ami-0", Snapshot: "snap-0"},
		`act of the unknown kind "of the future"`:              {Kind: "of the future"},
	}
	for name, a := range tests {
		if got := a.String(); got != name {
			t.Errorf("%+v is called %q, want %q", a, got, name)
		}
		written, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var read act
		if err := json.Unmarshal(written, &read); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, read); diff != "" {
			t.Errorf("%s was read as something else (-written +read):\n%s", written, diff)
		}
	}
}

// TestUnknownActIsNotUndone: nothing is guessed at.
func TestUnknownActIsNotUndone(t *testing.T) {
	b := newBuild(nil, nil, Plan{}, nil)
	for _, a := range []act{{Kind: "of the future"}, {Kind: actReplaced, Image: "ami-0"}} {
		if err := b.undo(t.Context(), a, nil); err == nil {
			t.Errorf("%+v was undone", a)
		}
	}
}

// TestAdviceOnFurtherDevices: a snapshot that goes with the copy is named once.
func TestAdviceOnFurtherDevices(t *testing.T) {
	further := act{Kind: actFurther, Answered: true, Region: "here", Image: "ami-2", Snapshot: "snap-3"}
	copied := act{Kind: actCopy, Answered: true, Region: "here", Image: "ami-2", Snapshots: []SnapshotID{"snap-2", "snap-3"}}
	for want, acts := range map[string][]act{
		"deregister image ami-2 in here; delete snapshot snap-2 and snapshot snap-3 in here": {further, copied},
		"delete snapshot snap-3 in here": {further},
	} {
		if got := advice(acts); len(got) != 1 || got[0] != "To remove what is left, in this order: "+want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
