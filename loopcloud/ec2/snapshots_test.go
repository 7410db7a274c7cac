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

func snapshotIDs(snapshots []types.Snapshot) []string {
	return ids(snapshots, func(s types.Snapshot) *string { return s.SnapshotId })
}

// TestSnapshotLife follows a snapshot from pending until it is removed.
func TestSnapshotLife(t *testing.T) {
	b := newSlowBox(t, state.Timing{Snapshot: 10 * time.Second})
	volume := b.volume()
	created := must(b.client.CreateSnapshot(ctx, &sdk.CreateSnapshotInput{
		VolumeId: &volume, Description: aws.String("before the upgrade"),
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeSnapshot, Tags: []types.Tag{tag("Name", "root")}}},
	}))(b)
	id := *created.SnapshotId
	if created.State != types.SnapshotStatePending || *created.VolumeId != volume || *created.VolumeSize != 8 ||
		*created.OwnerId != alice || *created.Description != "before the upgrade" || *created.Tags[0].Key != "Name" {
		t.Errorf("created %+v", created)
	}
	b.clock.Pass(5 * time.Second)
	describe := &sdk.DescribeSnapshotsInput{SnapshotIds: []string{id}}
	if s := must(b.client.DescribeSnapshots(ctx, describe))(b).Snapshots[0]; s.State != types.SnapshotStatePending || *s.Progress != "50%" {
		t.Errorf("half way: %s, %s", s.State, *s.Progress)
	}
	b.clock.Pass(5 * time.Second)
	if s := must(b.client.DescribeSnapshots(ctx, describe))(b).Snapshots[0]; s.State != types.SnapshotStateCompleted || *s.Progress != "100%" || !s.StartTime.Equal(*created.StartTime) {
		t.Errorf("at the end: %+v", s)
	}
	_, err := b.client.DeleteSnapshot(ctx, &sdk.DeleteSnapshotInput{SnapshotId: &id, DryRun: aws.Bool(true)})
	b.refused(err, "DryRunOperation")
	must(b.client.DeleteSnapshot(ctx, &sdk.DeleteSnapshotInput{SnapshotId: &id}))(b)
	_, err = b.client.DescribeSnapshots(ctx, describe)
	b.refused(err, "InvalidSnapshot.NotFound", id)
	_, err = b.client.DeleteSnapshot(ctx, &sdk.DeleteSnapshotInput{SnapshotId: &id})
	b.refused(err, "InvalidSnapshot.NotFound", id)
}

func TestCreateSnapshotRefusals(t *testing.T) {
	b := newBox(t)
	volume := b.volume()
	spec := func(kind types.ResourceType, tags ...types.Tag) []types.TagSpecification {
		return []types.TagSpecification{{ResourceType: kind, Tags: tags}}
	}
	tests := map[string]struct {
		in   sdk.CreateSnapshotInput
		code string
	}{
		"absent volume":    {sdk.CreateSnapshotInput{VolumeId: aws.String(absent)}, "InvalidVolume.NotFound"},
		"volume id":        {sdk.CreateSnapshotInput{VolumeId: aws.String("vol-0123456z")}, "InvalidVolumeID.Malformed"},
		"tags of a volume": {sdk.CreateSnapshotInput{VolumeId: &volume, TagSpecifications: spec("volume", tag("a", "b"))}, "InvalidParameterValue"},
		"reserved tag":     {sdk.CreateSnapshotInput{VolumeId: &volume, TagSpecifications: spec("snapshot", tag("aws:a", "b"))}, "InvalidParameterValue"},
		"tag twice":        {sdk.CreateSnapshotInput{VolumeId: &volume, TagSpecifications: spec("snapshot", tag("a", "b"), tag("a", "c"))}, "InvalidParameterValue"},
		"type twice":       {sdk.CreateSnapshotInput{VolumeId: &volume, TagSpecifications: append(spec("snapshot", tag("a", "b")), spec("snapshot", tag("c", "d"))...)}, "InvalidParameterValue"},
		"no tags":          {sdk.CreateSnapshotInput{VolumeId: &volume, TagSpecifications: spec("snapshot")}, "InvalidTagKey.Malformed"},
		"no id":            {sdk.CreateSnapshotInput{VolumeId: aws.String("standard")}, "InvalidParameterValue"},
		"dry run":          {sdk.CreateSnapshotInput{VolumeId: &volume, DryRun: aws.Bool(true)}, "DryRunOperation"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			_, err := b.client.CreateSnapshot(ctx, &test.in)
			b.refused(err, test.code)
		})
	}
}

func TestDescribeSnapshots(t *testing.T) {
	b := newBox(t)
	private, shared, public := b.snapshot(), b.snapshot(), b.snapshot()
	b.share(shared, types.CreateVolumePermission{UserId: aws.String(bob)})
	b.share(public, types.CreateVolumePermission{Group: types.PermissionGroupAll})
	for name, test := range map[string]struct {
		account string
		in      sdk.DescribeSnapshotsInput
		want    []string
	}{
		"alice's":      {alice, sdk.DescribeSnapshotsInput{OwnerIds: []string{"self"}}, []string{private, shared, public}},
		"bob sees":     {bob, sdk.DescribeSnapshotsInput{}, []string{shared, public}},
		"bob's":        {bob, sdk.DescribeSnapshotsInput{OwnerIds: []string{"self"}}, nil},
		"alice by id":  {bob, sdk.DescribeSnapshotsInput{OwnerIds: []string{bob, alice}}, []string{shared, public}},
		"amazon's":     {bob, sdk.DescribeSnapshotsInput{OwnerIds: []string{"amazon"}}, nil},
		"for bob":      {bob, sdk.DescribeSnapshotsInput{RestorableByUserIds: []string{"self"}}, []string{shared}},
		"for all":      {bob, sdk.DescribeSnapshotsInput{RestorableByUserIds: []string{"all"}}, []string{public}},
		"id and owner": {bob, sdk.DescribeSnapshotsInput{SnapshotIds: []string{shared, public}, Filters: []types.Filter{filter("owner-id", alice), filter("snapshot-id", shared)}}, []string{shared}},
		"filters":      {alice, sdk.DescribeSnapshotsInput{Filters: []types.Filter{filter("status", "completed"), filter("progress", "100%"), filter("volume-size", "8"), filter("encrypted", "false"), filter("storage-tier", "standard"), filter("start-time", "2026*"), filter("volume-id", "vol-*")}}, []string{private, shared, public}},
		"no match":     {alice, sdk.DescribeSnapshotsInput{Filters: []types.Filter{filter("description", "*")}}, nil},
		"alias":        {alice, sdk.DescribeSnapshotsInput{Filters: []types.Filter{filter("owner-alias", "amazon")}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			out := must(b.as(test.account, region).DescribeSnapshots(ctx, &test.in))(b)
			if got := snapshotIDs(out.Snapshots); !slices.Equal(got, sorted(test.want...)) && len(got)+len(test.want) > 0 {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	_, err := b.as(bob, region).DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{SnapshotIds: []string{private}})
	b.refused(err, "InvalidSnapshot.NotFound", private)
	_, err = b.client.DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{OwnerIds: []string{"nobody"}})
	b.refused(err, "InvalidUserID.Malformed", "nobody")
	_, err = b.client.DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{Filters: []types.Filter{filter("state", "completed")}})
	b.refused(err, "InvalidParameterValue", "The filter 'state' is invalid")
	_, err = b.client.DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{MaxResults: aws.Int32(1)})
	b.refused(err, "InvalidParameterValue")
}

func (b *box) share(snapshot string, with ...types.CreateVolumePermission) {
	b.Helper()
	must(b.client.ModifySnapshotAttribute(ctx, &sdk.ModifySnapshotAttributeInput{
		SnapshotId: &snapshot, CreateVolumePermission: &types.CreateVolumePermissionModifications{Add: with},
	}))(b)
}

func TestSnapshotAttributes(t *testing.T) {
	b := newBox(t)
	id := b.snapshot()
	modify := func(in sdk.ModifySnapshotAttributeInput) error {
		in.SnapshotId = &id
		_, err := b.client.ModifySnapshotAttribute(ctx, &in)
		return err
	}
	sharedWith := func() []string {
		out := must(b.client.DescribeSnapshotAttribute(ctx, &sdk.DescribeSnapshotAttributeInput{SnapshotId: &id, Attribute: types.SnapshotAttributeNameCreateVolumePermission}))(b)
		return ids(out.CreateVolumePermissions, func(p types.CreateVolumePermission) *string {
			return aws.String(aws.ToString(p.UserId) + string(p.Group))
		})
	}
	const permission = types.SnapshotAttributeNameCreateVolumePermission
	for _, step := range []struct {
		in   sdk.ModifySnapshotAttributeInput
		want []string
	}{
		{sdk.ModifySnapshotAttributeInput{Attribute: permission, OperationType: types.OperationTypeAdd, UserIds: []string{bob, amazon}}, []string{bob, amazon}},
		{sdk.ModifySnapshotAttributeInput{OperationType: types.OperationTypeRemove, UserIds: []string{bob}}, []string{amazon}},
		{sdk.ModifySnapshotAttributeInput{OperationType: types.OperationTypeAdd, GroupNames: []string{"all"}}, []string{amazon, "all"}},
		{sdk.ModifySnapshotAttributeInput{CreateVolumePermission: &types.CreateVolumePermissionModifications{
			Add:    []types.CreateVolumePermission{{UserId: aws.String(bob)}},
			Remove: []types.CreateVolumePermission{{Group: types.PermissionGroupAll}, {UserId: aws.String(amazon)}},
		}}, []string{bob}},
	} {
		if err := modify(step.in); err != nil {
			t.Fatal(err)
		}
		if got := sharedWith(); !slices.Equal(got, sorted(step.want...)) {
			t.Errorf("shared with %v, want %v", got, step.want)
		}
	}
	b.refused(modify(sdk.ModifySnapshotAttributeInput{}), "MissingParameter")
	b.refused(modify(sdk.ModifySnapshotAttributeInput{UserIds: []string{bob}}), "MissingParameter", "OperationType")
	b.refused(modify(sdk.ModifySnapshotAttributeInput{UserIds: []string{bob}, OperationType: "grow"}), "InvalidParameterValue", "grow")
	b.refused(modify(sdk.ModifySnapshotAttributeInput{UserIds: []string{"bob"}, OperationType: "add"}), "InvalidAMIAttributeItemValue", "bob")
	b.refused(modify(sdk.ModifySnapshotAttributeInput{GroupNames: []string{"some"}, OperationType: "add"}), "InvalidAMIAttributeItemValue", "some")
	b.refused(modify(sdk.ModifySnapshotAttributeInput{Attribute: "productCodes", UserIds: []string{bob}, OperationType: "add"}), "InvalidParameterValue")
	b.refused(modify(sdk.ModifySnapshotAttributeInput{DryRun: aws.Bool(true), UserIds: []string{bob}, OperationType: "add"}), "DryRunOperation")
	codes := must(b.client.DescribeSnapshotAttribute(ctx, &sdk.DescribeSnapshotAttributeInput{SnapshotId: &id, Attribute: types.SnapshotAttributeNameProductCodes}))(b)
	if *codes.SnapshotId != id || len(codes.ProductCodes) != 0 {
		t.Errorf("got %+v", codes)
	}
	_, err := b.client.DescribeSnapshotAttribute(ctx, &sdk.DescribeSnapshotAttributeInput{SnapshotId: &id, Attribute: "colour"})
	b.refused(err, "InvalidParameterValue", "colour")
	_, err = b.as(bob, region).DescribeSnapshotAttribute(ctx, &sdk.DescribeSnapshotAttributeInput{SnapshotId: &id, Attribute: permission})
	b.refused(err, "AuthFailure", id)
	_, err = b.as(bob, region).DeleteSnapshot(ctx, &sdk.DeleteSnapshotInput{SnapshotId: &id})
	b.refused(err, "AuthFailure", id)
}

func TestCopySnapshot(t *testing.T) {
	b := newBox(t)
	id := b.snapshot()
	there := b.as(alice, other)
	// The SDK adds a URL presigned for the source region, which is verified.
	created := &sdk.CopySnapshotInput{
		SourceRegion: aws.String(region), SourceSnapshotId: &id, Description: aws.String("copy"),
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeSnapshot, Tags: []types.Tag{tag("k", "v")}}},
	}
	copied := must(there.CopySnapshot(ctx, created))(b)
	if *copied.SnapshotId == id || *copied.Tags[0].Value != "v" {
		t.Errorf("got %+v", copied)
	}
	out := must(there.DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{SnapshotIds: []string{*copied.SnapshotId}}))(b)
	if s := out.Snapshots[0]; *s.Description != "copy" || *s.VolumeSize != 8 || *s.VolumeId != "vol-ffffffff" {
		t.Errorf("got %+v", s)
	}
	source := must(b.client.DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{SnapshotIds: []string{id}}))(b).Snapshots[0].VolumeId
	of := &sdk.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: []types.Filter{filter("volume-id", *source)}}
	if found := must(there.DescribeSnapshots(ctx, of))(b).Snapshots; len(found) != 0 {
		t.Errorf("the source's volume has the snapshots %+v", found)
	}
	for code, change := range map[string]func(*sdk.CopySnapshotInput){
		"AuthFailure":              func(in *sdk.CopySnapshotInput) { in.SourceRegion = aws.String("mars-1") },
		"InvalidSnapshot.NotFound": func(in *sdk.CopySnapshotInput) { in.SourceRegion = aws.String(other) },
		"IncompleteSignature":      func(in *sdk.CopySnapshotInput) { in.PresignedUrl = aws.String("http://x/?X-Amz-Algorithm=x") },
		"InvalidParameterValue": func(in *sdk.CopySnapshotInput) {
			in.PresignedUrl = created.PresignedUrl
			in.SourceRegion = aws.String(other)
		},
		"MissingParameter": func(in *sdk.CopySnapshotInput) { in.SourceSnapshotId = aws.String("") },
		"DryRunOperation":  func(in *sdk.CopySnapshotInput) { in.DryRun = aws.Bool(true) },
	} {
		bad := &sdk.CopySnapshotInput{SourceRegion: aws.String(region), SourceSnapshotId: &id}
		change(bad)
		_, err := there.CopySnapshot(ctx, bad)
		b.refused(err, code)
	}
}
