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

const absent = "vol-0123456789abcdef0"

// TestVolumeLife follows a volume on a slow cloud from creating until it is removed.
func TestVolumeLife(t *testing.T) {
	b := newSlowBox(t, state.Timing{VolumeCreate: time.Second, Attach: time.Second, Detach: time.Second})
	created := must(b.client.CreateVolume(ctx, &sdk.CreateVolumeInput{
		AvailabilityZone: aws.String(zone), Size: aws.Int32(10), VolumeType: types.VolumeTypeGp3, Iops: aws.Int32(4000),
		Encrypted: aws.Bool(true), KmsKeyId: aws.String("alias/mine"),
	}))(b)
	id := *created.VolumeId
	if created.State != types.VolumeStateCreating || *created.Size != 10 || *created.Iops != 4000 || !*created.Encrypted ||
		*created.KmsKeyId != state.KeyARN(state.Caller{Account: alice, Region: region}, "alias/mine") || !created.CreateTime.Equal(b.clock.Now()) {
		t.Errorf("created %+v", created)
	}
	device, host := aws.String("/dev/sdf"), b.host()
	_, err := b.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &id, InstanceId: &host, Device: device})
	b.refused(err, "IncorrectState", "creating")
	b.clock.Pass(time.Second)
	b.expectVolume(id, types.VolumeStateAvailable, "")

	attached := must(b.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &id, InstanceId: &host, Device: device}))(b)
	if attached.State != types.VolumeAttachmentStateAttaching || *attached.InstanceId != host || *attached.Device != "/dev/sdf" {
		t.Errorf("attached %+v", attached)
	}
	b.expectVolume(id, types.VolumeStateInUse, types.VolumeAttachmentStateAttaching)
	b.clock.Pass(time.Second)
	b.expectVolume(id, types.VolumeStateInUse, types.VolumeAttachmentStateAttached)
	_, err = b.client.DeleteVolume(ctx, &sdk.DeleteVolumeInput{VolumeId: &id})
	b.refused(err, "VolumeInUse", "Volume "+id+" is currently attached to "+host)

	detached := must(b.client.DetachVolume(ctx, &sdk.DetachVolumeInput{VolumeId: &id, InstanceId: &host, Device: device}))(b)
	if detached.State != types.VolumeAttachmentStateDetaching {
		t.Errorf("detached %+v", detached)
	}
	b.clock.Pass(time.Second)
	b.waitAvailable(id)
	must(b.client.DeleteVolume(ctx, &sdk.DeleteVolumeInput{VolumeId: &id}))(b)
	_, err = b.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{VolumeIds: []string{id}})
	b.refused(err, "InvalidVolume.NotFound", "The volume '"+id+"' does not exist.")
}

// waitAvailable waits until a volume that is due to be detached is available, which is after its
// device is removed. The test's own time limit is the bound.
func (b *box) waitAvailable(id string) {
	b.Helper()
	for b.readVolume(id).State != types.VolumeStateAvailable {
		time.Sleep(time.Millisecond)
	}
	b.expectVolume(id, types.VolumeStateAvailable, "")
}

func (b *box) readVolume(id string) types.Volume {
	b.Helper()
	return must(b.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{VolumeIds: []string{id}}))(b).Volumes[0]
}

func (b *box) expectVolume(id string, want types.VolumeState, attachment types.VolumeAttachmentState) {
	b.Helper()
	v := b.readVolume(id)
	var got types.VolumeAttachmentState
	if len(v.Attachments) > 0 {
		got = v.Attachments[0].State
	}
	if v.State != want || got != attachment {
		b.Errorf("%s is %s and %q, want %s and %q", id, v.State, got, want, attachment)
	}
}

// TestSDKWaiters follows a volume with the SDK's waiters.
func TestSDKWaiters(t *testing.T) {
	b := newBox(t)
	id, host := b.volume(), b.host()
	describe := &sdk.DescribeVolumesInput{VolumeIds: []string{id}}
	const limit = 20 * time.Second
	if err := sdk.NewVolumeAvailableWaiter(b.client).Wait(ctx, describe, limit); err != nil {
		t.Error(err)
	}
	must(b.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &id, InstanceId: &host, Device: aws.String("/dev/sdf")}))(b)
	if err := sdk.NewVolumeInUseWaiter(b.client).Wait(ctx, describe, limit); err != nil {
		t.Error(err)
	}
	must(b.client.DetachVolume(ctx, &sdk.DetachVolumeInput{VolumeId: &id}))(b)
	snapshot := *must(b.client.CreateSnapshot(ctx, &sdk.CreateSnapshotInput{VolumeId: &id}))(b).SnapshotId
	if err := sdk.NewSnapshotCompletedWaiter(b.client).Wait(ctx, &sdk.DescribeSnapshotsInput{SnapshotIds: []string{snapshot}}, limit); err != nil {
		t.Error(err)
	}
	must(b.client.DeleteVolume(ctx, &sdk.DeleteVolumeInput{VolumeId: &id}))(b)
	if err := sdk.NewVolumeDeletedWaiter(b.client).Wait(ctx, describe, limit); err != nil {
		t.Error(err)
	}
	image := b.image("waited for")
	if err := sdk.NewImageAvailableWaiter(b.client).Wait(ctx, &sdk.DescribeImagesInput{ImageIds: []string{image}}, limit); err != nil {
		t.Error(err)
	}
}

func TestCreateVolumeRefusals(t *testing.T) {
	b := newBox(t)
	snapshot := b.snapshot()
	tests := map[string]struct {
		change func(*sdk.CreateVolumeInput)
		code   string
	}{
		"standard size":    {func(in *sdk.CreateVolumeInput) { in.VolumeType, in.Size = "standard", aws.Int32(1025) }, "InvalidParameterValue"},
		"no size":          {func(in *sdk.CreateVolumeInput) { in.Size = nil }, "MissingParameter"},
		"no zone":          {func(in *sdk.CreateVolumeInput) { in.AvailabilityZone = nil }, "MissingParameter"},
		"zone elsewhere":   {func(in *sdk.CreateVolumeInput) { in.AvailabilityZone = aws.String("us-east-1a") }, "InvalidZone.NotFound"},
		"type":             {func(in *sdk.CreateVolumeInput) { in.VolumeType = "gp9" }, "UnknownVolumeType"},
		"io1 without iops": {func(in *sdk.CreateVolumeInput) { in.VolumeType = "io1" }, "MissingParameter"},
		"io1 ratio":        {func(in *sdk.CreateVolumeInput) { in.VolumeType, in.Iops = "io1", aws.Int32(401) }, "InvalidParameterValue"},
		"io1 ratio of snapshot": {func(in *sdk.CreateVolumeInput) {
			in.VolumeType, in.Iops, in.Size, in.SnapshotId = "io1", aws.Int32(401), nil, &snapshot
		}, "InvalidParameterValue"},
		"gp2 iops":        {func(in *sdk.CreateVolumeInput) { in.VolumeType, in.Iops = "gp2", aws.Int32(100) }, "InvalidParameterCombination"},
		"gp2 throughput":  {func(in *sdk.CreateVolumeInput) { in.Throughput = aws.Int32(125) }, "InvalidParameterCombination"},
		"gp3 throughput":  {func(in *sdk.CreateVolumeInput) { in.VolumeType, in.Throughput = "gp3", aws.Int32(751) }, "InvalidParameterValue"},
		"io2 few iops":    {func(in *sdk.CreateVolumeInput) { in.VolumeType, in.Iops = "io2", aws.Int32(99) }, "InvalidParameterValue"},
		"key alone":       {func(in *sdk.CreateVolumeInput) { in.KmsKeyId = aws.String("alias/mine") }, "InvalidParameterDependency"},
		"key malformed":   {func(in *sdk.CreateVolumeInput) { in.Encrypted, in.KmsKeyId = aws.Bool(true), aws.String("mine") }, "InvalidParameterValue"},
		"size of type":    {func(in *sdk.CreateVolumeInput) { in.VolumeType = "st1" }, "InvalidParameterValue"},
		"snapshot id":     {func(in *sdk.CreateVolumeInput) { in.SnapshotId = aws.String("snap-xyz") }, "InvalidSnapshotID.Malformed"},
		"absent snapshot": {func(in *sdk.CreateVolumeInput) { in.SnapshotId = aws.String("snap-00000000") }, "InvalidSnapshot.NotFound"},
		"smaller":         {func(in *sdk.CreateVolumeInput) { in.SnapshotId, in.Size = &snapshot, aws.Int32(1) }, "InvalidParameterValue"},
		"multi attach":    {func(in *sdk.CreateVolumeInput) { in.MultiAttachEnabled = aws.Bool(true) }, "UnknownParameter"},
		"dry run":         {func(in *sdk.CreateVolumeInput) { in.DryRun = aws.Bool(true) }, "DryRunOperation"},
	}
	before := len(b.st.Volumes(state.Caller{Account: alice, Region: region}))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			in := &sdk.CreateVolumeInput{AvailabilityZone: aws.String(zone), Size: aws.Int32(8)}
			test.change(in)
			_, err := b.client.CreateVolume(ctx, in)
			b.refused(err, test.code)
		})
	}
	if after := len(b.st.Volumes(state.Caller{Account: alice, Region: region})); after != before {
		t.Errorf("%d volumes were made", after-before)
	}
}

// TestSizeOrSnapshot checks the message that clients show for a volume without a size.
func TestSizeOrSnapshot(t *testing.T) {
	b := newBox(t)
	_, err := b.client.CreateVolume(ctx, &sdk.CreateVolumeInput{AvailabilityZone: aws.String(zone)})
	b.refused(err, "MissingParameter", "The request must contain the parameter size/snapshot")
}

func TestCreateVolumeTwice(t *testing.T) {
	b := newBox(t)
	in := &sdk.CreateVolumeInput{AvailabilityZone: aws.String(zone), Size: aws.Int32(8), ClientToken: aws.String("once")}
	first := must(b.client.CreateVolume(ctx, in))(b)
	second := must(b.client.CreateVolume(ctx, in))(b)
	if *first.VolumeId != *second.VolumeId {
		t.Errorf("one token made %s and %s", *first.VolumeId, *second.VolumeId)
	}
	in.Size = aws.Int32(9)
	_, err := b.client.CreateVolume(ctx, in)
	b.refused(err, "IdempotentParameterMismatch", "once")
}

func TestAttachRefusals(t *testing.T) {
	b := newBox(t)
	id, host := b.volume(), b.host()
	must(b.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: aws.String(b.volume()), InstanceId: &host, Device: aws.String("/dev/sdf")}))(b)
	away := *must(b.client.CreateVolume(ctx, &sdk.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-2b"), Size: aws.Int32(1)}))(b).VolumeId
	for _, test := range []struct{ volume, instance, device, code, says string }{
		{id, host, "/dev/sdf", "InvalidParameterValue", "Attachment point /dev/sdf is already in use"},
		{id, host, "sdg", "InvalidParameterValue", "not a valid EBS device name"},
		{id, host, "/dev/sdg1", "InvalidParameterValue", "not a valid EBS device name"},
		{id, host, "/dev/sda1", "InvalidParameterValue", "Attachment point /dev/sda1 is already in use"},
		{away, host, "/dev/sdg", "InvalidVolume.ZoneMismatch", zone},
		{absent, host, "/dev/sdg", "InvalidVolume.NotFound", absent},
		{"vol-1", host, "/dev/sdg", "InvalidVolumeID.Malformed", `"vol-1" (expecting "vol-...")`},
		{id, "i-00000000", "/dev/sdg", "InvalidInstanceID.NotFound", "i-00000000"},
		{id, "host", "/dev/sdg", "InvalidInstanceID.Malformed", "host"},
	} {
		_, err := b.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &test.volume, InstanceId: &test.instance, Device: &test.device})
		b.refused(err, test.code, test.says)
	}
	_, err := b.as(bob, region).AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &id, InstanceId: &host, Device: aws.String("/dev/sdg")})
	b.refused(err, "InvalidVolume.NotFound")
}

func TestDetachRefusals(t *testing.T) {
	b := newBox(t)
	id, host := b.volume(), b.host()
	detach := func(change func(*sdk.DetachVolumeInput)) error {
		in := &sdk.DetachVolumeInput{VolumeId: &id}
		change(in)
		_, err := b.client.DetachVolume(ctx, in)
		return err
	}
	b.refused(detach(func(*sdk.DetachVolumeInput) {}), "IncorrectState", "available")
	must(b.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &id, InstanceId: &host, Device: aws.String("/dev/sdf")}))(b)
	b.refused(detach(func(in *sdk.DetachVolumeInput) { in.InstanceId = aws.String("i-00000000") }), "InvalidAttachment.NotFound")
	b.refused(detach(func(in *sdk.DetachVolumeInput) { in.Device = aws.String("/dev/sdz") }), "InvalidAttachment.NotFound")
	b.refused(detach(func(in *sdk.DetachVolumeInput) { in.DryRun = aws.Bool(true) }), "DryRunOperation")
	if err := detach(func(in *sdk.DetachVolumeInput) { in.Force = aws.Bool(true) }); err != nil {
		t.Error(err)
	}
	root := must(b.client.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{host}}))(b)
	id = *root.Reservations[0].Instances[0].BlockDeviceMappings[0].Ebs.VolumeId
	b.refused(detach(func(*sdk.DetachVolumeInput) {}), "IncorrectState", "Unable to detach root volume '"+id+"' from instance '"+host+"'")
	b.refused(detach(func(in *sdk.DetachVolumeInput) { in.Force = aws.Bool(true) }), "IncorrectState", "root")
}

func TestModifyVolume(t *testing.T) {
	b := newSlowBox(t, state.Timing{VolumeModify: time.Minute})
	id, never := b.volume(), b.volume()
	out := must(b.client.ModifyVolume(ctx, &sdk.ModifyVolumeInput{
		VolumeId: &id, Size: aws.Int32(20), VolumeType: types.VolumeTypeGp3, Throughput: aws.Int32(200),
	}))(b)
	m := out.VolumeModification
	if m.ModificationState != types.VolumeModificationStateModifying || *m.OriginalSize != 8 || *m.TargetSize != 20 ||
		m.OriginalVolumeType != types.VolumeTypeGp2 || m.TargetVolumeType != types.VolumeTypeGp3 || *m.TargetThroughput != 200 || m.EndTime != nil {
		t.Errorf("got %+v", m)
	}
	_, err := b.client.ModifyVolume(ctx, &sdk.ModifyVolumeInput{VolumeId: &id, Size: aws.Int32(30)})
	b.refused(err, "IncorrectModificationState", id, "modifying")
	host := b.host()
	attach := &sdk.AttachVolumeInput{VolumeId: &id, InstanceId: &host, Device: aws.String("/dev/sdf")}
	_, err = b.client.AttachVolume(ctx, attach)
	b.refused(err, "OperationNotPermitted", id)
	for _, want := range []types.VolumeModificationState{types.VolumeModificationStateOptimizing, types.VolumeModificationStateCompleted} {
		b.clock.Pass(time.Minute)
		found := must(b.client.DescribeVolumesModifications(ctx, &sdk.DescribeVolumesModificationsInput{VolumeIds: []string{id}}))(b)
		if got := found.VolumesModifications[0]; got.ModificationState != want {
			t.Errorf("got %+v, want %s", got, want)
		}
	}
	all := must(b.client.DescribeVolumesModifications(ctx, &sdk.DescribeVolumesModificationsInput{
		Filters: []types.Filter{filter("target-volume-type", "gp*"), filter("original-size", "8")},
	}))(b)
	if len(all.VolumesModifications) != 1 || all.VolumesModifications[0].EndTime == nil {
		t.Errorf("got %+v", all.VolumesModifications)
	}
	_, err = b.client.DescribeVolumesModifications(ctx, &sdk.DescribeVolumesModificationsInput{VolumeIds: []string{never}})
	b.refused(err, "InvalidVolumeModification.NotFound", never)
	_, err = b.client.ModifyVolume(ctx, &sdk.ModifyVolumeInput{VolumeId: &id, Size: aws.Int32(1)})
	b.refused(err, "InvalidParameterValue", "shrink")
	must(b.client.AttachVolume(ctx, attach))(b)
}

// TestModifyVolumeOften checks EC2's limit of four modifications in 24 hours.
func TestModifyVolumeOften(t *testing.T) {
	b := newBox(t)
	id, another := b.volume(), b.volume()
	grow := func(id string, size int32) error {
		_, err := b.client.ModifyVolume(ctx, &sdk.ModifyVolumeInput{VolumeId: &id, Size: &size})
		return err
	}
	for i := range int32(4) {
		if err := grow(id, 10+i); err != nil {
			t.Fatal(err)
		}
		b.clock.Pass(time.Hour)
	}
	b.refused(grow(id, 20), "VolumeModificationRateExceeded", id)
	if err := grow(another, 20); err != nil {
		t.Error(err)
	}
	b.clock.Pass(20 * time.Hour)
	if err := grow(id, 20); err != nil {
		t.Errorf("24 hours after the first modification: %v", err)
	}
	b.refused(grow(id, 30), "VolumeModificationRateExceeded", id)
}

// TestModifyVolumeLimits checks the limits that EC2 and Outscale do not share.
func TestModifyVolumeLimits(t *testing.T) {
	b := newBox(t)
	id := *must(b.client.CreateVolume(ctx, &sdk.CreateVolumeInput{AvailabilityZone: aws.String(zone), Size: aws.Int32(1024), VolumeType: types.VolumeTypeStandard}))(b).VolumeId
	for _, bad := range []sdk.ModifyVolumeInput{
		{Size: aws.Int32(1025)},
		{VolumeType: types.VolumeTypeIo1, Iops: aws.Int32(51201)},
	} {
		bad.VolumeId = &id
		_, err := b.client.ModifyVolume(ctx, &bad)
		b.refused(err, "InvalidParameterValue", "maximum is")
	}
}

func TestDescribeVolumesFilters(t *testing.T) {
	b := newBox(t)
	host := b.host()
	plain := b.volume()
	b.clock.Pass(24 * time.Hour)
	tagged := b.volume(tag("Name", "root of build"), tag("empty", ""))
	must(b.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &tagged, InstanceId: &host, Device: aws.String("/dev/sdf")}))(b)
	both := sorted(plain, tagged)
	for _, test := range []struct {
		filters []types.Filter
		want    []string
	}{
		{[]types.Filter{filter("volume-id", plain, "vol-none")}, []string{plain}},
		{[]types.Filter{filter("status", "avail*")}, []string{plain}},
		{[]types.Filter{filter("attachment.device", "/dev/sd?")}, []string{tagged}},
		{[]types.Filter{filter("attachment.status", "attached"), filter("attachment.delete-on-termination", "false"), filter("attachment.instance-id", host), filter("attachment.attach-time", "*")}, []string{tagged}},
		{[]types.Filter{filter("tag:Name", "*build")}, []string{tagged}},
		{[]types.Filter{filter("tag:empty", "")}, []string{tagged}},
		{[]types.Filter{filter("tag:name", "*")}, nil},
		{[]types.Filter{filter("tag-key", "Na*", "nothing")}, []string{tagged}},
		{[]types.Filter{filter("tag-key", "Name"), filter("status", "available")}, nil},
		{[]types.Filter{filter("create-time", "2026-03-04T*")}, []string{plain}},
		{[]types.Filter{filter("size", "8"), filter("volume-type", "gp2"), filter("encrypted", "false"), filter("availability-zone", zone), filter("availability-zone-id", "euw2-az1"), filter("volume-id", plain, tagged)}, both},
		{[]types.Filter{filter("snapshot-id", "*")}, nil},
	} {
		out, err := b.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{Filters: test.filters, VolumeIds: both})
		if err != nil {
			t.Errorf("%v: %v", test.filters, err)
			continue
		}
		if got := ids(out.Volumes, func(v types.Volume) *string { return v.VolumeId }); !slices.Equal(got, test.want) && len(got)+len(test.want) > 0 {
			t.Errorf("%s: got %v, want %v", *test.filters[0].Name, got, test.want)
		}
	}
	for _, bad := range []types.Filter{filter("colour", "red"), filter("tag:", "x"), filter("status")} {
		_, err := b.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{Filters: []types.Filter{bad}})
		b.refused(err, "InvalidParameterValue", "The filter '"+*bad.Name+"'")
	}
	_, err := b.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{Filters: []types.Filter{filter("status", make([]string, 201)...)}})
	b.refused(err, "FilterLimitExceeded")
}

func TestDescribeVolumesPages(t *testing.T) {
	b := newBox(t)
	var want []string
	for range 12 {
		want = append(want, b.volume())
		b.clock.Pass(time.Second)
	}
	pages := sdk.NewDescribeVolumesPaginator(b.client, &sdk.DescribeVolumesInput{MaxResults: aws.Int32(5), Filters: []types.Filter{filter("volume-id", want...)}})
	var got []string
	var sizes []int
	for pages.HasMorePages() {
		out := must(pages.NextPage(ctx))(b)
		sizes = append(sizes, len(out.Volumes))
		for _, v := range out.Volumes {
			got = append(got, *v.VolumeId)
		}
		if len(sizes) == 1 { // the resource that the token refers to has been removed
			must(b.client.DeleteVolume(ctx, &sdk.DeleteVolumeInput{VolumeId: &got[4]}))(b)
		}
	}
	if !slices.Equal(got, want) || !slices.Equal(sizes, []int{5, 5, 2}) {
		t.Errorf("got %v in %v, want %v", got, sizes, want)
	}
	_, err := b.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{MaxResults: aws.Int32(4)})
	b.refused(err, "InvalidParameterValue", "maxResults")
	_, err = b.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{MaxResults: aws.Int32(5), VolumeIds: want[:1]})
	b.refused(err, "InvalidParameterCombination")
	out := must(b.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{MaxResults: aws.Int32(5)}))(b)
	_, err = b.client.DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{NextToken: out.NextToken})
	b.refused(err, "InvalidNextToken")
	_, err = b.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{NextToken: aws.String("?")})
	b.refused(err, "InvalidNextToken")
}
