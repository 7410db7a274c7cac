package amazon

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Image reads an image. One that was just registered and that EC2 does not tell
// of yet is pending.
func (c *Cloud) Image(ctx context.Context, id bake.ImageID) (bake.Image, error) {
	found, err := c.client.image(ctx, string(id))
	if c.notShownYet(string(id), err) {
		return bake.Image{ID: id, State: bake.ImagePending}, nil
	}
	if err != nil {
		return bake.Image{}, err
	}
	c.shown(string(id))
	image := imageOf(found)
	if image.State == bake.ImageAvailable {
		c.compareBilling(found)
	}
	return image, nil
}

// image reads an image, deprecated or not; an error wraps bake.ErrNotFound if
// there is none, or it was deregistered.
func (c *Client) image(ctx context.Context, id string) (types.Image, error) {
	out, err := c.ec2.DescribeImages(ctx, &ec2.DescribeImagesInput{
		ImageIds: []string{id}, IncludeDeprecated: aws.Bool(true),
	})
	if hasCode(err, codeImageNotFound, codeImageUnavailable) {
		return types.Image{}, notFound("image", id)
	}
	if err != nil {
		return types.Image{}, c.cannot(err, "read image %s", id)
	}
	if len(out.Images) == 0 || out.Images[0].State == types.ImageStateDeregistered {
		return types.Image{}, notFound("image", id)
	}
	if n := len(out.Images); n > 1 {
		return types.Image{}, fmt.Errorf("%d images answer to the id %s, not one", n, id)
	}
	image := out.Images[0]
	if err := checkID("image", id, image.ImageId); err != nil {
		return types.Image{}, err
	}
	image.ImageId = aws.String(id)
	return image, nil
}

// ownImages lists the account's images that fulfil the filters.
func (c *Client) ownImages(ctx context.Context, filters ...types.Filter) ([]types.Image, error) {
	return c.images(ctx, &ec2.DescribeImagesInput{
		Owners: []string{"self"}, Filters: filters, IncludeDeprecated: aws.Bool(true), IncludeDisabled: aws.Bool(true),
	})
}

// images lists all the images that a request asks for.
func (c *Client) images(ctx context.Context, in *ec2.DescribeImagesInput) ([]types.Image, error) {
	if len(in.ImageIds) == 0 {
		in.MaxResults = aws.Int32(pageSize)
	}
	all, err := pages("DescribeImages", func(token *string) ([]types.Image, *string, error) {
		in.NextToken = token
		out, err := c.ec2.DescribeImages(ctx, in)
		if err != nil {
			return nil, nil, err
		}
		return out.Images, out.NextToken, nil
	})
	return slices.DeleteFunc(all, func(image types.Image) bool { return image.State == types.ImageStateDeregistered }), err
}

// imageOf translates EC2's description of an image.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Image.html
func imageOf(i types.Image) bake.Image {
	image := bake.Image{
		ID:             bake.ImageID(aws.ToString(i.ImageId)),
		Name:           aws.ToString(i.Name),
		State:          imageState(i.State),
		Owner:          aws.ToString(i.OwnerId),
		OwnerName:      aws.ToString(i.ImageOwnerAlias),
		Created:        aws.ToString(i.CreationDate),
		Begun:          moment(aws.ToString(i.CreationDate)),
		CopyOf:         bake.ImageID(aws.ToString(i.SourceImageId)),
		Architecture:   string(i.Architecture),
		Virtualization: string(i.VirtualizationType),
		RootDevice:     aws.ToString(i.RootDeviceName),
		Snapshots:      snapshotsOf(i),
		Tags:           tagsOf(i.Tags),
	}
	if image.State == bake.ImageFailed {
		image.Reason = reason(i)
	}
	if root, ok := rootDevice(i); ok {
		image.Root = bake.RootVolume{
			Snapshot:   bake.SnapshotID(aws.ToString(root.SnapshotId)),
			SizeGiB:    number(root.VolumeSize),
			Type:       string(root.VolumeType),
			IOPS:       number(root.Iops),
			Throughput: number(root.Throughput),
		}
	}
	return image
}

// imageState translates the state of an image. States that are neither usable nor pending count as
// failed: invalid, error, disabled.
func imageState(state types.ImageState) bake.ImageState {
	switch state {
	case types.ImageStateAvailable:
		return bake.ImageAvailable
	case types.ImageStatePending, types.ImageStateTransient, "":
		return bake.ImagePending
	default:
		return bake.ImageFailed
	}
}

// reason is why an image failed: EC2's words, or else its state.
func reason(i types.Image) string {
	if i.StateReason != nil && aws.ToString(i.StateReason.Message) != "" {
		return aws.ToString(i.StateReason.Message)
	}
	return string(i.State)
}

// rootDevice finds the EBS volume of an image's root device among its mappings.
func rootDevice(i types.Image) (types.EbsBlockDevice, bool) {
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs != nil && sameDevice(aws.ToString(m.DeviceName), aws.ToString(i.RootDeviceName)) {
			return *m.Ebs, true
		}
	}
	return types.EbsBlockDevice{}, false
}

// snapshotsOf lists the snapshots of an image's block devices, the root's first.
func snapshotsOf(i types.Image) []bake.SnapshotID {
	var roots, others []bake.SnapshotID
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs == nil || aws.ToString(m.Ebs.SnapshotId) == "" {
			continue
		}
		id := bake.SnapshotID(*m.Ebs.SnapshotId)
		if sameDevice(aws.ToString(m.DeviceName), aws.ToString(i.RootDeviceName)) {
			roots = append(roots, id)
		} else {
			others = append(others, id)
		}
	}
	return append(roots, others...)
}

// Named lists the account's images that have exactly this name in the region. The descriptions are
// kept for Record, which bake calls next.
func (c *Cloud) Named(ctx context.Context, name string) ([]bake.ImageID, error) {
	images, err := c.named(ctx, name)
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.listed)
	for _, image := range images {
		c.listed[aws.ToString(image.ImageId)] = image
	}
	return idsOf[bake.ImageID](images, imageID), err
}

// named lists the account's images of a name. The filter takes * and ? for any
// characters, so EC2 may find others too.
func (c *Cloud) named(ctx context.Context, name string) ([]types.Image, error) {
	images, err := c.client.ownImages(ctx, filter("name", name))
	if err != nil {
		return nil, c.client.cannot(err, "look for images named %q in region %s", name, c.client.Region())
	}
	return slices.DeleteFunc(images, func(image types.Image) bool { return aws.ToString(image.Name) != name }), nil
}

// FindImages lists the account's images with the snapshot among their block
// devices.
func (c *Cloud) FindImages(ctx context.Context, snapshot bake.SnapshotID) ([]bake.ImageID, error) {
	images, err := c.client.ownImages(ctx, filter("block-device-mapping.snapshot-id", string(snapshot)))
	if err != nil {
		return nil, c.client.cannot(err, "list the images that use %s", snapshot)
	}
	uses := func(image types.Image) bool { return slices.Contains(snapshotsOf(image), snapshot) }
	images = slices.DeleteFunc(images, func(image types.Image) bool { return !uses(image) })
	return idsOf[bake.ImageID](images, imageID), nil
}

// Deregister removes an image; its snapshots stay. An image that this build has
// protected loses its protection first; one with a cooldown EC2 keeps for a day
// all the same.
func (c *Cloud) Deregister(ctx context.Context, id bake.ImageID) error {
	if err := c.unprotect(ctx, string(id)); err != nil {
		return err
	}
	_, err := c.client.ec2.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: aws.String(string(id))})
	late := hasCode(err, codeImageNotFound, codeImageUnavailable) && c.hasImage(ctx, id)
	if err != nil && (late || !hasCode(err, codeImageNotFound, codeImageUnavailable)) {
		return unsettledIf(late, c.withCooldownHint(c.client.cannot(err, "deregister image %s", id)))
	}
	c.shown(string(id))
	return nil
}
