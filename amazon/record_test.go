package amazon

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

const recorded = richImage + `<description>old</description><deprecationTime>2027-01-02T03:04:00.000Z</deprecationTime>
	<deregistrationProtection>disabled</deregistrationProtection>
	<tagSet><item><key>os</key><value>debian</value></item><item><key>aws:x</key><value>y</value></item></tagSet>`

// restored registers an image again from its record, with its permissions and tags.
func restored(ctx context.Context, c *Cloud, record bake.Record) (bake.ImageID, error) {
	id, err := c.Restore(ctx, record)
	if err != nil {
		return id, err
	}
	return id, c.Regain(ctx, record, id)
}

func TestRecordAndRestore(t *testing.T) {
	ctx := context.Background()
	s := publisher()
	s.actions["DescribeImages"] = images(recorded)
	s.actions["DescribeImageAttribute"] = inTurn(
		answer("DescribeImageAttribute", `<launchPermission><item><userId>111111111111</userId></item><item><group>all</group></item></launchPermission>`),
		answer("DescribeImageAttribute", `<uefiData><value>QQ==</value></uefiData>`))
	s.actions["RegisterImage"] = answer("RegisterImage", "<imageId>ami-again</imageId>")
	first := faked(t, s, Config{})
	record, err := first.Record(ctx, "ami-1")
	if err != nil {
		t.Fatal(err)
	}
	if record.Image != "ami-1" || record.Name != "base" || !slices.Equal(record.Snapshots, []bake.SnapshotID{"snap-old", "snap-data"}) {
		t.Errorf("record %+v", record)
	}
	for i, attribute := range []string{"launchPermission", "uefiData"} {
		check(t, s.made("DescribeImageAttribute")[i], map[string]string{"ImageId": "ami-1", "Attribute": attribute})
	}

	another := NewCloud(first.client, &Config{}, nil)
	another.now = func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }
	if id, err := restored(ctx, another, record); err != nil || id != "ami-again" {
		t.Fatalf("image %q, %v", id, err)
	}
	const dev = "BlockDeviceMapping."
	check(t, s.made("RegisterImage")[0], map[string]string{
		"Name": "base", "Description": "old", "Architecture": "arm64", "VirtualizationType": "hvm", "RootDeviceName": "/dev/sda1",
		"EnaSupport": "true", "SriovNetSupport": "simple", "BootMode": "uefi", "TpmSupport": "v2.0", "ImdsSupport": "v2.0",
		"KernelId": "aki-1", "RamdiskId": "ari-1", "UefiData": "QQ==",
		"TagSpecification.1.Tag.1.Key": "os", "TagSpecification.1.Tag.2.Key": "",
		dev + "1.VirtualName": "ephemeral0", dev + "2.Ebs.SnapshotId": "snap-old", dev + "2.Ebs.VolumeType": "gp3", dev + "2.Ebs.Iops": "4000",
		dev + "2.Ebs.Throughput": "250", dev + "2.Ebs.DeleteOnTermination": "true", dev + "2.Ebs.Encrypted": "",
		dev + "3.Ebs.SnapshotId": "snap-data", dev + "3.Ebs.Encrypted": "", dev + "3.Ebs.KmsKeyId": "", dev + "4.DeviceName": "/dev/sdg",
	})
	check(t, s.made("ModifyImageAttribute")[0], map[string]string{
		"ImageId": "ami-again", "LaunchPermission.Add.1.UserId": "111111111111", "LaunchPermission.Add.2.Group": "all",
	})
	check(t, s.made("EnableImageDeprecation")[0], map[string]string{"ImageId": "ami-again", "DeprecateAt": "2027-01-02T03:04:00Z"})
}

func TestRecordRefuses(t *testing.T) {
	change := func(was, is string) action { return images(strings.Replace(recorded, was, is, 1)) }
	tests := []struct {
		name      string
		images    action
		attribute action
		words     []string
	}{
		{"protected", change(">disabled<", ">enabled-with-cooldown<"), nil, []string{"ami-1 (base)", "deregistration protection", "enabled-with-cooldown"}},
		{"disabled", change("<imageState>available", "<imageState>disabled"), nil, []string{"ami-1 (base)", `"disabled"`}},
		{"not yet there", change("<imageState>available", "<imageState>pending"), nil, []string{"ami-1 (base)", `"pending"`}},
		{"without a snapshot", change("<snapshotId>snap-old</snapshotId>", ""), nil, []string{"ami-1 (base)", "no snapshot"}},
		{"without fields", images("<imageState>available</imageState>"), nil, []string{"ami-1", "no snapshot"}},
		{"gone", images(), nil, []string{"ami-1", "not found"}},
		{"going", images(recorded), refuse("InvalidAMIID.NotFound"), []string{"ami-1", "not found"}},
		{"not readable", images(recorded), refuse("UnauthorizedOperation"), []string{"who may launch image ami-1", "UnauthorizedOperation"}},
		{"UEFI data not readable", images(recorded), inTurn(answer("DescribeImageAttribute", ""), refuse("UnauthorizedOperation")),
			[]string{"UEFI data of image ami-1", "UnauthorizedOperation"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeImages": tt.images, "DescribeImageAttribute": tt.attribute}}
			_, err := faked(t, s, Config{}).Record(context.Background(), "ami-1")
			says(t, err, tt.words...)
		})
	}
}

func TestRestoreRefused(t *testing.T) {
	// Of richImage's devices one has the recorded snapshot at its root.
	again := strings.Replace(richImage, "<imageId>ami-1<", "<imageId>ami-again<", 1)
	good := answer("RegisterImage", "<imageId>ami-again</imageId>")
	tests := []struct {
		name   string
		change func(*fake)
		words  []string // none: the response is ami-again
		there  bool     // the response is still ami-again
	}{
		{"made by an earlier call", func(s *fake) {
			s.actions["RegisterImage"], s.actions["DescribeImages"] = refuse("InvalidAMIName.Duplicate"), images(again)
		}, nil, false},
		{"not known everywhere", func(s *fake) {
			s.actions["ModifyImageAttribute"] = inTurn(refuse("InvalidAMIID.NotFound"), refuse("InvalidAMIID.Unavailable"), done("ModifyImageAttribute"))
			s.actions["EnableImageDeprecation"] = inTurn(refuse("InvalidAMIID.Unavailable"), done("EnableImageDeprecation"))
		}, []string{"share image ami-again", "InvalidAMIID.NotFound"}, true},
		{"its name has another", func(s *fake) {
			s.actions["RegisterImage"] = refuse("InvalidAMIName.Duplicate")
			s.actions["DescribeImages"] = images(strings.Replace(again, "snap-old", "snap-new", 1))
		}, []string{`"base"`, "snap-old", "InvalidAMIName.Duplicate"}, false},
		{"its snapshot is gone", func(s *fake) { s.actions["RegisterImage"] = refuse("InvalidSnapshot.NotFound") },
			[]string{"register image ami-1 (base) again", "InvalidSnapshot.NotFound"}, false},
		{"it cannot be shared", func(s *fake) { s.actions["ModifyImageAttribute"] = refuse("UnauthorizedOperation") },
			[]string{"share image ami-again", "UnauthorizedOperation"}, true},
		{"its end cannot be set", func(s *fake) { s.actions["EnableImageDeprecation"] = refuse("UnauthorizedOperation") },
			[]string{"ami-again", "deprecated at 2027-01-02T03:04:00.000Z", "UnauthorizedOperation"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := context.Background()
			s := publisher()
			s.actions["DescribeImages"], s.actions["RegisterImage"] = images(recorded), good
			s.actions["DescribeImageAttribute"] = answer("DescribeImageAttribute", `<launchPermission><item><group>all</group></item></launchPermission>`)
			cloud := faked(t, s, Config{})
			cloud.now = func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }
			record, err := cloud.Record(ctx, "ami-1")
			if err != nil {
				t.Fatal(err)
			}
			tt.change(s)
			id, err := restored(ctx, cloud, record)
			if tt.words != nil {
				says(t, err, tt.words...)
			}
			if there := tt.words == nil || tt.there; (id == "ami-again") != there || (err == nil) != (tt.words == nil) {
				t.Errorf("image %q, %v", id, err)
			}
		})
	}
}

// EC2 takes no time that has passed.
func TestRestoreOfADeprecatedImage(t *testing.T) {
	ctx := context.Background()
	s := publisher()
	s.actions["DescribeImages"] = images(recorded)
	s.actions["DescribeImageAttribute"] = answer("DescribeImageAttribute", "")
	s.actions["RegisterImage"] = answer("RegisterImage", "<imageId>ami-again</imageId>")
	cloud := faked(t, s, Config{})
	cloud.now = func() time.Time { return time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC) }
	record, err := cloud.Record(ctx, "ami-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := restored(ctx, cloud, record); err != nil {
		t.Error(err)
	}
	if got := s.order(); slices.Contains(got, "EnableImageDeprecation") || slices.Contains(got, "ModifyImageAttribute") {
		t.Errorf("calls %v", got)
	}
}

// A journal may have been cut off.
func FuzzRestore(f *testing.F) {
	for _, data := range []string{``, `{}`, `null`, `{"registration":{"Name":"x","BlockDeviceMappings":[{"Ebs":null}]}}`, `{"deprecate_at":"2027"}`, `{"launchers":[{}]}`} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := publisher()
		s.actions["RegisterImage"] = refuse("InvalidParameterValue")
		_, err := faked(t, s, Config{}).Restore(context.Background(), bake.Record{Image: "ami-1", Name: "base", Data: data})
		says(t, err, "ami-1 (base) again")
	})
}
