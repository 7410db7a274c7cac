package amazon

import (
	"context"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// TestAdditionalSnapshotsOfSharedSource checks that a snapshot that the account may not use is
// reported before anything is created.
func TestAdditionalSnapshotsOfSharedSource(t *testing.T) {
	const root = `<item><deviceName>xvda</deviceName><ebs><snapshotId>snap-root</snapshotId></ebs></item>`
	const data = `<item><deviceName>/dev/sdf</deviceName><ebs><snapshotId>snap-data</snapshotId></ebs></item>`
	source := func(owner, devices string) string {
		return `<imageId>ami-1</imageId><name>base</name><imageState>available</imageState><imageOwnerId>` + owner + `</imageOwnerId>
			<rootDeviceType>ebs</rootDeviceType><rootDeviceName>xvda</rootDeviceName><blockDeviceMapping>` + devices + `</blockDeviceMapping>`
	}
	visible := snapshots(aSnapshot("snap-data", "completed", ""))
	for name, test := range map[string]struct {
		opts      Config
		image     string
		snapshots action
		asked     int
		words     string // of the error
	}{
		"shared":                   {Config{}, source("other", root+data), visible, 1, ""},
		"not shared":               {Config{}, source("other", root+data), snapshots(), 1, "ami-1 (base) of account other has the device /dev/sdf of snapshot snap-data"},
		"one of two is not shared": {Config{}, source("other", root+data+strings.NewReplacer("sdf", "sdg", "snap-data", "snap-more").Replace(data)), visible, 1, "the device /dev/sdg of snapshot snap-more"},
		"left out":                 {Config{VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "sdf", NoDevice: true}}}}}, source("other", root+data), nil, 0, ""},
		"the root only":            {Config{}, source("other", root), nil, 0, ""},
		"the account's own":        {Config{}, source("me", root+data), nil, 0, ""},
		"may not be asked":         {Config{}, source("other", root+data), refuse("UnauthorizedOperation"), 1, ""},
		"cannot be asked":          {Config{}, source("other", root+data), refuse("InvalidParameterValue"), 1, "may be used"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			s := &fake{actions: map[string]action{"DescribeImages": images(test.image), "DescribeSnapshots": test.snapshots}}
			test.opts.SourceAMI = "ami-1"
			cloud := faked(t, s, test.opts)
			found, err := cloud.Source(ctx)
			if err != nil {
				t.Fatal(err)
			}
			_, err = cloud.Publication(ctx, bake.Facts{Host: bake.Host{Account: "me"}, Source: &found})
			if test.words != "" {
				says(t, err, test.words)
			} else if err != nil {
				t.Error(err)
			}
			if n := len(s.made("DescribeSnapshots")); n != test.asked {
				t.Errorf("asked %d times for snapshots, want %d", n, test.asked)
			}
		})
	}
}
