package amazon

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Publish applies permissions, product codes, deprecation and protection to an image and the
// snapshots made for it, each in one request. Protection comes last, because an image that is
// protected with a cooldown cannot be undone.
func (c *Cloud) Publish(ctx context.Context, spec bake.PublishSpec) error {
	return c.unsettledImage(ctx, spec.Image, spec.Snapshots, c.publish(ctx, spec))
}

func (c *Cloud) publish(ctx context.Context, spec bake.PublishSpec) error {
	id := string(spec.Image)
	if err := c.share(ctx, id, c.launchers()); err != nil {
		return err
	}
	for _, snapshot := range spec.Snapshots {
		if err := c.shareSnapshot(ctx, string(snapshot)); err != nil {
			return err
		}
	}
	if err := c.giveProductCodes(ctx, id); err != nil {
		return err
	}
	if err := c.deprecate(ctx, id); err != nil {
		return err
	}
	return c.protect(ctx, id)
}

// launchers returns the launch permissions of the image.
func (c *Cloud) launchers() []types.LaunchPermission {
	var all []types.LaunchPermission
	for _, user := range c.config.AMIUsers {
		all = append(all, types.LaunchPermission{UserId: aws.String(user)})
	}
	for _, group := range c.config.AMIGroups {
		all = append(all, types.LaunchPermission{Group: types.PermissionGroup(group)})
	}
	for _, arn := range c.config.AMIOrgARNs {
		all = append(all, types.LaunchPermission{OrganizationArn: aws.String(arn)})
	}
	for _, arn := range c.config.AMIOUARNs {
		all = append(all, types.LaunchPermission{OrganizationalUnitArn: aws.String(arn)})
	}
	return all
}

// share lets others launch an image.
func (c *Cloud) share(ctx context.Context, image string, with []types.LaunchPermission) error {
	if len(with) == 0 {
		return nil
	}
	_, err := c.client.ec2.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{
		ImageId: aws.String(image), LaunchPermission: &types.LaunchPermissionModifications{Add: with},
	})
	if err != nil {
		return c.client.cannot(err, "share image %s (ami_users, ami_groups, ami_org_arns, ami_ou_arns)", image)
	}
	return nil
}

// shareSnapshot lets others create volumes of a snapshot.
func (c *Cloud) shareSnapshot(ctx context.Context, snapshot string) error {
	var with []types.CreateVolumePermission
	for _, user := range c.config.SnapshotUsers {
		with = append(with, types.CreateVolumePermission{UserId: aws.String(user)})
	}
	for _, group := range c.config.SnapshotGroups {
		with = append(with, types.CreateVolumePermission{Group: types.PermissionGroup(group)})
	}
	if len(with) == 0 {
		return nil
	}
	_, err := c.client.ec2.ModifySnapshotAttribute(ctx, &ec2.ModifySnapshotAttributeInput{
		SnapshotId: aws.String(snapshot), Attribute: types.SnapshotAttributeNameCreateVolumePermission,
		CreateVolumePermission: &types.CreateVolumePermissionModifications{Add: with},
	})
	if err != nil {
		return c.client.cannot(err, "share snapshot %s (snapshot_users, snapshot_groups)", snapshot)
	}
	return nil
}

// giveProductCodes associates the product codes with an image, which RegisterImage
// cannot. Those of the source's snapshots an image has by itself. The attribute is not named:
// productCodes is none of its documented values.
// Sources: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html and
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyImageAttribute.html
func (c *Cloud) giveProductCodes(ctx context.Context, image string) error {
	if len(c.config.AMIProductCodes) == 0 {
		return nil
	}
	_, err := c.client.ec2.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{
		ImageId: aws.String(image), ProductCodes: c.config.AMIProductCodes,
	})
	if err != nil {
		return c.client.cannot(err, "give image %s its ami_product_codes", image)
	}
	return nil
}

// deprecate sets when an image becomes deprecated.
func (c *Cloud) deprecate(ctx context.Context, image string) error {
	at := c.config.deprecation()
	if at.IsZero() {
		return nil
	}
	_, err := c.client.ec2.EnableImageDeprecation(ctx, &ec2.EnableImageDeprecationInput{
		ImageId: aws.String(image), DeprecateAt: aws.Time(at),
	})
	if err != nil {
		return c.client.cannot(err, "let image %s be deprecated at %s (deprecate_at)", image, at)
	}
	return nil
}

// protect keeps an image from being deregistered. It is noted before the request, in case the
// response is lost: the build may deregister an image that it has protected itself.
func (c *Cloud) protect(ctx context.Context, image string) error {
	protection := c.config.DeregistrationProtection
	if !protection.Enabled {
		return nil
	}
	c.mu.Lock()
	c.guarded[image] = true
	c.mu.Unlock()
	in := &ec2.EnableImageDeregistrationProtectionInput{ImageId: aws.String(image)}
	if protection.WithCooldown {
		in.WithCooldown = aws.Bool(true)
	}
	_, err := c.client.ec2.EnableImageDeregistrationProtection(ctx, in)
	if codeOf(err) != "" {
		c.unguarded(image)
	}
	if err != nil {
		return c.client.cannot(err, "protect image %s from being deregistered (deregistration_protection)", image)
	}
	return nil
}

// unprotect makes an image that this build has protected one that can be
// deregistered.
func (c *Cloud) unprotect(ctx context.Context, image string) error {
	c.mu.Lock()
	guarded := c.guarded[image]
	c.mu.Unlock()
	if !guarded {
		return nil
	}
	_, err := c.client.ec2.DisableImageDeregistrationProtection(ctx, &ec2.DisableImageDeregistrationProtectionInput{ImageId: aws.String(image)})
	late := hasCode(err, codeImageNotFound, codeImageUnavailable) && c.hasImage(ctx, bake.ImageID(image))
	if err != nil && (late || !hasCode(err, codeImageNotFound, codeImageUnavailable)) {
		return unsettledIf(late, c.client.cannot(err, "end the protection of image %s", image))
	}
	c.unguarded(image)
	return nil
}

// Unguard ends the protection of an image that this build, or one that was killed, has
// protected.
func (c *Cloud) Unguard(ctx context.Context, id bake.ImageID) error {
	c.mu.Lock()
	c.guarded[string(id)] = true
	c.mu.Unlock()
	return c.unprotect(ctx, string(id))
}

func (c *Cloud) unguarded(image string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.guarded, image)
}

// withCooldownHint adds to the error of a deregistration that a cooldown may be the cause.
func (c *Cloud) withCooldownHint(err error) error {
	if !c.config.DeregistrationProtection.WithCooldown {
		return err
	}
	return fmt.Errorf("%w (deregistration_protection has with_cooldown: EC2 keeps an image for 24 hours after its protection has ended)", err)
}
