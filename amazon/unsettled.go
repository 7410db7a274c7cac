package amazon

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// unsettledImage marks an error of a changing call on an image and its snapshots. EC2's changing
// calls may lag behind its describing calls. A resource that the latter do not show either is
// gone.
// Source: https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
func (c *Cloud) unsettledImage(ctx context.Context, image bake.ImageID, snapshots []bake.SnapshotID, err error) error {
	switch {
	case hasCode(err, codeImageNotFound, codeImageUnavailable):
		return unsettledIf(c.hasImage(ctx, image), err)
	case hasCode(err, codeSnapshotNotFound, codeIncorrectState):
		gone := slices.ContainsFunc(snapshots, func(id bake.SnapshotID) bool { return !c.hasSnapshot(ctx, id) })
		return unsettledIf(!gone, err)
	}
	return err
}

// unsettledIf marks an error as one that may be gone when the call is made again.
func unsettledIf(unsettled bool, err error) error {
	if err == nil || !unsettled {
		return err
	}
	return bake.Unsettled(err)
}

// namesOther reports whether a refusal names another resource of a kind, such as snap-, than this
// one. Only the build's own new resources can be unknown to EC2 for a while.
func namesOther(err error, prefix, id string) bool {
	message := messageOf(err)
	return strings.Contains(message, prefix) && !strings.Contains(message, id)
}

// isReadyToAttach reports whether a volume is shown to be attached nowhere, and on its way to
// be available at least.
func (c *Cloud) isReadyToAttach(ctx context.Context, id bake.VolumeID) bool {
	v, err := c.client.volume(ctx, id)
	return err == nil && volumeOf(v).Attach == bake.Detached &&
		(v.State == types.VolumeStateAvailable || v.State == types.VolumeStateCreating)
}

// isShown reports whether a volume is shown, and not being deleted.
func (c *Cloud) isShown(ctx context.Context, id bake.VolumeID) bool {
	v, err := c.client.volume(ctx, id)
	return err == nil && v.State != types.VolumeStateDeleting
}

// isFree reports whether a volume is shown to be available, or being detached.
func (c *Cloud) isFree(ctx context.Context, id bake.VolumeID) bool {
	v, err := c.client.volume(ctx, id)
	return err == nil && (v.State == types.VolumeStateAvailable || volumeOf(v).Attach == bake.Detaching)
}

// isCompleted reports whether a snapshot is shown to be complete.
func (c *Cloud) isCompleted(ctx context.Context, id bake.SnapshotID) bool {
	s, err := c.client.snapshot(ctx, id)
	return err == nil && s.State == types.SnapshotStateCompleted
}

// isStarted reports whether a snapshot is shown to be written block by block: it stays pending until
// the build completes it.
func (c *Cloud) isStarted(ctx context.Context, id bake.SnapshotID) bool {
	s, err := c.client.snapshot(ctx, id)
	return err == nil && s.State == types.SnapshotStatePending && tagsOf(s.Tags)[bake.BuildTag] != ""
}

// hasSnapshot reports whether a snapshot is shown.
func (c *Cloud) hasSnapshot(ctx context.Context, id bake.SnapshotID) bool {
	_, err := c.client.snapshot(ctx, id)
	return err == nil
}

// hasImage reports whether an image is shown.
func (c *Cloud) hasImage(ctx context.Context, id bake.ImageID) bool {
	_, err := c.client.image(ctx, string(id))
	return err == nil
}

// Phrases in EC2's messages that distinguish refusals with the same code.
const (
	// A device name is refused with InvalidParameterValue, as other parameters are.
	wordsNameTaken   = "already in use"
	wordsNameInvalid = "is not a valid EBS device name"
)

// refusesName reports whether AttachVolume was refused for the device name: another one may
// do.
func refusesName(err error) bool {
	message := messageOf(err)
	return hasCode(err, codeDeviceInUse) ||
		hasCode(err, codeInvalidValue) && (strings.Contains(message, wordsNameTaken) || strings.Contains(message, wordsNameInvalid))
}
