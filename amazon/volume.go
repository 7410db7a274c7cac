package amazon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// CreateVolume asks for a volume. Its client token makes a repeated call answer
// the same volume.
func (c *Cloud) CreateVolume(ctx context.Context, spec bake.VolumeSpec) (bake.VolumeID, error) {
	out, err := c.client.ec2.CreateVolume(ctx, c.volumeInput(spec))
	if hasCode(err, codeSnapshotNotFound) {
		return "", fmt.Errorf("cannot create a volume in %s%s: %w (it is gone, such as by a clean-up, or not shared with this account: "+
			"who may launch an image may not read its snapshots by that, and its owner must share them too)", spec.Zone, from(spec.Snapshot), err)
	}
	what := fmt.Sprintf("create a volume in %s%s", spec.Zone, from(spec.Snapshot))
	if err != nil {
		return "", c.withTypeHint(spec, c.client.cannot(err, "%s", what))
	}
	id, err := newID[bake.VolumeID](c, out.VolumeId, what)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	c.keys[id] = spec.Encryption
	c.mu.Unlock()
	return id, c.checkVolume(ctx, decisionsIn(spec.Details), out)
}

func from(snapshot bake.SnapshotID) string {
	if snapshot == "" {
		return ""
	}
	return fmt.Sprintf(" from %s", snapshot)
}

// volumeInput is the request for a volume.
func (c *Cloud) volumeInput(spec bake.VolumeSpec) *ec2.CreateVolumeInput {
	spec.Details = nil // it has pointers, which the token must not be made of
	in := &ec2.CreateVolumeInput{
		AvailabilityZone:  optional(spec.Zone),
		OutpostArn:        optional(spec.Placement), // volumes elsewhere cannot be attached
		SnapshotId:        optional(string(spec.Snapshot)),
		Size:              count(spec.SizeGiB),
		VolumeType:        types.VolumeType(spec.Type),
		ClientToken:       aws.String(token("volume", c.client.Region(), spec)),
		TagSpecifications: tagging(types.ResourceTypeVolume, c.volumeTags(spec)),
	}
	rules := c.VolumeType(spec.Type)
	if rules.TakesIOPS {
		in.Iops = count(spec.IOPS)
	}
	if rules.TakesThroughput {
		in.Throughput = count(spec.Throughput)
	}
	if spec.Encrypted {
		in.Encrypted = aws.Bool(true)
		in.KmsKeyId = optional(spec.KMSKeyID)
	}
	return in
}

// volumeTags returns the user's tags, the build's, and a name for people who look at the account
// meanwhile, if there is room for it.
func (c *Cloud) volumeTags(spec bake.VolumeSpec) map[string]string {
	tags := map[string]string{}
	if c.config.AMIName != "" && len(spec.Tags)+1 < kind.Limits.Tags {
		tags["Name"] = "packer-chroot " + c.config.AMIName
	}
	maps.Copy(tags, spec.Tags)
	tags[bake.BuildTag] = string(spec.Build)
	return tags
}

// token is the client token of a specification in a region: 64 characters, as
// many as EC2 takes. It is the same whenever the same is asked for, in another
// process too: the specification holds the build's id. (fmt prints maps in the
// order of their keys.)
func token(kind, region string, spec any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %#v", kind, region, spec))
	return hex.EncodeToString(sum[:])
}

// Volume reads a volume. One that was just made and that EC2 does not show
// yet is creating.
func (c *Cloud) Volume(ctx context.Context, id bake.VolumeID) (bake.Volume, error) {
	found, err := c.client.volume(ctx, id)
	if c.notShownYet(string(id), err) {
		return bake.Volume{ID: id, State: bake.VolumeCreating, Attach: bake.Detached}, nil
	}
	if errors.Is(err, bake.ErrNotFound) {
		err = c.withKeyHint(id, err)
	}
	if err != nil {
		return bake.Volume{}, err
	}
	c.shown(string(id))
	return volumeOf(found), nil
}

// withKeyHint adds another possible cause to the error of an unknown volume: EC2 checks the key after
// its response, and removes a volume that it cannot encrypt.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html
func (c *Cloud) withKeyHint(id bake.VolumeID, err error) error {
	c.mu.Lock()
	e := c.keys[id]
	c.mu.Unlock()
	switch {
	case !e.Encrypted:
		return err
	case e.KMSKeyID == "":
		return fmt.Errorf("%w (EC2 creates no volume if the region's default key for EBS cannot be used)", err)
	default:
		return fmt.Errorf("%w (EC2 creates no volume if KMS key %s does not exist or cannot be used)", err, e.KMSKeyID)
	}
}

// volume reads a volume from EC2; an error wraps bake.ErrNotFound if there is
// none.
func (c *Client) volume(ctx context.Context, id bake.VolumeID) (types.Volume, error) {
	out, err := c.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{string(id)}})
	if hasCode(err, codeVolumeNotFound) {
		return types.Volume{}, notFound("volume", string(id))
	}
	if err != nil {
		return types.Volume{}, c.cannot(err, "read volume %s", id)
	}
	if len(out.Volumes) == 0 || out.Volumes[0].State == types.VolumeStateDeleted {
		return types.Volume{}, notFound("volume", string(id))
	}
	volume := out.Volumes[0]
	if err := checkID("volume", string(id), volume.VolumeId); err != nil {
		return types.Volume{}, err
	}
	volume.VolumeId = aws.String(string(id))
	return volume, nil
}

// volumeOf translates EC2's description of a volume. The states have bake's words.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Volume.html
func volumeOf(v types.Volume) bake.Volume {
	volume := bake.Volume{
		ID:       bake.VolumeID(aws.ToString(v.VolumeId)),
		State:    bake.VolumeState(v.State),
		SizeGiB:  number(v.Size),
		Snapshot: bake.SnapshotID(aws.ToString(v.SnapshotId)),
		Zone:     aws.ToString(v.AvailabilityZone),
		Created:  aws.ToTime(v.CreateTime),
		Build:    bake.BuildID(tagsOf(v.Tags)[bake.BuildTag]),
		Attach:   bake.Detached,
	}
	for _, a := range v.Attachments {
		state := attachState(a.State)
		if state == bake.Detached {
			continue
		}
		volume.Attach = state
		volume.Host = bake.HostID(aws.ToString(a.InstanceId))
		volume.Device = bake.DeviceName(aws.ToString(a.Device))
		break
	}
	return volume
}

// attachState translates the state of an attachment. Busy means that a detach
// waits for the instance to let go of the device.
func attachState(state types.VolumeAttachmentState) bake.AttachState {
	switch state {
	case types.VolumeAttachmentStateBusy:
		return bake.Detaching
	case "":
		return bake.Detached
	default:
		return bake.AttachState(state)
	}
}

// FindVolumes lists the volumes with the build's tag.
func (c *Cloud) FindVolumes(ctx context.Context, build bake.BuildID) ([]bake.VolumeID, error) {
	all, err := pages("DescribeVolumes", func(token *string) ([]types.Volume, *string, error) {
		out, err := c.client.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{
			Filters: []types.Filter{filter("tag:"+bake.BuildTag, string(build))}, NextToken: token, MaxResults: aws.Int32(pageSize),
		})
		if err != nil {
			return nil, nil, err
		}
		return out.Volumes, out.NextToken, nil
	})
	if err != nil {
		return nil, c.client.cannot(err, "list the volumes of build %s", build)
	}
	own := slices.DeleteFunc(all, func(v types.Volume) bool { return tagsOf(v.Tags)[bake.BuildTag] != string(build) })
	return idsOf[bake.VolumeID](own, func(v types.Volume) *string { return v.VolumeId }), nil
}

// Tag does nothing: EC2 takes tags in its creating calls.
func (c *Cloud) Tag(context.Context, string, map[string]string) error { return nil }

// DeleteVolume removes a volume.
func (c *Cloud) DeleteVolume(ctx context.Context, id bake.VolumeID) error {
	_, err := c.client.ec2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: aws.String(string(id))})
	switch {
	case err == nil,
		hasCode(err, codeIncorrectState) && c.isGoing(ctx, id),
		hasCode(err, codeVolumeNotFound) && !c.isShown(ctx, id):
		c.shown(string(id))
		return nil
	}
	late := hasCode(err, codeVolumeNotFound) ||
		hasCode(err, codeVolumeInUse, codeIncorrectState) && c.isFree(ctx, id)
	return unsettledIf(late, c.client.cannot(err, "delete volume %s", id))
}

// isGoing reports whether a volume is being deleted, or is gone.
func (c *Cloud) isGoing(ctx context.Context, id bake.VolumeID) bool {
	v, err := c.client.volume(ctx, id)
	return errors.Is(err, bake.ErrNotFound) || (err == nil && v.State == types.VolumeStateDeleting)
}

// Attach asks for an attachment. EC2 refuses a second request for the same one;
// it is told from a conflict by looking.
func (c *Cloud) Attach(ctx context.Context, id bake.VolumeID, host bake.HostID, device bake.DeviceName) error {
	_, err := c.client.ec2.AttachVolume(ctx, &ec2.AttachVolumeInput{
		VolumeId: aws.String(string(id)), InstanceId: aws.String(string(host)), Device: aws.String(string(device)),
	})
	switch {
	case err == nil:
		return nil
	case hasCode(err, codeVolumeInUse, codeIncorrectState, codeDeviceInUse, codeInvalidValue) && c.isAttached(ctx, id, host, device):
		return nil
	case refusesName(err):
		err = fmt.Errorf("%w: %w", bake.ErrDeviceTaken, err)
	}
	late := hasCode(err, codeVolumeNotFound) && c.isShown(ctx, id) ||
		hasCode(err, codeIncorrectState) && !namesOther(err, "i-", string(id)) && c.isReadyToAttach(ctx, id)
	return unsettledIf(late, c.client.cannot(err, "attach %s to %s as %s", id, host, device))
}

// isAttached reports whether the attachment is there, or on its way.
func (c *Cloud) isAttached(ctx context.Context, id bake.VolumeID, host bake.HostID, device bake.DeviceName) bool {
	found, err := c.client.volume(ctx, id)
	if err != nil {
		return false
	}
	v := volumeOf(found)
	there := v.Attach == bake.Attached || v.Attach == bake.Attaching
	return there && v.Host == host && v.Device == device
}

// Detach asks for the end of an attachment.
func (c *Cloud) Detach(ctx context.Context, id bake.VolumeID, host bake.HostID) error {
	_, err := c.client.ec2.DetachVolume(ctx, &ec2.DetachVolumeInput{
		VolumeId: aws.String(string(id)), InstanceId: aws.String(string(host)),
	})
	switch {
	case err == nil, hasCode(err, codeInstanceNotFound):
		return nil
	case !hasCode(err, codeAttachmentMissing, codeVolumeNotFound, codeIncorrectState):
		return c.client.cannot(err, "detach %s from %s", id, host)
	case c.isDetached(ctx, id, host):
		return nil
	}
	return bake.Unsettled(c.client.cannot(err, "detach %s from %s", id, host))
}

// isDetached reports whether the volume is not attached to the host, or will soon
// not be.
func (c *Cloud) isDetached(ctx context.Context, id bake.VolumeID, host bake.HostID) bool {
	found, err := c.client.volume(ctx, id)
	if err != nil {
		return errors.Is(err, bake.ErrNotFound)
	}
	v := volumeOf(found)
	return v.Host != host || v.Attach == bake.Detached || v.Attach == bake.Detaching
}
