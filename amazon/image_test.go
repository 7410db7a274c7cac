package amazon

import (
	"context"
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
			got, err := faked(t, s, Config{}).Image(context.Background(), "ami-1")
			if err != nil || got.State != tt.state || got.Reason != tt.reason {
				t.Errorf("image %+v, %v; want state %s for %q", got, err, tt.state, tt.reason)
			}
		})
	}
}

// uses are the block devices of an image that has a snapshot.
func uses(snapshot string) string {
	return "<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><snapshotId>" + snapshot + "</snapshotId></ebs></item></blockDeviceMapping>"
}

func TestFindImages(t *testing.T) {
	s := &fake{actions: map[string]action{"DescribeImages": images(
		"<imageId>ami-1</imageId><imageState>available</imageState>"+uses("snap-1"), "<imageId>ami-2</imageId><imageState>deregistered</imageState>"+uses("snap-1"),
		"<imageId>ami-3</imageId><imageState>available</imageState>"+uses("snap-2"), "<imageId>ami-4</imageId><imageState>available</imageState>")}}
	got, err := faked(t, s, Config{}).FindImages(context.Background(), "snap-1")
	if err != nil || len(got) != 1 || got[0] != "ami-1" {
		t.Errorf("images %v, %v", got, err)
	}
	check(t, s.made("DescribeImages")[0], map[string]string{
		"Filter.1.Name": "block-device-mapping.snapshot-id", "Filter.1.Value.1": "snap-1", "Owner.1": "self", "IncludeDeprecated": "true",
	})
}

func TestDeregister(t *testing.T) {
	shown := images(`<imageId>ami-1</imageId><imageState>available</imageState>`)
	for _, tt := range []struct {
		code   string
		images action
		want   error
	}{
		{"InvalidAMIID.NotFound", images(), nil}, {"InvalidAMIID.Unavailable", refuse("InvalidAMIID.Unavailable"), nil},
		{"InvalidAMIID.NotFound", shown, bake.ErrUnsettled}, {"InvalidAMIID.Unavailable", shown, bake.ErrUnsettled},
		{"OperationNotPermitted", shown, errAny},
	} {
		s := &fake{actions: map[string]action{"DeregisterImage": refuse(tt.code), "DescribeImages": tt.images}}
		checkError(t, faked(t, s, Config{}).Deregister(context.Background(), "ami-1"), tt.want)
	}
}
