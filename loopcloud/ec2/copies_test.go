package ec2_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// TestCopyInherits checks that a copy has the attributes that instances need, and is not
// shared.
func TestCopyInherits(t *testing.T) {
	b := newSlowBox(t, state.Timing{Copy: time.Minute})
	id := b.image("source", func(in *sdk.RegisterImageInput) {
		in.BootMode, in.UefiData, in.TpmSupport, in.ImdsSupport = "uefi", aws.String("QUJD"), "v2.0", "v2.0"
		in.EnaSupport, in.SriovNetSupport = aws.Bool(true), aws.String("simple")
	})
	b.launch(id, types.LaunchPermission{UserId: aws.String(bob)})
	there := b.as(alice, other)
	copied := *must(there.CopyImage(ctx, &sdk.CopyImageInput{SourceImageId: &id, SourceRegion: aws.String(region), Name: aws.String("copy")}))(b).ImageId
	describe := &sdk.DescribeImagesInput{Filters: []types.Filter{filter("source-image-id", id), filter("source-image-region", region)}}
	found := must(there.DescribeImages(ctx, describe))(b).Images
	if len(found) != 1 || *found[0].ImageId != copied || found[0].State != types.ImageStatePending {
		t.Fatalf("got %+v", found)
	}
	b.clock.Pass(time.Minute)
	i := must(there.DescribeImages(ctx, describe))(b).Images[0]
	if i.State != types.ImageStateAvailable || i.BootMode != "uefi" || i.TpmSupport != "v2.0" || i.ImdsSupport != "v2.0" ||
		!*i.EnaSupport || *i.SriovNetSupport != "simple" || i.Architecture != types.ArchitectureValuesX8664 {
		t.Errorf("got %+v", i)
	}
	attribute := func(name types.ImageAttributeName) *sdk.DescribeImageAttributeOutput {
		return must(there.DescribeImageAttribute(ctx, &sdk.DescribeImageAttributeInput{ImageId: &copied, Attribute: name}))(b)
	}
	if got := attribute("uefiData").UefiData; *got.Value != "QUJD" {
		t.Errorf("its UEFI data is %s", *got.Value)
	}
	if got := attribute("launchPermission").LaunchPermissions; len(got) != 0 {
		t.Errorf("it is shared with %+v", got)
	}
}

// TestProgressOfCopy checks that a pending copy does not list its snapshots; their
// descriptions and progress refer to it.
func TestProgressOfCopy(t *testing.T) {
	b := newSlowBox(t, state.Timing{Copy: time.Hour})
	id := b.image("source")
	there := b.as(alice, other)
	copied := *must(there.CopyImage(ctx, &sdk.CopyImageInput{SourceImageId: &id, SourceRegion: aws.String(region), Name: aws.String("copy")}))(b).ImageId
	listed := func() string {
		b.Helper()
		i := must(there.DescribeImages(ctx, &sdk.DescribeImagesInput{ImageIds: []string{copied}}))(b).Images[0]
		return aws.ToString(i.BlockDeviceMappings[0].Ebs.SnapshotId)
	}
	made := func() types.Snapshot {
		b.Helper()
		all := must(there.DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{
			OwnerIds: []string{"self"}, Filters: []types.Filter{filter("description", "Copied for DestinationAmi "+copied+" *")},
		}))(b).Snapshots
		if len(all) != 1 {
			b.Fatalf("the copy has the snapshots %+v", all)
		}
		return all[0]
	}
	for _, progress := range []string{"0%", "50%"} {
		if s := made(); listed() != "" || *s.Progress != progress || s.State != types.SnapshotStatePending {
			t.Errorf("at %s, the image lists %q, and its snapshot is %s at %s", progress, listed(), s.State, *s.Progress)
		}
		b.clock.Pass(30 * time.Minute)
	}
	if s := made(); listed() != *s.SnapshotId || *s.Progress != "100%" {
		t.Errorf("the image lists %q, and its snapshot is %s at %s", listed(), *s.SnapshotId, *s.Progress)
	}
}

// TestCopyOfShared checks that permission to launch an image does not include copying it
// unless the snapshots are shared too.
func TestCopyOfShared(t *testing.T) {
	b := newBox(t)
	id := b.image("shared")
	b.launch(id, types.LaunchPermission{UserId: aws.String(bob)})
	bobs := b.as(bob, other)
	in := &sdk.CopyImageInput{SourceImageId: &id, SourceRegion: aws.String(region), Name: aws.String("copy"), CopyImageTags: aws.Bool(true)}
	_, err := bobs.CopyImage(ctx, in)
	b.refused(err, "InvalidRequest", "You do not have permission to access the storage of this ami")
	b.share(*b.described(id).BlockDeviceMappings[0].Ebs.SnapshotId, types.CreateVolumePermission{UserId: aws.String(bob)})
	must(bobs.CopyImage(ctx, in))(b)
}

func TestCopyTakesItsTime(t *testing.T) {
	b := newBox(t)
	id := b.image("source")
	snapshot := b.snapshot()
	for minutes, good := range map[int64]bool{15: true, 30: true, 2880: true, 0: false, 14: false, 20: false, 2895: false, -15: false} {
		image := &sdk.CopyImageInput{
			SourceImageId: &id, SourceRegion: aws.String(region), Name: aws.String("copy " + strconv.FormatInt(minutes, 10)),
			SnapshotCopyCompletionDurationMinutes: &minutes,
		}
		_, imageErr := b.client.CopyImage(ctx, image)
		_, err := b.client.CopySnapshot(ctx, &sdk.CopySnapshotInput{
			SourceSnapshotId: &snapshot, SourceRegion: aws.String(region), CompletionDurationMinutes: aws.Int32(int32(minutes)),
		})
		if good && (imageErr != nil || err != nil) {
			t.Errorf("%d minutes: %v, %v", minutes, imageErr, err)
		}
		if !good {
			b.refused(imageErr, "InvalidParameterValue")
			b.refused(err, "InvalidParameterValue")
		}
	}
}

// TestMissingKey checks that a copy with a missing key fails later, because EC2 responds
// before it looks up the key.
func TestMissingKey(t *testing.T) {
	b := newBox(t)
	id := b.image("source")
	key := aws.String("alias/missing")
	v := must(b.client.CreateVolume(ctx, &sdk.CreateVolumeInput{
		AvailabilityZone: aws.String(zone), Size: aws.Int32(1), Encrypted: aws.Bool(true), KmsKeyId: key,
	}))(b)
	_, err := b.client.DescribeVolumes(ctx, &sdk.DescribeVolumesInput{VolumeIds: []string{*v.VolumeId}})
	b.refused(err, "InvalidVolume.NotFound", *v.VolumeId)
	copied := must(b.client.CopyImage(ctx, &sdk.CopyImageInput{
		SourceImageId: &id, SourceRegion: aws.String(region), Name: aws.String("copy"), Encrypted: aws.Bool(true), KmsKeyId: key,
	}))(b)
	i := b.described(*copied.ImageId)
	if i.State != types.ImageStateFailed || i.StateReason == nil || *i.StateReason.Message != "Given key ID is not accessible" {
		t.Errorf("the copy is %+v", i)
	}
	snapshots := must(b.client.DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{SnapshotIds: []string{*i.BlockDeviceMappings[0].Ebs.SnapshotId}}))(b).Snapshots
	if s := snapshots[0]; s.State != types.SnapshotStateError || *s.StateMessage != "Given key ID is not accessible" {
		t.Errorf("its snapshot is %+v", s)
	}
}
