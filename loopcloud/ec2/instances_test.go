package ec2_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestInstanceLife(t *testing.T) {
	b := newSlowBox(t, state.Timing{VMStart: time.Minute, VMStop: time.Minute})
	image := b.image("bootable")
	run := must(b.client.RunInstances(ctx, &sdk.RunInstancesInput{
		ImageId: &image, MinCount: aws.Int32(1), MaxCount: aws.Int32(2), InstanceType: types.InstanceTypeT3Micro,
		Placement: &types.Placement{AvailabilityZone: aws.String("eu-west-2b")},
		TagSpecifications: []types.TagSpecification{
			{ResourceType: "instance", Tags: []types.Tag{tag("Name", "vm")}},
			{ResourceType: "volume", Tags: []types.Tag{tag("Name", "root")}},
		},
	}))(b)
	if len(run.Instances) != 2 || run.Instances[0].State.Name != "pending" || *run.OwnerId != alice {
		t.Fatalf("got %+v", run.Instances)
	}
	b.clock.Pass(time.Minute)
	id := *run.Instances[0].InstanceId
	i := b.instance(id)
	if i.State.Name != "running" || *i.State.Code != 16 || i.InstanceType != "t3.micro" || *i.ImageId != image ||
		*i.Placement.AvailabilityZone != "eu-west-2b" || *i.Tags[0].Value != "vm" || i.Architecture != "x86_64" ||
		*i.RootDeviceName != "/dev/sda1" || !i.LaunchTime.Equal(*run.Instances[0].LaunchTime) || len(i.BlockDeviceMappings) != 1 ||
		*i.BlockDeviceMappings[0].DeviceName != "/dev/sda1" || aws.ToString(i.PrivateIpAddress) == "" {
		t.Errorf("got %+v", i)
	}
	roots := must(b.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{Filters: []types.Filter{filter("tag:Name", "root")}}))(b)
	if len(roots.Volumes) != 2 {
		t.Errorf("the tagged volumes are %+v", roots.Volumes)
	}
	ended := must(b.client.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{id}}))(b).TerminatingInstances[0]
	if ended.PreviousState.Name != "running" || ended.CurrentState.Name != "shutting-down" || *ended.CurrentState.Code != 32 {
		t.Errorf("got %+v to %+v", ended.PreviousState, ended.CurrentState)
	}
	b.clock.Pass(time.Minute)
	if i := b.instance(id); i.State.Name != "terminated" || *i.State.Code != 48 {
		t.Errorf("got %+v", i.State)
	}
}

func (b *box) instance(id string) types.Instance {
	b.Helper()
	out := must(b.client.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{id}}))(b)
	return out.Reservations[0].Instances[0]
}

func TestInstanceRefusals(t *testing.T) {
	b := newBox(t)
	image, host := b.image("bootable"), b.host()
	run := func(change func(*sdk.RunInstancesInput)) error {
		in := &sdk.RunInstancesInput{ImageId: &image, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}
		change(in)
		_, err := b.client.RunInstances(ctx, in)
		return err
	}
	b.refused(run(func(in *sdk.RunInstancesInput) { in.ImageId = nil }), "MissingParameter", "ImageId")
	b.refused(run(func(in *sdk.RunInstancesInput) { in.ImageId = aws.String("ami-00000000") }), "InvalidAMIID.NotFound")
	b.refused(run(func(in *sdk.RunInstancesInput) { in.MaxCount = aws.Int32(0) }), "InvalidParameterValue")
	b.refused(run(func(in *sdk.RunInstancesInput) { in.MaxCount = aws.Int32(1000) }), "InvalidParameterValue")
	b.refused(run(func(in *sdk.RunInstancesInput) { in.KeyName = aws.String("k") }), "UnknownParameter", "KeyName")
	b.refused(run(func(in *sdk.RunInstancesInput) { in.DryRun = aws.Bool(true) }), "DryRunOperation")
	b.refused(run(func(in *sdk.RunInstancesInput) { in.Placement = &types.Placement{AvailabilityZone: aws.String("x")} }), "InvalidZone.NotFound")

	terminate := func(id string, dry bool) error {
		_, err := b.client.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{id}, DryRun: &dry})
		return err
	}
	b.refused(terminate("i-00000000", false), "InvalidInstanceID.NotFound")
	b.refused(terminate(host, false), "OperationNotPermitted", host)
	made := must(b.client.RunInstances(ctx, &sdk.RunInstancesInput{ImageId: &image, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}))(b)
	b.refused(terminate(*made.Instances[0].InstanceId, true), "DryRunOperation")
	_, err := b.client.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{"i-00000000"}})
	b.refused(err, "InvalidInstanceID.NotFound", "The instance ID 'i-00000000' does not exist")
	_, err = b.as(bob, region).DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{host}})
	b.refused(err, "InvalidInstanceID.NotFound")
}

// TestDescribeHost checks that the machine that loopcloud runs on is an instance with the
// volumes attached to it.
func TestDescribeHost(t *testing.T) {
	b := newBox(t)
	host, volume := b.host(), b.volume()
	must(b.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &volume, InstanceId: &host, Device: aws.String("/dev/sdf")}))(b)
	i := b.instance(host)
	devices := ids(i.BlockDeviceMappings, func(m types.InstanceBlockDeviceMapping) *string { return m.DeviceName })
	if !slices.Equal(devices, []string{"/dev/sda1", "/dev/sdf"}) || *i.Placement.AvailabilityZone != zone {
		t.Errorf("got %v in %+v", devices, i.Placement)
	}
	for _, f := range []types.Filter{
		filter("instance-id", host), filter("block-device-mapping.volume-id", volume), filter("block-device-mapping.device-name", "/dev/sdf"),
		filter("instance-state-name", "run*"), filter("instance-state-code", "16"), filter("private-ip-address", *i.PrivateIpAddress),
		filter("availability-zone", zone), filter("reservation-id", "r-*"), filter("root-device-type", "ebs"), filter("owner-id", alice),
		filter("block-device-mapping.status", "attached"), filter("block-device-mapping.delete-on-termination", "true"),
	} {
		out := must(b.client.DescribeInstances(ctx, &sdk.DescribeInstancesInput{Filters: []types.Filter{f}}))(b)
		if len(out.Reservations) != 1 || *out.Reservations[0].Instances[0].InstanceId != host {
			t.Errorf("%s %v found %+v", *f.Name, f.Values, out.Reservations)
		}
	}
	for _, f := range []types.Filter{filter("image-id", "*"), filter("tag-key", "*"), filter("instance-state-name", "stopped")} {
		out := must(b.client.DescribeInstances(ctx, &sdk.DescribeInstancesInput{Filters: []types.Filter{f}}))(b)
		if len(out.Reservations) != 0 {
			t.Errorf("%s %v found %+v", *f.Name, f.Values, out.Reservations)
		}
	}
	_, err := b.client.DescribeInstances(ctx, &sdk.DescribeInstancesInput{Filters: []types.Filter{filter("vpc-id", "x")}})
	b.refused(err, "InvalidParameterValue", "vpc-id")
}

func TestRegionsAndZones(t *testing.T) {
	b := newBox(t)
	regions := must(b.client.DescribeRegions(ctx, &sdk.DescribeRegionsInput{Filters: []types.Filter{filter("region-name", "eu-west-*"), filter("endpoint", "ec2.*"), filter("opt-in-status", "opt-in-not-required")}}))(b).Regions
	if got := ids(regions, func(r types.Region) *string { return r.RegionName }); !slices.Equal(got, []string{"eu-west-1", "eu-west-2"}) || *regions[0].Endpoint != "ec2.eu-west-2.amazonaws.com" {
		t.Errorf("got %+v", regions)
	}
	if one := must(b.client.DescribeRegions(ctx, &sdk.DescribeRegionsInput{RegionNames: []string{other}, AllRegions: aws.Bool(true)}))(b).Regions; len(one) != 1 {
		t.Errorf("got %+v", one)
	}
	_, err := b.client.DescribeRegions(ctx, &sdk.DescribeRegionsInput{RegionNames: []string{"mars-1"}})
	b.refused(err, "InvalidParameterValue", "mars-1")

	zones := must(b.as(alice, other).DescribeAvailabilityZones(ctx, &sdk.DescribeAvailabilityZonesInput{
		ZoneNames: []string{"us-east-1b"}, Filters: []types.Filter{filter("state", "available"), filter("zone-type", "availability-zone"), filter("group-name", other), filter("zone-id", "use1-*"), filter("zone-name", "*b"), filter("region-name", other)},
	}))(b).AvailabilityZones
	if len(zones) != 1 || *zones[0].ZoneId != "use1-az2" || *zones[0].RegionName != other || zones[0].State != "available" {
		t.Errorf("got %+v", zones)
	}
	if all := must(b.client.DescribeAvailabilityZones(ctx, &sdk.DescribeAvailabilityZonesInput{ZoneIds: []string{"euw2-az1"}}))(b).AvailabilityZones; len(all) != 1 || *all[0].ZoneName != zone {
		t.Errorf("got %+v", all)
	}
	for code, in := range map[string]sdk.DescribeAvailabilityZonesInput{
		"InvalidParameterValue": {ZoneNames: []string{"us-east-1a"}},
		"DryRunOperation":       {DryRun: aws.Bool(true)},
	} {
		_, err := b.client.DescribeAvailabilityZones(ctx, &in)
		b.refused(err, code)
	}
	_, err = b.client.DescribeAvailabilityZones(ctx, &sdk.DescribeAvailabilityZonesInput{ZoneIds: []string{"use1-az1"}})
	b.refused(err, "InvalidParameterValue", "use1-az1")
}

func TestTags(t *testing.T) {
	b := newBox(t)
	volume, snapshot := b.volume(), b.snapshot()
	all := []string{volume, snapshot}
	must(b.client.CreateTags(ctx, &sdk.CreateTagsInput{Resources: all, Tags: []types.Tag{tag("a", "1"), tag("b", ""), tag("c", "3")}}))(b)
	describe := func(filters ...types.Filter) []string {
		b.Helper()
		out := must(b.client.DescribeTags(ctx, &sdk.DescribeTagsInput{Filters: filters}))(b)
		return ids(out.Tags, func(t types.TagDescription) *string {
			return aws.String(string(t.ResourceType) + " " + *t.Key + "=" + *t.Value)
		})
	}
	expect := func(want []string, filters ...types.Filter) {
		b.Helper()
		if got := describe(filters...); !slices.Equal(got, want) {
			b.Errorf("got %v, want %v", got, want)
		}
	}
	expect([]string{"snapshot a=1", "snapshot b=", "snapshot c=3"}, filter("resource-id", snapshot))
	expect([]string{"volume a=1"}, filter("resource-type", "vol*"), filter("key", "a"))
	expect([]string{"snapshot b=", "volume b="}, filter("value", ""))
	expect([]string{"snapshot c=3", "volume c=3"}, filter("tag:c", "3"))

	// A value must match exactly, an empty one too; a missing value matches any.
	must(b.client.DeleteTags(ctx, &sdk.DeleteTagsInput{Resources: []string{volume}, Tags: []types.Tag{tag("a", ""), tag("c", "2"), {Key: aws.String("b")}}}))(b)
	expect([]string{"volume a=1", "volume c=3"}, filter("resource-id", volume))
	must(b.client.DeleteTags(ctx, &sdk.DeleteTagsInput{Resources: []string{volume}}))(b)
	expect([]string{}, filter("resource-id", volume))
	expect([]string{"snapshot a=1", "snapshot b=", "snapshot c=3"})
	b.refuseTags(volume)
	if got := describe(filter("resource-id", volume)); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func (b *box) refuseTags(id string) {
	b.Helper()
	long := func(n int) string { return string(slices.Repeat([]rune{'é'}, n)) }
	many := make([]types.Tag, 51)
	for i := range many {
		many[i] = tag(string(rune('A'+i)), "")
	}
	for _, test := range []struct {
		id   string
		tags []types.Tag
		code string
	}{
		{"vol-1", []types.Tag{tag("a", "")}, "InvalidVolumeID.Malformed"},
		{"resource-1", []types.Tag{tag("a", "")}, "InvalidID"},
		{absent, []types.Tag{tag("a", "")}, "InvalidVolume.NotFound"},
		{id, []types.Tag{tag("", "x")}, "InvalidParameterValue"},
		{id, []types.Tag{}, "InvalidParameterValue"},
		{id, []types.Tag{tag("AWS:x", "x")}, "InvalidParameterValue"},
		{id, []types.Tag{tag(long(129), "x")}, "InvalidParameterValue"},
		{id, []types.Tag{tag("x", long(257))}, "InvalidParameterValue"},
		{id, many, "TagLimitExceeded"},
	} {
		_, err := b.client.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{test.id}, Tags: test.tags})
		b.refused(err, test.code)
	}
	must(b.client.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{id}, Tags: []types.Tag{tag(long(128), long(256))}}))(b)
	_, err := b.client.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{id}, Tags: many[:50]})
	b.refused(err, "TagLimitExceeded", id)
	_, err = b.client.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{id}, Tags: many[:1], DryRun: aws.Bool(true)})
	b.refused(err, "DryRunOperation")
	_, err = b.client.DeleteTags(ctx, &sdk.DeleteTagsInput{Resources: []string{}})
	b.refused(err, "MissingParameter", "resourceIdSet")
	_, err = b.client.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{}, Tags: many[:1]})
	b.refused(err, "MissingParameter", "resourceIdSet")
	_, err = b.client.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{id}, Tags: []types.Tag{}})
	b.refused(err, "InvalidParameterValue", "You must specify one or more tags to create")
	_, err = b.client.DeleteTags(ctx, &sdk.DeleteTagsInput{Resources: []string{absent}})
	b.refused(err, "InvalidVolume.NotFound")
	_, err = b.client.DescribeTags(ctx, &sdk.DescribeTagsInput{Filters: []types.Filter{filter("tag-key", "x")}})
	b.refused(err, "InvalidParameterValue")
	must(b.client.DeleteTags(ctx, &sdk.DeleteTagsInput{Resources: []string{id}}))(b)
}

func TestTagPages(t *testing.T) {
	b := newBox(t)
	b.volume(tag("a", ""), tag("b", ""), tag("c", ""), tag("d", ""), tag("e", ""), tag("f", ""))
	pages := sdk.NewDescribeTagsPaginator(b.client, &sdk.DescribeTagsInput{MaxResults: aws.Int32(5)})
	var got []string
	for pages.HasMorePages() {
		got = append(got, ids(must(pages.NextPage(ctx))(b).Tags, func(t types.TagDescription) *string { return t.Key })...)
	}
	if !slices.Equal(got, []string{"a", "b", "c", "d", "e", "f"}) {
		t.Errorf("got %v", got)
	}
}

// TestRegionsOptedInTo checks that a region without opt-in is listed only on request, and
// refuses all requests.
func TestRegionsOptedInTo(t *testing.T) {
	b := newBox(t)
	statuses := func(in sdk.DescribeRegionsInput) map[string]string {
		out := map[string]string{}
		for _, r := range must(b.client.DescribeRegions(ctx, &in))(b).Regions {
			out[*r.RegionName] = *r.OptInStatus
		}
		return out
	}
	usable, all := statuses(sdk.DescribeRegionsInput{}), statuses(sdk.DescribeRegionsInput{AllRegions: aws.Bool(true)})
	if usable["eu-south-1"] != "opted-in" || usable[region] != "opt-in-not-required" || usable["me-south-1"] != "" {
		t.Errorf("without asking, there are %v", usable)
	}
	if all["me-south-1"] != "not-opted-in" || len(all) != len(usable)+1 {
		t.Errorf("there are %v", all)
	}
	_, err := b.as(alice, "me-south-1").DescribeImages(ctx, &sdk.DescribeImagesInput{})
	b.refused(err, "AuthFailure")
	id := b.image("source")
	_, err = b.client.CopyImage(ctx, &sdk.CopyImageInput{SourceImageId: &id, SourceRegion: aws.String("me-south-1"), Name: aws.String("copy")})
	b.refused(err, "InvalidRegion")
	zones := must(b.as(alice, "eu-south-1").DescribeAvailabilityZones(ctx, &sdk.DescribeAvailabilityZonesInput{
		Filters: []types.Filter{filter("opt-in-status", "opted-in")},
	}))(b).AvailabilityZones
	if len(zones) != 3 || zones[0].OptInStatus != "opted-in" {
		t.Errorf("its zones are %+v", zones)
	}
}
