package amazon

import (
	"context"
	"net/http"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

func snapshots(items ...string) action {
	return list("DescribeSnapshots", "snapshotSet", items)
}

const (
	mySnapshot = `<snapshotId>snap-1</snapshotId><volumeId>vol-1</volumeId><description>ours</description>
		<tagSet><item><key>a</key><value>b</value></item><item><key>of the account</key><value>c</value></item></tagSet>`
	otherDescription = `<snapshotId>snap-2</snapshotId><volumeId>vol-1</volumeId><description>a backup</description><tagSet><item><key>a</key><value>b</value></item></tagSet>`
	otherTags        = `<snapshotId>snap-3</snapshotId><volumeId>vol-1</volumeId><description>ours</description>`
)

func TestCreateSnapshotWhoseAnswerIsLost(t *testing.T) {
	created := answer("CreateSnapshot", "<snapshotId>snap-9</snapshotId>")
	serverFault := refuseWith(http.StatusInternalServerError, "InternalError")
	throttled := refuseWith(http.StatusServiceUnavailable, "RequestLimitExceeded")
	tests := []struct {
		name           string
		create, look   action
		want           bake.SnapshotID
		asked, looked  int
		wantErrorWords string
	}{
		{"at once", created, snapshots(), "snap-9", 1, 0, ""},
		{"throttled", inTurn(throttled, created), snapshots(), "snap-9", 2, 0, ""},
		{"lost, and made", breakOff, snapshots(otherDescription, otherTags, mySnapshot), "snap-1", 1, 1, ""},
		{"lost, and not made", inTurn(breakOff, created), snapshots(otherDescription, otherTags), "snap-9", 2, 1, ""},
		{"server fault, and made", serverFault, snapshots(mySnapshot), "snap-1", 1, 1, ""},
		{"lost, and cannot look", breakOff, refuse("UnauthorizedOperation"), "", 1, 1, "cannot tell whether"},
		{"half lost, and made", cutOff, snapshots(mySnapshot), "snap-1", 1, 1, ""},
		{"refused", refuse("SnapshotLimitExceeded"), snapshots(), "", 1, 0, "SnapshotLimitExceeded"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"CreateSnapshot": tt.create, "DescribeSnapshots": tt.look}}
			cloud := logged(faked(t, s, Config{}), t.Logf)
			got, err := cloud.CreateSnapshot(context.Background(),
				bake.SnapshotSpec{Volume: "vol-1", Description: "ours", Tags: map[string]string{"a": "b"}})
			if tt.wantErrorWords != "" {
				says(t, err, tt.wantErrorWords, "vol-1")
			} else if err != nil || got != tt.want {
				t.Errorf("snapshot %q, %v; want %q", got, err, tt.want)
			}
			if asked, looked := len(s.made("CreateSnapshot")), len(s.made("DescribeSnapshots")); asked != tt.asked || looked != tt.looked {
				t.Errorf("asked %d times and looked %d times, want %d and %d", asked, looked, tt.asked, tt.looked)
			}
		})
	}
}

// If no connection was made, nothing was created, and nothing is searched for.
func TestCreateSnapshotWithoutConnection(t *testing.T) {
	server := serve(t, &fake{})
	cloud := NewCloud(dial(t, access(server.URL)), &Config{}, nil)
	server.Close()
	_, err := cloud.CreateSnapshot(context.Background(), bake.SnapshotSpec{Volume: "vol-1"})
	says(t, err, "cannot create a snapshot of vol-1", "custom_endpoint_ec2", server.URL)
}

func TestCreateSnapshotAsks(t *testing.T) {
	s := &fake{actions: map[string]action{"CreateSnapshot": answer("CreateSnapshot", "<snapshotId>snap-1</snapshotId>")}}
	_, err := faked(t, s, Config{}).CreateSnapshot(context.Background(),
		bake.SnapshotSpec{Volume: "vol-1", Description: "ours", Tags: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	check(t, s.made("CreateSnapshot")[0], map[string]string{
		"VolumeId": "vol-1", "Description": "ours", "TagSpecification.1.ResourceType": "snapshot",
		"TagSpecification.1.Tag.1.Key": "a", "TagSpecification.1.Tag.1.Value": "b",
	})
}

func TestSnapshot(t *testing.T) {
	tests := []struct {
		name, xml string
		want      bake.Snapshot
	}{
		{"no fields", "", bake.Snapshot{ID: "snap-1", Percent: -1}},
		{"pending", "<snapshotId>snap-1</snapshotId><status>pending</status><progress>37%</progress>",
			bake.Snapshot{ID: "snap-1", State: bake.SnapshotPending, Percent: 37}},
		{"failed", "<status>error</status><statusMessage>no key</statusMessage>",
			bake.Snapshot{ID: "snap-1", State: bake.SnapshotError, Percent: -1, Reason: "no key"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeSnapshots": snapshots(tt.xml)}}
			if got, err := faked(t, s, Config{}).Snapshot(context.Background(), "snap-1"); err != nil || got != tt.want {
				t.Errorf("snapshot %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestPercent(t *testing.T) {
	for progress, want := range map[string]int{
		"37%": 37, "0%": 0, "100%": 100, "": -1, "%": -1, "37": -1, "101%": -1, "-1%": -1, "3.5%": -1, "37%%": -1,
	} {
		if got := percent(progress); got != want {
			t.Errorf("percent(%q) = %d, want %d", progress, got, want)
		}
	}
}

func FuzzPercent(f *testing.F) {
	f.Add("37%")
	f.Add("-0%")
	f.Add("99999999999999999999%")
	f.Fuzz(func(t *testing.T, progress string) {
		if got := percent(progress); got < -1 || got > 100 {
			t.Errorf("percent(%q) = %d", progress, got)
		}
	})
}

// TestDeleteSnapshot checks that a snapshot is deleted although it seems to be in use for a
// moment after its image was deregistered.
func TestDeleteSnapshot(t *testing.T) {
	deleted := answer("DeleteSnapshot", "<return>true</return>")
	used := `<imageId>ami-9</imageId><imageState>available</imageState>` + uses("snap-1")
	tests := []struct {
		name     string
		images   action
		delete   action
		snapshot action
		want     error
	}{
		{"deleted", nil, deleted, nil, nil},
		{"gone", nil, refuse("InvalidSnapshot.NotFound"), refuse("InvalidSnapshot.NotFound"), nil},
		{"not known yet", nil, refuse("InvalidSnapshot.NotFound"), snapshots("<snapshotId>snap-1</snapshotId>"), bake.ErrUnsettled},
		{"still in use for a moment", images(), refuse("InvalidSnapshot.InUse"), nil, bake.ErrUnsettled},
		{"in use", images(used), refuse("InvalidSnapshot.InUse"), nil, errAny},
		{"not ours", nil, refuse("UnauthorizedOperation"), nil, errAny},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeImages": tt.images, "DeleteSnapshot": tt.delete, "DescribeSnapshots": tt.snapshot}}
			err := faked(t, s, Config{}).DeleteSnapshot(context.Background(), "snap-1")
			checkError(t, err, tt.want)
			if err != nil {
				says(t, err, "cannot delete snapshot snap-1")
			}
		})
	}
}
