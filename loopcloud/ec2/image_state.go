package ec2

import (
	"errors"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

type imageInput struct {
	baseInput
	ImageID imageID `query:"ImageId,required"`
}

type deregisterImageInput struct {
	imageInput
	DeleteSnapshots bool `query:"DeleteAssociatedSnapshots"`
}

type deregisterImageOutput struct {
	done
	Deleted *set[deletedSnapshot] `xml:"deleteSnapshotResultSet"`
}

// deletedSnapshot is the result of deleting a snapshot with its image.
type deletedSnapshot struct {
	SnapshotID string `xml:"snapshotId"`
	Code       string `xml:"returnCode"`
}

// deregisterImage removes an image and, if requested, its snapshots. It keeps snapshots of other
// images, and succeeds nevertheless.
func (c *call) deregisterImage(in *deregisterImageInput) (*deregisterImageOutput, error) {
	var snapshots []string
	if found, err := c.namedImages([]imageID{in.ImageID}); err == nil && in.DeleteSnapshots {
		snapshots = snapshotsOf(found[0])
	}
	out := &deregisterImageOutput{done: done{Return: true}}
	if err := c.st.DeleteImage(c.caller, string(in.ImageID), in.DryRun); err != nil {
		return nil, err
	}
	var results []deletedSnapshot
	for _, id := range snapshots {
		results = append(results, deletedSnapshot{id, returnCode(c.st.DeleteSnapshot(c.caller, id, false))})
	}
	out.Deleted = some(results)
	return out, nil
}

// returnCode returns EC2's name for the result of deleting a snapshot.
func returnCode(err error) string {
	var refusal *state.Error
	switch {
	case err == nil:
		return "success"
	case !errors.As(err, &refusal):
		return "internal-error"
	case refusal.Kind == state.InUse:
		return "skipped"
	case refusal.Kind == state.NotAllowed:
		return "missing-permissions"
	}
	return "client-error"
}

type enableImageDeprecationInput struct {
	imageInput
	At time.Time `query:"DeprecateAt,required"`
}

// enableImageDeprecation sets the deprecation time, to the minute. It is at most ten years ahead,
// and for a public image at most two years after its creation.
func (c *call) enableImageDeprecation(in *enableImageDeprecationInput) (*done, error) {
	now := c.st.Now()
	if !in.At.After(now) || in.At.After(now.AddDate(10, 0, 0)) {
		return nil, query.Refuse("InvalidParameterValue", "The deprecation time %s is not in the next ten years", stamp(in.At))
	}
	_, err := c.st.UpdateImage(c.caller, string(in.ImageID), func(i *state.Image) error {
		if i.Launch.Public && in.At.After(i.Created.AddDate(2, 0, 0)) {
			return query.Refuse("InvalidParameterValue", "The deprecation time %s is more than two years after the creation of a public image", stamp(in.At))
		}
		i.Deprecated = in.At.Round(time.Minute)
		return nil
	}, in.DryRun)
	return succeeded(err)
}

func (c *call) disableImageDeprecation(in *imageInput) (*done, error) {
	_, err := c.st.UpdateImage(c.caller, string(in.ImageID), func(i *state.Image) error {
		i.Deprecated = time.Time{}
		return nil
	}, in.DryRun)
	return succeeded(err)
}

type enableProtectionInput struct {
	imageInput
	Cooldown bool `query:"WithCooldown"`
}

// protectionOutput holds the new protection: EC2 returns its name where other actions return
// true.
type protectionOutput struct {
	baseResponse
	Return string `xml:"return"`
}

func (c *call) enableProtection(in *enableProtectionInput) (*protectionOutput, error) {
	to := state.ProtectedWithoutCooldown
	if in.Cooldown {
		to = state.ProtectedWithCooldown
	}
	return c.protect(in.imageInput, to)
}

func (c *call) disableProtection(in *imageInput) (*protectionOutput, error) {
	return c.protect(*in, state.Unprotected)
}

func (c *call) protect(in imageInput, to state.Protection) (*protectionOutput, error) {
	i, err := c.st.ProtectImage(c.caller, string(in.ImageID), to, in.DryRun)
	return &protectionOutput{Return: string(i.Protection)}, err
}

// disableImage makes an image private, unusable and unlisted.
func (c *call) disableImage(in *imageInput) (*done, error) {
	return c.setDisabled(in, true, state.ImageAvailable)
}

func (c *call) enableImage(in *imageInput) (*done, error) {
	return c.setDisabled(in, false, state.ImageDisabled)
}

func (c *call) setDisabled(in *imageInput, to bool, from state.ImageState) (*done, error) {
	_, err := c.st.UpdateImage(c.caller, string(in.ImageID), func(i *state.Image) error {
		if i.State != from && i.Disabled != to {
			return &state.Error{Kind: state.WrongState, Resource: "image", ID: i.ID, Message: "it is " + string(i.State)}
		}
		i.Disabled = to
		return nil
	}, in.DryRun)
	return succeeded(err)
}
