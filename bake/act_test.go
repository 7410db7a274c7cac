package bake

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// namedActs holds the names of acts in errors, before and after their calls are answered.
var namedActs = map[string]act{
	"volume of build b-1":                  volumeAct{Build: "b-1"},
	"volume vol-1":                         volumeAct{call: call{Answered: true, Begun: time.Unix(1, 0).UTC()}, Build: "b-1", Volume: "vol-1"},
	"reservation of a device name":         reservationAct{LockDir: "/run/lock/packer-chroot"},
	"reservation of /dev/sdf and /dev/sdg": reservationAct{call: call{Answered: true}, Reserved: []DeviceName{"/dev/sdf", "/dev/sdg"}, LockDir: "/run/lock"},
	"attachment of vol-1 to i-1":           attachmentAct{Volume: "vol-1", Host: "i-1", Device: "/dev/sdf"},
	"mount of /dev/xvdf1 on /mnt":          mountAct{mounting: mounting{Node: "/dev/xvdf1", Path: "/mnt", Root: &chroot.RootRecord{Path: "/mnt"}}},
	"snapshot of build b-1":                startedAct{Build: "b-1"},
	"snapshot snap-9":                      startedAct{Build: "b-1", Snapshot: "snap-9"},
	"disk lazydisk-b-1":                    diskAct{DiskRecord: DiskRecord{Name: "lazydisk-b-1", Server: 4711}},
	"mount of /dev/loop7p1 on /mnt":        directMountAct{mounting: mounting{Node: "/dev/loop7p1", Path: "/mnt", Root: &chroot.RootRecord{Path: "/mnt"}}, Disk: DiskRecord{Name: "lazydisk-b-1"}},
	"snapshot of vol-1":                    snapshotAct{Volume: "vol-1"},
	"snapshot snap-1":                      snapshotAct{Volume: "vol-1", Snapshot: "snap-1"},
	"image of snap-1":                      imageAct{Snapshot: "snap-1"},
	"image ami-1":                          imageAct{Snapshot: "snap-1", Image: "ami-1"},
	"copy of ami-1 in there":               copyAct{Region: "there", Source: "ami-1", Name: "golden"},
	"copy ami-2 in there":                  copyAct{call: call{Answered: true}, Region: "there", Source: "ami-1", Name: "golden", Image: "ami-2"},
	"copy ami-2 (snapshot snap-2 and snapshot snap-3) in there": copyAct{
		Region: "there", Source: "ami-1", Name: "golden", Image: "ami-2", Snapshots: []SnapshotID{"snap-2", "snap-3"},
	},
	"snapshot snap-3 of the copy ami-2 in there": furtherAct{Region: "there", Image: "ami-2", Snapshot: "snap-3"},
	"deregistration of image ami-0 in there": replacedAct{
		Region: "there", Image: "ami-0",
		Record: &Record{Image: "ami-0", Name: "golden", Snapshots: []SnapshotID{"snap-0"}, Data: []byte("as it was")},
	},
	"tag of the build on snap-1":                           buildTagAct{call: call{Answered: true}, Snapshot: "snap-1"},
	"snapshot snap-0 of the replaced image ami-0 in there": oldSnapshotAct{Region: "there", Image: "ami-0", Snapshot: "snap-0"},
}

// TestActNamesSurviveTheJournal checks the name of each act, and that it is the same when it is
// read from a journal.
func TestActNamesSurviveTheJournal(t *testing.T) {
	tested := map[string]bool{}
	for name, a := range namedActs {
		tested[a.kind()] = true
		if got := a.String(); got != name {
			t.Errorf("%+v is called %q, want %q", a, got, name)
		}
		written, err := json.Marshal(recorded{a})
		if err != nil {
			t.Fatal(err)
		}
		read, err := readAct("b-1", undo.Recorded{Act: written}, false)
		if err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if !reflect.DeepEqual(read.act, a) {
			t.Errorf("%s was read as %+v, want %+v", written, read.act, a)
		}
	}
	if got, want := slices.Sorted(maps.Keys(tested)), slices.Sorted(maps.Keys(kinds)); !slices.Equal(got, want) {
		t.Errorf("acts of the kinds %q are tested, want %q", got, want)
	}
}

// TestInvalidActsInJournal checks that an act that no build would have written is an error.
func TestInvalidActsInJournal(t *testing.T) {
	for text, reason := range map[string]string{
		`{"kind":"of the future"}`:                             "a of the future: this program does not know it",
		`{"kind":"volume","build":"b-1","colour":"blue"}`:      `unknown field "colour"`,
		`{"kind":"volume","build":"b-2"}`:                      "a volume: it does not say what it is of",
		`{"kind":"volume","build":"b-1","image":"ami-1"}`:      `unknown field "image"`,
		`{"kind":"replaced","image":"ami-0","region":"there"}`: "it does not say how the image was",
		`{"kind":"mount","node":"/dev/xvdf1"}`:                 "it does not say what it is of",
		`{"kind":"reservation","lock_dir":"locks"}`:            "is not the absolute path",
		`{"build":"b-1"}`:                                      "act 7 of the journal",
		`[]`:                                                   "act 7 of the journal",
	} {
		if _, err := readAct("b-1", undo.Recorded{Seq: 7, Act: []byte(text)}, false); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v, want %q", text, err, reason)
		}
	}
	u := &undoer{}
	if err := (replacedAct{Image: "ami-0"}).undo(t.Context(), u, nil); err == nil {
		t.Error("an image without a record was restored")
	}
}

// TestRemovalAdviceForAdditionalSnapshots checks that a snapshot that is deleted with the copy
// is named once.
func TestRemovalAdviceForAdditionalSnapshots(t *testing.T) {
	answered := call{Answered: true}
	further := furtherAct{call: answered, Region: "here", Image: "ami-2", Snapshot: "snap-3"}
	copied := copyAct{call: answered, Region: "here", Image: "ami-2", Snapshots: []SnapshotID{"snap-2", "snap-3"}}
	for want, acts := range map[string][]act{
		"deregister image ami-2 in here; delete snapshot snap-2 and snapshot snap-3 in here": {further, copied},
		"delete snapshot snap-3 in here": {further},
	} {
		if got := advice(acts); len(got) != 1 || got[0] != "To remove what is left, in this order: "+want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
