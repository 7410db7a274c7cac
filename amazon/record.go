package amazon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// record is the content of bake.Record. Snapshots keep their permissions, and the product codes
// that an image has from them.
type record struct {
	Registration ec2.RegisterImageInput   `json:"registration"`
	Launchers    []types.LaunchPermission `json:"launchers,omitempty"`
	// DeprecateAt is as EC2 writes it; empty for never.
	DeprecateAt string `json:"deprecate_at,omitempty"`
}

// Record reads an image as it can be registered again.
func (c *Cloud) Record(ctx context.Context, id bake.ImageID) (bake.Record, error) {
	image, err := c.listedImage(ctx, string(id))
	if err != nil {
		return bake.Record{}, err
	}
	if err := restorable(image); err != nil {
		return bake.Record{}, fmt.Errorf("image %s cannot make way for a new one: %w", nameOf(image), err)
	}
	r := record{Registration: registrationOf(image), DeprecateAt: aws.ToString(image.DeprecationTime)}
	if err := c.readAttributes(ctx, image, &r); hasCode(err, codeImageNotFound, codeImageUnavailable) {
		return bake.Record{}, notFound("image", string(id))
	} else if err != nil {
		return bake.Record{}, err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return bake.Record{}, fmt.Errorf("cannot write down image %s: %w", id, err)
	}
	return bake.Record{Image: id, Name: aws.ToString(image.Name), Snapshots: snapshotsOf(image), Data: data}, nil
}

// readAttributes reads the attributes that a list of images does not show.
func (c *Cloud) readAttributes(ctx context.Context, image types.Image, r *record) (err error) {
	id := aws.ToString(image.ImageId)
	if r.Launchers, err = c.client.launchersOf(ctx, id); err != nil || !byUEFI(image.BootMode, image.Architecture) {
		return err
	}
	if r.Registration.UefiData, err = c.client.uefiData(ctx, id); err != nil {
		return c.client.cannot(err, "read the UEFI data of image %s", id)
	}
	return nil
}

// listedImage returns the description that Named has read, the first time it is needed; else it
// reads the image.
func (c *Cloud) listedImage(ctx context.Context, id string) (types.Image, error) {
	c.mu.Lock()
	image, listed := c.listed[id]
	delete(c.listed, id)
	c.mu.Unlock()
	if listed {
		return image, nil
	}
	return c.client.image(ctx, id)
}

// restorable returns the reason why an image could not be deregistered, or not be registered
// again, if so.
func restorable(image types.Image) error {
	protection := aws.ToString(image.DeregistrationProtection)
	root, ok := rootDevice(image)
	switch {
	case protection != "" && protection != "disabled":
		return fmt.Errorf("its deregistration protection is %q", protection)
	case image.State != types.ImageStateAvailable:
		return fmt.Errorf("its state is %q, and must be available", image.State)
	case !ok || root.SnapshotId == nil:
		return errors.New("its root device has no snapshot to register it again from")
	default:
		return nil
	}
}

// registrationOf is the request that makes an image like this one.
func registrationOf(image types.Image) ec2.RegisterImageInput {
	in := ec2.RegisterImageInput{
		Name:               image.Name,
		Description:        image.Description,
		Architecture:       image.Architecture,
		VirtualizationType: optional(string(image.VirtualizationType)),
		RootDeviceName:     image.RootDeviceName,
		EnaSupport:         image.EnaSupport,
		SriovNetSupport:    image.SriovNetSupport,
		BootMode:           image.BootMode,
		TpmSupport:         image.TpmSupport,
		ImdsSupport:        image.ImdsSupport,
		KernelId:           image.KernelId,
		RamdiskId:          image.RamdiskId,
		TagSpecifications:  tagging(types.ResourceTypeImage, ownTags(image.Tags)),
	}
	for _, m := range mappingsOf(&image) {
		in.BlockDeviceMappings = append(in.BlockDeviceMappings, m.block())
	}
	return in
}

// ownTags are the tags that an account can set itself.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html
func ownTags(tags []types.Tag) map[string]string {
	own := tagsOf(tags)
	for key := range own {
		if strings.HasPrefix(key, "aws:") {
			delete(own, key)
		}
	}
	return own
}

// launchersOf reads the launch permissions of an image of the account.
func (c *Client) launchersOf(ctx context.Context, image string) ([]types.LaunchPermission, error) {
	out, err := c.ec2.DescribeImageAttribute(ctx, &ec2.DescribeImageAttributeInput{
		ImageId: aws.String(image), Attribute: types.ImageAttributeNameLaunchPermission,
	})
	if err != nil {
		return nil, c.cannot(err, "read who may launch image %s", image)
	}
	return out.LaunchPermissions, nil
}

// CheckRecord returns why a record is not of one image.
func (c *Cloud) CheckRecord(old bake.Record) error {
	_, err := readRecord(old)
	return err
}

// Restore registers an image again. A repeated call finds the image that an
// earlier one made by its name and its root's snapshot.
func (c *Cloud) Restore(ctx context.Context, old bake.Record) (bake.ImageID, error) {
	r, err := readRecord(old)
	if err != nil {
		return "", err
	}
	return c.registerAgain(ctx, old, &r.Registration)
}

// Regain gives an image that was registered again its launch permissions and its time
// of deprecation.
func (c *Cloud) Regain(ctx context.Context, old bake.Record, id bake.ImageID) error {
	r, err := readRecord(old)
	if err != nil {
		return err
	}
	return c.unsettledImage(ctx, id, nil, errors.Join(c.share(ctx, string(id), r.Launchers), c.deprecateAgain(ctx, string(id), r.DeprecateAt)))
}

// readRecord decodes a record. Both its halves must be of the same image.
func readRecord(old bake.Record) (r record, err error) {
	if err := json.Unmarshal(old.Data, &r); err != nil {
		return r, fmt.Errorf("cannot register image %s (%s) again: its record cannot be read: %w", old.Image, old.Name, err)
	}
	var snapshots []bake.SnapshotID
	for _, m := range r.Registration.BlockDeviceMappings {
		if m.Ebs != nil && aws.ToString(m.Ebs.SnapshotId) != "" {
			snapshots = append(snapshots, bake.SnapshotID(*m.Ebs.SnapshotId))
		}
	}
	if aws.ToString(r.Registration.Name) != old.Name || !sameSet(snapshots, old.Snapshots) {
		return r, fmt.Errorf("cannot register image %s (%s) again: its record is of the image %q with the snapshots %v, and not with %v",
			old.Image, old.Name, aws.ToString(r.Registration.Name), snapshots, old.Snapshots)
	}
	return r, nil
}

// sameSet reports whether two lists have the same elements, in any order.
func sameSet[T ~string](one, other []T) bool {
	return slices.Equal(slices.Sorted(slices.Values(one)), slices.Sorted(slices.Values(other)))
}

func (c *Cloud) registerAgain(ctx context.Context, old bake.Record, in *ec2.RegisterImageInput) (bake.ImageID, error) {
	out, err := c.client.ec2.RegisterImage(ctx, in)
	if hasCode(err, codeNameDuplicate) && len(old.Snapshots) > 0 {
		return c.registered(ctx, bake.ImageSpec{Name: old.Name, Snapshot: old.Snapshots[0]}, err)
	}
	what := fmt.Sprintf("register image %s (%s) again", old.Image, old.Name)
	if err != nil {
		return "", c.client.cannot(err, "%s", what)
	}
	return newID[bake.ImageID](c, out.ImageId, what)
}

// deprecateAgain sets the old time of deprecation. EC2 takes none in the past:
// an image that was deprecated is not any more.
func (c *Cloud) deprecateAgain(ctx context.Context, image, at string) error {
	when := moment(at)
	if when.IsZero() {
		return nil
	}
	if c.past(at) {
		c.logf("warning: image %s was deprecated since %s, and is not when registered again", image, at)
		return nil
	}
	_, err := c.client.ec2.EnableImageDeprecation(ctx, &ec2.EnableImageDeprecationInput{
		ImageId: aws.String(image), DeprecateAt: aws.Time(when),
	})
	if err != nil {
		return c.client.cannot(err, "let image %s be deprecated at %s again", image, at)
	}
	return nil
}
