package ec2_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// managedKey returns the ARN of the key that AWS manages for an account in a region.
func managedKey(account, region string) string {
	return state.KeyARN(state.Caller{Account: account, Region: region}, state.DefaultKeyAlias)
}

// shareImage shares an image.
func (b *box) shareImage(id string, with types.LaunchPermission) error {
	_, err := b.client.ModifyImageAttribute(ctx, &sdk.ModifyImageAttributeInput{
		ImageId: aws.String(id), LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{with}},
	})
	return err
}

// shareSnapshot shares a snapshot.
func (b *box) shareSnapshot(id string, with types.CreateVolumePermission) error {
	_, err := b.client.ModifySnapshotAttribute(ctx, &sdk.ModifySnapshotAttributeInput{
		SnapshotId: aws.String(id), CreateVolumePermission: &types.CreateVolumePermissionModifications{Add: []types.CreateVolumePermission{with}},
	})
	return err
}

// TestEncryptionByDefault checks that encryption by default applies to one region and uses the
// account's default key there.
func TestEncryptionByDefault(t *testing.T) {
	b := newBox(t)
	plain := b.image("plain")
	if must(b.client.EnableEbsEncryptionByDefault(ctx, nil))(b); !*must(b.client.GetEbsEncryptionByDefault(ctx, nil))(b).EbsEncryptionByDefault {
		t.Error("encryption by default is off")
	}
	if key := *must(b.client.GetEbsDefaultKmsKeyId(ctx, nil))(b).KmsKeyId; key != "alias/aws/ebs" {
		t.Errorf("the default key is %s", key)
	}
	if v := must(b.client.CreateVolume(ctx, oneGiB()))(b); !*v.Encrypted || *v.KmsKeyId != managedKey(alice, region) {
		t.Errorf("the volume is encrypted: %t, with %s", *v.Encrypted, aws.ToString(v.KmsKeyId))
	}
	own := *must(b.client.ModifyEbsDefaultKmsKeyId(ctx, &sdk.ModifyEbsDefaultKmsKeyIdInput{KmsKeyId: aws.String("alias/own")}))(b).KmsKeyId
	if v := must(b.client.CreateVolume(ctx, oneGiB()))(b); *v.KmsKeyId != own || *must(b.client.GetEbsDefaultKmsKeyId(ctx, nil))(b).KmsKeyId != own {
		t.Errorf("the key is %s, want %s", *v.KmsKeyId, own)
	}
	if v := must(b.as(bob, region).CreateVolume(ctx, oneGiB()))(b); *v.Encrypted {
		t.Error("another account's volume is encrypted")
	}
	copied := b.copyTo(region, plain)
	if s := must(b.client.DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{SnapshotIds: []string{copied}}))(b).Snapshots[0]; !*s.Encrypted || *s.KmsKeyId != own {
		t.Errorf("the copy is encrypted: %t, with %s", *s.Encrypted, aws.ToString(s.KmsKeyId))
	}
	elsewhere := b.copyTo(other, plain)
	if s := must(b.as(alice, other).DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{SnapshotIds: []string{elsewhere}}))(b).Snapshots[0]; *s.Encrypted {
		t.Error("the copy in another region is encrypted")
	}
	must(b.client.ResetEbsDefaultKmsKeyId(ctx, nil))(b)
	must(b.client.DisableEbsEncryptionByDefault(ctx, nil))(b)
	if v := must(b.client.CreateVolume(ctx, oneGiB()))(b); *v.Encrypted {
		t.Error("the volume is encrypted after the setting was turned off")
	}
}

// oneGiB returns a request for a volume; the client gives each request a token.
func oneGiB() *sdk.CreateVolumeInput {
	return &sdk.CreateVolumeInput{AvailabilityZone: aws.String(zone), Size: aws.Int32(1)}
}

// copyTo copies an image to a region and returns the copy's snapshot.
func (b *box) copyTo(to, image string) string {
	b.Helper()
	there := b.as(alice, to)
	id := *must(there.CopyImage(ctx, &sdk.CopyImageInput{Name: aws.String("copy to " + to), SourceImageId: aws.String(image), SourceRegion: aws.String(region)}))(b).ImageId
	found := must(there.DescribeImages(ctx, &sdk.DescribeImagesInput{ImageIds: []string{id}}))(b).Images
	return *found[0].BlockDeviceMappings[0].Ebs.SnapshotId
}

// TestSharingOfTheEncrypted checks that snapshots encrypted with the key that AWS manages
// cannot be shared, and encrypted snapshots cannot be public.
func TestSharingOfTheEncrypted(t *testing.T) {
	b := newBox(t)
	must(b.client.EnableEbsEncryptionByDefault(ctx, nil))(b)
	image := b.image("managed")
	snapshot := *must(b.client.DescribeImages(ctx, &sdk.DescribeImagesInput{ImageIds: []string{image}}))(b).Images[0].BlockDeviceMappings[0].Ebs.SnapshotId
	b.refused(b.shareImage(image, types.LaunchPermission{UserId: aws.String(bob)}), "InvalidParameter", "AWS Managed CMK")
	b.refused(b.shareImage(image, types.LaunchPermission{OrganizationArn: aws.String("arn:aws:organizations::111111111111:organization/o-a1b2c3d4e5")}), "InvalidParameter", "AWS Managed CMK")
	b.refused(b.shareImage(image, types.LaunchPermission{Group: types.PermissionGroupAll}), "UnsupportedOperation", "publicly")
	b.refused(b.shareSnapshot(snapshot, types.CreateVolumePermission{UserId: aws.String(bob)}), "OperationNotPermitted", "default key")
	b.refused(b.shareSnapshot(snapshot, types.CreateVolumePermission{Group: types.PermissionGroupAll}), "OperationNotPermitted")
	must(b.client.ModifyEbsDefaultKmsKeyId(ctx, &sdk.ModifyEbsDefaultKmsKeyIdInput{KmsKeyId: aws.String("alias/own")}))(b)
	if err := b.shareImage(b.image("own"), types.LaunchPermission{UserId: aws.String(bob)}); err != nil {
		t.Errorf("with a key of the account's own: %v", err)
	}
}

// TestBlockPublicAccess checks that each setting prevents new public sharing in its region,
// but not sharing with accounts.
func TestBlockPublicAccess(t *testing.T) {
	b := newBox(t)
	image, snapshot := b.image("open"), b.snapshot()
	all := types.LaunchPermission{Group: types.PermissionGroupAll}
	must(b.client.EnableImageBlockPublicAccess(ctx, &sdk.EnableImageBlockPublicAccessInput{ImageBlockPublicAccessState: types.ImageBlockPublicAccessEnabledStateBlockNewSharing}))(b)
	b.refused(b.shareImage(image, all), "OperationNotPermitted", "block public access for AMIs")
	if err := b.shareImage(image, types.LaunchPermission{UserId: aws.String(bob)}); err != nil {
		t.Error(err)
	}
	if err := b.shareSnapshot(snapshot, types.CreateVolumePermission{Group: types.PermissionGroupAll}); err != nil {
		t.Error(err)
	}
	for _, s := range []types.SnapshotBlockPublicAccessState{types.SnapshotBlockPublicAccessStateBlockNewSharing, types.SnapshotBlockPublicAccessStateBlockAllSharing} {
		must(b.client.EnableSnapshotBlockPublicAccess(ctx, &sdk.EnableSnapshotBlockPublicAccessInput{State: s}))(b)
		if got := must(b.client.GetSnapshotBlockPublicAccessState(ctx, nil))(b); got.State != s || got.ManagedBy != types.ManagedByAccount {
			t.Errorf("the state is %s by %s, want %s", got.State, got.ManagedBy, s)
		}
		b.refused(b.shareSnapshot(b.snapshot(), types.CreateVolumePermission{Group: types.PermissionGroupAll}), "OperationNotPermitted", string(s))
	}
	must(b.client.DisableImageBlockPublicAccess(ctx, nil))(b)
	must(b.client.DisableSnapshotBlockPublicAccess(ctx, nil))(b)
	if got := *must(b.client.GetImageBlockPublicAccessState(ctx, nil))(b).ImageBlockPublicAccessState; got != "unblocked" {
		t.Errorf("the state is %s", got)
	}
	if err := b.shareImage(image, all); err != nil {
		t.Error(err)
	}
	must(b.st.ChangeSettings(state.Caller{Account: alice, Region: region}, func(s *state.Settings) error { s.PublicImages = 1; return nil }, false))(b)
	b.refused(b.shareImage(b.image("one more"), all), "ResourceLimitExceeded", "quota of 1")
	if err := b.shareImage(image, all); err != nil {
		t.Errorf("the one that is public: %v", err)
	}
}

// TestAllowedImages checks that images of other owners are hidden unless the owner is an
// allowed provider. The account's own images are visible.
func TestAllowedImages(t *testing.T) {
	b := newBox(t)
	own := b.image("own")
	theirs := *must(b.as(amazon, region).RegisterImage(ctx, b.imageOf(amazon)))(b).ImageId
	all := &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{Group: types.PermissionGroupAll}}}
	must(b.as(amazon, region).ModifyImageAttribute(ctx, &sdk.ModifyImageAttributeInput{ImageId: aws.String(theirs), LaunchPermission: all}))(b)
	see := func(want ...string) {
		t.Helper()
		found := must(b.client.DescribeImages(ctx, &sdk.DescribeImagesInput{}))(b).Images
		if got := ids(found, func(i types.Image) *string { return i.ImageId }); len(got) != len(want) {
			t.Errorf("images %v, want %v", got, want)
		}
	}
	for _, step := range []struct {
		state     types.AllowedImagesSettingsEnabledState
		providers []string
		want      []string
	}{
		{types.AllowedImagesSettingsEnabledStateAuditMode, nil, []string{own, theirs}},
		{types.AllowedImagesSettingsEnabledStateEnabled, nil, []string{own}},
		{types.AllowedImagesSettingsEnabledStateEnabled, []string{bob}, []string{own}},
		{types.AllowedImagesSettingsEnabledStateEnabled, []string{"amazon"}, []string{own, theirs}},
		{types.AllowedImagesSettingsEnabledStateEnabled, []string{amazon}, []string{own, theirs}},
	} {
		must(b.client.EnableAllowedImagesSettings(ctx, &sdk.EnableAllowedImagesSettingsInput{AllowedImagesSettingsState: step.state}))(b)
		must(b.client.ReplaceImageCriteriaInAllowedImagesSettings(ctx, &sdk.ReplaceImageCriteriaInAllowedImagesSettingsInput{
			ImageCriteria: []types.ImageCriterionRequest{{ImageProviders: step.providers}},
		}))(b)
		see(step.want...)
	}
	got := must(b.client.GetAllowedImagesSettings(ctx, nil))(b)
	if *got.State != "enabled" || len(got.ImageCriteria) != 1 || got.ImageCriteria[0].ImageProviders[0] != amazon {
		t.Errorf("the settings are %s %+v", *got.State, got.ImageCriteria)
	}
	must(b.client.ReplaceImageCriteriaInAllowedImagesSettings(ctx, nil))(b)
	_, err := b.client.DescribeImages(ctx, &sdk.DescribeImagesInput{ImageIds: []string{theirs}})
	b.refused(err, "InvalidAMIID.NotFound")
	must(b.client.DisableAllowedImagesSettings(ctx, nil))(b)
	see(own, theirs)
}

// imageOf returns an account's request for an image of its own snapshot.
func (b *box) imageOf(account string) *sdk.RegisterImageInput {
	b.Helper()
	client := b.as(account, region)
	v := must(client.CreateVolume(ctx, &sdk.CreateVolumeInput{AvailabilityZone: aws.String(zone), Size: aws.Int32(1)}))(b)
	s := must(client.CreateSnapshot(ctx, &sdk.CreateSnapshotInput{VolumeId: v.VolumeId}))(b)
	return &sdk.RegisterImageInput{
		Name: aws.String("of " + account), RootDeviceName: aws.String("/dev/sda1"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: s.SnapshotId}}},
	}
}

func TestInvalidAccountSettings(t *testing.T) {
	b := newBox(t)
	_, err := b.client.EnableImageBlockPublicAccess(ctx, &sdk.EnableImageBlockPublicAccessInput{ImageBlockPublicAccessState: "block-all-sharing"})
	b.refused(err, "InvalidParameterValue")
	_, err = b.client.EnableSnapshotBlockPublicAccess(ctx, &sdk.EnableSnapshotBlockPublicAccessInput{State: "unblocked"})
	b.refused(err, "InvalidParameterValue")
	_, err = b.client.EnableAllowedImagesSettings(ctx, &sdk.EnableAllowedImagesSettingsInput{AllowedImagesSettingsState: "disabled"})
	b.refused(err, "InvalidParameterValue")
	_, err = b.client.ModifyEbsDefaultKmsKeyId(ctx, &sdk.ModifyEbsDefaultKmsKeyIdInput{KmsKeyId: aws.String("no key")})
	b.refused(err, "InvalidParameterValue")
	_, err = b.client.ReplaceImageCriteriaInAllowedImagesSettings(ctx, &sdk.ReplaceImageCriteriaInAllowedImagesSettingsInput{
		ImageCriteria: []types.ImageCriterionRequest{{ImageProviders: []string{"somebody"}}},
	})
	b.refused(err, "InvalidParameterValue")
	_, err = b.client.EnableEbsEncryptionByDefault(ctx, &sdk.EnableEbsEncryptionByDefaultInput{DryRun: aws.Bool(true)})
	b.refused(err, "DryRunOperation")
	if *must(b.client.GetEbsEncryptionByDefault(ctx, nil))(b).EbsEncryptionByDefault {
		t.Error("a dry run has turned encryption on")
	}
}
