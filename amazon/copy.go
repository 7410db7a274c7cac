package amazon

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Copy asks for a copy in this region. Its client token makes a repeated call
// answer the same image, in another process too.
func (c *Cloud) Copy(ctx context.Context, spec bake.CopySpec) (bake.ImageID, error) {
	out, err := c.client.ec2.CopyImage(ctx, c.copyInput(spec))
	if hasCode(err, codeNameDuplicate) {
		return c.copied(ctx, spec, err)
	}
	what := fmt.Sprintf("copy image %s of %s to %s", spec.Source, spec.SourceRegion, c.client.Region())
	if err != nil {
		return "", c.client.cannot(err, "%s", what)
	}
	return newID[bake.ImageID](c, out.ImageId, what)
}

// copyInput returns the request for a copy. A copy inherits all other attributes, such as boot
// mode, TPM and IMDS, from its source.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/CopyingAMIs.html
func (c *Cloud) copyInput(spec bake.CopySpec) *ec2.CopyImageInput {
	in := &ec2.CopyImageInput{
		SourceImageId: aws.String(string(spec.Source)),
		SourceRegion:  aws.String(spec.SourceRegion),
		Name:          aws.String(spec.Name),
		Description:   optional(spec.Description),
		ClientToken:   aws.String(token("copy", c.client.Region(), spec)),
		KmsKeyId:      optional(spec.KMSKeyID),
		TagSpecifications: append(
			tagging(types.ResourceTypeImage, spec.ImageTags),
			tagging(types.ResourceTypeSnapshot, spec.SnapshotTags)...),
	}
	if spec.Encrypted || spec.KMSKeyID != "" {
		in.Encrypted = aws.Bool(true) // EC2 takes no key without it
	}
	if c.config.SnapshotCopyDurationMinutes != 0 {
		in.SnapshotCopyCompletionDurationMinutes = aws.Int64(c.config.SnapshotCopyDurationMinutes)
	}
	return in
}

// copied returns the copy that an earlier call made. If another image has the name, or none
// is shown to have it, the error wraps bake.ErrNameTaken.
func (c *Cloud) copied(ctx context.Context, spec bake.CopySpec, refusal error) (bake.ImageID, error) {
	images, err := c.named(ctx, spec.Name)
	if err != nil {
		return "", err
	}
	if ids := copiesOf(images, spec.Source); len(ids) > 0 {
		return ids[0], nil
	}
	return "", nameTaken(images, c.client.cannot(refusal, "copy image %s of %s to %s as %q", spec.Source, spec.SourceRegion, c.client.Region(), spec.Name))
}

// FindCopied lists the snapshots that are made with a copy. A pending image does not
// list them (observed in github.com/lstein/LibVM-EC2-Perl pull 17), but EC2 describes
// them by it.
func (c *Cloud) FindCopied(ctx context.Context, copied bake.ImageID) ([]bake.SnapshotID, error) {
	made := "Copied for DestinationAmi " + string(copied) + " "
	all, err := c.client.snapshots(ctx, &ec2.DescribeSnapshotsInput{
		OwnerIds: []string{"self"}, Filters: []types.Filter{filter("description", made+"*")},
	})
	if err != nil {
		return nil, c.client.cannot(err, "list the snapshots of the copy %s", copied)
	}
	own := slices.DeleteFunc(all, func(s types.Snapshot) bool { return !strings.HasPrefix(aws.ToString(s.Description), made) })
	return idsOf[bake.SnapshotID](own, func(s types.Snapshot) *string { return s.SnapshotId }), nil
}

// FindCopies lists the account's images of the name that are copies of the image. An image without
// a recorded source is not among them, because it may be somebody else's.
func (c *Cloud) FindCopies(ctx context.Context, source bake.ImageID, name string) ([]bake.ImageID, error) {
	images, err := c.named(ctx, name)
	if err != nil {
		return nil, err
	}
	return copiesOf(images, source), nil
}

// copiesOf returns the images that say that they are copies of one.
func copiesOf(images []types.Image, source bake.ImageID) []bake.ImageID {
	other := func(image types.Image) bool { return aws.ToString(image.SourceImageId) != string(source) }
	return idsOf[bake.ImageID](slices.DeleteFunc(slices.Clone(images), other), imageID)
}
