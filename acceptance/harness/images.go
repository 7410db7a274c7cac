package harness

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/outscale/osc-sdk-go/v3/pkg/osc"
)

// Image is an entry of `loopcloud image list --json`.
type Image struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	State       string            `json:"state"`
	Tags        map[string]string `json:"tags"`
}

// Images returns the images of the cloud.
func (b *Cloud) Images() []Image {
	b.Helper()
	var all []Image
	if err := json.Unmarshal([]byte(b.Loopcloud("image", "list", "--endpoint", b.Endpoint, "--json")), &all); err != nil {
		b.Fatal(err)
	}
	return all
}

// Made is the one image of the cloud that a build made.
func (b *Cloud) Made() Image {
	b.Helper()
	var made []Image
	for _, img := range b.Images() {
		if img.ID != SourceID {
			made = append(made, img)
		}
	}
	if len(made) != 1 {
		b.Fatalf("builds made %d images, not one: %v", len(made), made)
	}
	return made[0]
}

// BuiltFrom is the one image that a build made of a source.
func (b *Cloud) BuiltFrom(source string) Image {
	b.Helper()
	var made []Image
	for _, img := range b.Images() {
		if img.ID != SourceID && img.ID != source {
			made = append(made, img)
		}
	}
	if len(made) != 1 {
		b.Fatalf("builds made %d images, not one: %v", len(made), made)
	}
	return made[0]
}

// Describe reads an image through EC2.
func (b *Cloud) Describe(id string) types.Image {
	b.Helper()
	out, err := b.Client().DescribeImages(context.Background(), &ec2.DescribeImagesInput{ImageIds: []string{id}})
	b.Must(err)
	return out.Images[0]
}

// Remove deregisters an image and deletes its snapshots.
func (b *Cloud) Remove(id string) {
	b.Helper()
	ctx, c := context.Background(), b.Client()
	img := b.Describe(id)
	_, err := c.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: aws.String(id)})
	b.Must(err)
	for _, m := range img.BlockDeviceMappings {
		if m.Ebs != nil && m.Ebs.SnapshotId != nil {
			_, err := c.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: m.Ebs.SnapshotId})
			b.Must(err)
		}
	}
}

// OwnImages returns all images of the account in a region.
func (b *Cloud) OwnImages(region string) []types.Image {
	b.Helper()
	out, err := b.ClientIn(region).DescribeImages(context.Background(), &ec2.DescribeImagesInput{
		Owners: []string{"self"}, IncludeDeprecated: aws.Bool(true), IncludeDisabled: aws.Bool(true),
	})
	b.Must(err)
	return out.Images
}

// OutscaleImage reads the account's image of a name through the Outscale API.
func (b *Cloud) OutscaleImage(name string) osc.Image {
	b.Helper()
	got, err := b.Outscale().ReadImages(b.Context(), osc.ReadImagesRequest{Filters: &osc.FiltersImage{ImageNames: &[]string{name}}})
	b.Must(err)
	if n := len(*got.Images); n != 1 {
		b.Fatalf("there are %d images named %q, not one", n, name)
	}
	return (*got.Images)[0]
}

// OutscaleSnapshot reads the snapshot of an image's root device.
func (b *Cloud) OutscaleSnapshot(i osc.Image) osc.Snapshot {
	b.Helper()
	for _, m := range *i.BlockDeviceMappings {
		if *m.DeviceName != *i.RootDeviceName {
			continue
		}
		got, err := b.Outscale().ReadSnapshots(b.Context(), osc.ReadSnapshotsRequest{Filters: &osc.FiltersSnapshot{SnapshotIds: &[]string{*m.Bsu.SnapshotId}}})
		b.Must(err)
		return (*got.Snapshots)[0]
	}
	b.Fatalf("image %s has no root device", i.ImageId)
	panic("unreachable")
}

// ForeignImage copies the source to the other account, and shares it, with its snapshot
// if so wanted.
func (b *Cloud) ForeignImage(name string, withSnapshot bool) string {
	b.Helper()
	ctx, mine, theirs, from := b.Context(), b.Outscale(), b.OutscaleAs(OtherKeyID), Region
	all := true
	everybody := osc.PermissionsOnResourceCreation{Additions: &osc.PermissionsOnResource{GlobalPermission: &all}}
	source := b.OutscaleImage("busybox")
	_, err := mine.UpdateImage(ctx, osc.UpdateImageRequest{ImageId: source.ImageId, PermissionsToLaunch: &everybody})
	b.Must(err)
	_, err = mine.UpdateSnapshot(ctx, osc.UpdateSnapshotRequest{SnapshotId: b.OutscaleSnapshot(source).SnapshotId, PermissionsToCreateVolume: everybody})
	b.Must(err)
	copied, err := theirs.CreateImage(ctx, osc.CreateImageRequest{ImageName: &name, SourceImageId: &source.ImageId, SourceRegionName: &from})
	b.Must(err)
	_, err = theirs.UpdateImage(ctx, osc.UpdateImageRequest{ImageId: copied.Image.ImageId, PermissionsToLaunch: &everybody})
	b.Must(err)
	if withSnapshot {
		for _, m := range *copied.Image.BlockDeviceMappings {
			_, err := theirs.UpdateSnapshot(ctx, osc.UpdateSnapshotRequest{SnapshotId: *m.Bsu.SnapshotId, PermissionsToCreateVolume: everybody})
			b.Must(err)
		}
	}
	return copied.Image.ImageId
}

// UefiVariables are an image's, in base64.
const UefiVariables = "QU1aTlVFRkk="

// SecureBootImage registers an image of the account that boots by UEFI, with a TPM and with the
// keys of Secure Boot.
func (b *Cloud) SecureBootImage(name string) string {
	b.Helper()
	out, err := b.Client().RegisterImage(context.Background(), &ec2.RegisterImageInput{
		Name: aws.String(name), Architecture: b.Describe(SourceID).Architecture, VirtualizationType: aws.String("hvm"), RootDeviceName: aws.String("/dev/sda1"),
		BootMode: types.BootModeValuesUefi, TpmSupport: types.TpmSupportValuesV20, UefiData: aws.String(UefiVariables),
		BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: aws.String(b.SourceSnapshot())},
		}},
	})
	b.Must(err)
	return aws.ToString(out.ImageId)
}

// SourceSnapshot is the snapshot of the source image.
func (b *Cloud) SourceSnapshot() string {
	b.Helper()
	return aws.ToString(b.Describe(SourceID).BlockDeviceMappings[0].Ebs.SnapshotId)
}
