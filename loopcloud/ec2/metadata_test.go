package ec2_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestModifyInstanceMetadataOptions(t *testing.T) {
	b := newBox(t)
	options := func() types.InstanceMetadataOptionsResponse {
		b.Helper()
		out := must(b.client.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{b.host()}}))(b)
		return *out.Reservations[0].Instances[0].MetadataOptions
	}
	if o := options(); o.HttpTokens != "optional" || o.HttpEndpoint != "enabled" || *o.HttpPutResponseHopLimit != 1 {
		t.Errorf("at first %+v", o)
	}
	modify := func(in sdk.ModifyInstanceMetadataOptionsInput) (*sdk.ModifyInstanceMetadataOptionsOutput, error) {
		in.InstanceId = aws.String(b.host())
		return b.client.ModifyInstanceMetadataOptions(ctx, &in)
	}
	out := must(modify(sdk.ModifyInstanceMetadataOptionsInput{HttpTokens: "required", HttpPutResponseHopLimit: aws.Int32(2)}))(b)
	if o := out.InstanceMetadataOptions; *out.InstanceId != b.host() || o.HttpTokens != "required" || *o.HttpPutResponseHopLimit != 2 {
		t.Errorf("modified %+v", o)
	}
	must(modify(sdk.ModifyInstanceMetadataOptionsInput{HttpEndpoint: "disabled"}))(b)
	if o := options(); o.HttpTokens != "required" || o.HttpEndpoint != "disabled" || *o.HttpPutResponseHopLimit != 2 {
		t.Errorf("in the end %+v", o)
	}
	for name, test := range map[string]struct {
		in   sdk.ModifyInstanceMetadataOptionsInput
		code string
	}{
		"nothing":  {sdk.ModifyInstanceMetadataOptionsInput{}, "MissingParameter"},
		"tokens":   {sdk.ModifyInstanceMetadataOptionsInput{HttpTokens: "never"}, "InvalidParameterValue"},
		"endpoint": {sdk.ModifyInstanceMetadataOptionsInput{HttpEndpoint: "off"}, "InvalidParameterValue"},
		"no hops":  {sdk.ModifyInstanceMetadataOptionsInput{HttpPutResponseHopLimit: aws.Int32(0)}, "InvalidParameterValue"},
		"hops":     {sdk.ModifyInstanceMetadataOptionsInput{HttpPutResponseHopLimit: aws.Int32(65)}, "InvalidParameterValue"},
		"dry run":  {sdk.ModifyInstanceMetadataOptionsInput{HttpTokens: "optional", DryRun: aws.Bool(true)}, "DryRunOperation"},
	} {
		_, err := modify(test.in)
		b.refused(err, test.code, "")
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// outpost is the Outpost of the machine in TestOutpost.
const outpost = "arn:aws:outposts:eu-west-2:111111111111:outpost/op-0123456789abcdef0"

// TestOutpost checks that only volumes on the same Outpost can be attached to an instance, and
// their snapshots are in the Region.
func TestOutpost(t *testing.T) {
	b := newBoxOf(t, state.Config{Outpost: outpost})
	found := must(b.client.DescribeInstances(ctx, &sdk.DescribeInstancesInput{Filters: []types.Filter{filter("outpost-arn", outpost)}}))(b)
	if len(found.Reservations) != 1 || aws.ToString(found.Reservations[0].Instances[0].OutpostArn) != outpost {
		t.Fatalf("found %+v", found.Reservations)
	}
	create := func(change func(*sdk.CreateVolumeInput)) (*sdk.CreateVolumeOutput, error) {
		in := &sdk.CreateVolumeInput{AvailabilityZone: aws.String(zone), Size: aws.Int32(1), VolumeType: "gp2", OutpostArn: aws.String(outpost)}
		change(in)
		return b.client.CreateVolume(ctx, in)
	}
	attach := func(id *string, device string) error {
		_, err := b.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: id, InstanceId: aws.String(b.host()), Device: &device})
		return err
	}
	elsewhere := must(create(func(in *sdk.CreateVolumeInput) { in.OutpostArn = nil }))(b)
	b.refused(attach(elsewhere.VolumeId, "/dev/sdf"), "InvalidVolume.ZoneMismatch", "not on the same Outpost")
	here := must(create(func(*sdk.CreateVolumeInput) {}))(b)
	if aws.ToString(here.OutpostArn) != outpost {
		t.Errorf("the volume is on %q", aws.ToString(here.OutpostArn))
	}
	if err := attach(here.VolumeId, "/dev/sdf"); err != nil {
		t.Fatal(err)
	}
	snapshot := must(b.client.CreateSnapshot(ctx, &sdk.CreateSnapshotInput{VolumeId: here.VolumeId}))(b)
	must(create(func(in *sdk.CreateVolumeInput) { in.OutpostArn, in.SnapshotId = nil, snapshot.SnapshotId }))(b)
	for name, test := range map[string]struct {
		change func(*sdk.CreateVolumeInput)
		code   string
	}{
		"another": {func(in *sdk.CreateVolumeInput) { in.OutpostArn = aws.String(outpost + "1") }, "InvalidParameterValue"},
		"zone":    {func(in *sdk.CreateVolumeInput) { in.AvailabilityZone = aws.String("eu-west-2b") }, "InvalidParameterValue"},
		"type":    {func(in *sdk.CreateVolumeInput) { in.VolumeType = "gp3" }, "UnknownVolumeType"},
	} {
		_, err := create(test.change)
		b.refused(err, test.code, "")
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// TestLocalZone checks that the volumes of an instance in a Local Zone are in that zone.
func TestLocalZone(t *testing.T) {
	const local = "eu-west-2-lon-1a"
	b := newBoxOf(t, state.Config{HostZone: local})
	zones := must(b.client.DescribeAvailabilityZones(ctx, &sdk.DescribeAvailabilityZonesInput{Filters: []types.Filter{filter("zone-type", "local-zone")}}))(b)
	if len(zones.AvailabilityZones) != 1 {
		t.Fatalf("Local Zones: %+v", zones.AvailabilityZones)
	}
	if z := zones.AvailabilityZones[0]; *z.ZoneName != local || *z.ZoneId != "euw2-lon1-az1" || *z.GroupName != "eu-west-2-lon-1" || *z.ParentZoneName != zone {
		t.Errorf("zone %+v", z)
	}
	for in, code := range map[string]string{local: "", zone: "InvalidVolume.ZoneMismatch"} {
		v := must(b.client.CreateVolume(ctx, &sdk.CreateVolumeInput{AvailabilityZone: aws.String(in), Size: aws.Int32(1)}))(b)
		_, err := b.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: v.VolumeId, InstanceId: aws.String(b.host()), Device: aws.String("/dev/sdf")})
		if code != "" {
			b.refused(err, code, "")
		} else if err != nil {
			t.Error(err)
		}
	}
}
