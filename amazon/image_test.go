package amazon

import (
	"context"
	"net/http"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

func TestImageStates(t *testing.T) {
	tests := []struct {
		xml    string
		state  bake.ImageState
		reason string
	}{
		{"<imageState>available</imageState>", bake.ImageAvailable, ""},
		{"<imageState>pending</imageState>", bake.ImagePending, ""},
		{"<imageState>transient</imageState>", bake.ImagePending, ""},
		{"", bake.ImagePending, ""},
		{"<imageState>failed</imageState><stateReason><message>no space</message></stateReason>", bake.ImageFailed, "no space"},
		{"<imageState>error</imageState><stateReason/>", bake.ImageFailed, "error"},
		{"<imageState>disabled</imageState>", bake.ImageFailed, "disabled"},
	}
	for _, tt := range tests {
		t.Run(tt.xml, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeImages": images(tt.xml)}}
			got, err := faked(t, s, Options{}).Image(context.Background(), "ami-1")
			if err != nil || got.State != tt.state || got.Reason != tt.reason {
				t.Errorf("image %+v, %v; want state %s for %q", got, err, tt.state, tt.reason)
			}
		})
	}
}

func TestFindImages(t *testing.T) {
	s := &fake{actions: map[string]action{"DescribeImages": images(
		"<imageId>ami-1</imageId><imageState>available</imageState>", "<imageId>ami-2</imageId><imageState>deregistered</imageState>")}}
	got, err := faked(t, s, Options{}).FindImages(context.Background(), "snap-1")
	if err != nil || len(got) != 1 || got[0] != "ami-1" {
		t.Errorf("images %v, %v", got, err)
	}
	check(t, s.made("DescribeImages")[0], map[string]string{
		"Filter.1.Name": "block-device-mapping.snapshot-id", "Filter.1.Value.1": "snap-1", "Owner.1": "self", "IncludeDeprecated": "true",
	})
}

func TestDeregister(t *testing.T) {
	for code, want := range map[string]error{
		"InvalidAMIID.NotFound": nil, "InvalidAMIID.Unavailable": nil, "OperationNotPermitted": errAny,
	} {
		s := &fake{actions: map[string]action{"DeregisterImage": refuse(code)}}
		checkError(t, faked(t, s, Options{}).Deregister(context.Background(), "ami-1"), want)
	}
}

const twoDisks = `<blockDeviceMapping>
	<item><deviceName>/dev/sda1</deviceName><ebs><snapshotId>snap-root</snapshotId></ebs></item>
	<item><deviceName>/dev/sdb</deviceName><virtualName>ephemeral0</virtualName></item>
	<item><deviceName>/dev/sdf</deviceName><ebs><snapshotId>snap-data</snapshotId></ebs></item>
	<item><deviceName>/dev/sdg</deviceName><ebs/></item></blockDeviceMapping><rootDeviceName>/dev/sda1</rootDeviceName>`

func TestDestroy(t *testing.T) {
	gone := answer("DeregisterImage", "<return>true</return>")
	deleted := answer("DeleteSnapshot", "<return>true</return>")
	tests := []struct {
		name               string
		image              action
		deregister, delete action
		want               []string // the snapshots asked to be deleted
		words              string   // of the error
	}{
		{"a registered image has its root's snapshot", images(twoDisks), gone, deleted, []string{"snap-root"}, ""},
		{"a copy has them all", images("<sourceImageId>ami-0</sourceImageId>" + twoDisks), gone, deleted, []string{"snap-root", "snap-data"}, ""},
		{"an image without fields has none", images(""), gone, deleted, nil, ""},
		{"gone", images(), nil, nil, nil, ""},
		{"gone while looking", images(twoDisks), refuse("InvalidAMIID.Unavailable"), deleted, []string{"snap-root"}, ""},
		{"snapshot gone", images(twoDisks), gone, refuse("InvalidSnapshot.NotFound"), []string{"snap-root"}, ""},
		{"snapshot still in use for a moment", images(twoDisks), gone, inTurn(refuse("InvalidSnapshot.InUse"), deleted),
			[]string{"snap-root", "snap-root"}, ""},
		{"snapshot not ours", images(twoDisks), gone, refuse("UnauthorizedOperation"), []string{"snap-root"},
			"image ami-1 is deregistered: cannot delete snapshot snap-root"},
		{"image not ours", images(twoDisks), refuse("AuthFailure"), nil, nil, "cannot deregister image ami-1"},
		{"unreadable", refuseWith(http.StatusForbidden, "UnauthorizedOperation"), nil, nil, nil, "cannot read image ami-1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeImages": tt.image, "DeregisterImage": tt.deregister, "DeleteSnapshot": tt.delete}}
			cloud := faked(t, s, Options{})
			err := cloud.client.Destroy(context.Background(), "eu-west-1", "ami-1")
			if tt.words != "" {
				says(t, err, tt.words)
			} else if err != nil {
				t.Error(err)
			}
			var got []string
			for _, call := range s.made("DeleteSnapshot") {
				got = append(got, call.Get("SnapshotId"))
			}
			if len(got) != len(tt.want) {
				t.Fatalf("deleted %v, want %v", got, tt.want)
			}
			for i := range got {
				if got[i] != tt.want[i] {
					t.Errorf("deleted %v, want %v", got, tt.want)
				}
			}
		})
	}
}
