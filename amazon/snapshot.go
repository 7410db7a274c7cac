package amazon

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// CreateSnapshot asks for a snapshot. EC2 takes no client token for it, so
// after a call that may have had an effect it is looked for before it is asked
// for again.
func (c *Cloud) CreateSnapshot(ctx context.Context, spec bake.SnapshotSpec) (bake.SnapshotID, error) {
	what := fmt.Sprintf("create a snapshot of %s", spec.Volume)
	var found bake.SnapshotID
	var asked *string
	var unsure error
	find := func(ctx context.Context) (bool, error) {
		found, unsure = c.findSnapshot(ctx, spec)
		return found != "", unsure
	}
	create := func(ctx context.Context) (err error) {
		asked, err = c.askForSnapshot(ctx, spec)
		if kindOf(err).Doubtful() {
			c.logf("the answer to creating a snapshot of %s is lost; looking for it: %v", spec.Volume, err)
		}
		return err
	}
	begun := c.begun.Again("snapshot of " + string(spec.Volume))
	err := c.client.do(ctx, ec2.ServiceID, "CreateSnapshot", retry.CreateOnce(begun, find, create))
	switch {
	case unsure != nil:
		return "", unsure
	case err != nil:
		late := hasCode(err, codeVolumeNotFound, codeIncorrectState) && c.isShown(ctx, spec.Volume)
		return "", unsettledIf(late, c.client.cannot(err, "%s", what))
	case found != "":
		return found, nil
	}
	return newID[bake.SnapshotID](c, asked, what)
}

// askForSnapshot makes one request and returns the ID in the answer, if any. It makes the
// request again only if that cannot create two snapshots.
func (c *Cloud) askForSnapshot(ctx context.Context, spec bake.SnapshotSpec) (*string, error) {
	out, err := c.client.ec2.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{
		VolumeId:          aws.String(string(spec.Volume)),
		Description:       optional(spec.Description),
		TagSpecifications: tagging(types.ResourceTypeSnapshot, spec.Tags),
	})
	if err != nil {
		return nil, err
	}
	return out.SnapshotId, nil
}

// findSnapshot finds the snapshot that the specification describes, if there
// is one.
func (c *Cloud) findSnapshot(ctx context.Context, spec bake.SnapshotSpec) (bake.SnapshotID, error) {
	all, err := c.client.snapshotsOf(ctx, spec.Volume)
	if err != nil {
		return "", c.client.cannot(err, "tell whether there is a snapshot of %s", spec.Volume)
	}
	for _, s := range all {
		if aws.ToString(s.Description) == spec.Description && covers(tagsOf(s.Tags), spec.Tags) {
			return bake.SnapshotID(aws.ToString(s.SnapshotId)), nil
		}
	}
	return "", nil
}

// covers reports whether all of the tags are there. An account may add its own.
func covers(all, tags map[string]string) bool {
	for key, value := range tags {
		if got, ok := all[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// Snapshot reads a snapshot. One that was just made and that EC2 does not tell
// of yet is pending.
func (c *Cloud) Snapshot(ctx context.Context, id bake.SnapshotID) (bake.Snapshot, error) {
	found, err := c.client.snapshot(ctx, id)
	if c.notShownYet(string(id), err) {
		return bake.Snapshot{ID: id, State: bake.SnapshotPending, Percent: -1}, nil
	}
	if err != nil {
		return bake.Snapshot{}, err
	}
	c.shown(string(id))
	return snapshotOf(found), nil
}

func (c *Client) snapshot(ctx context.Context, id bake.SnapshotID) (types.Snapshot, error) {
	out, err := c.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{string(id)}})
	if hasCode(err, codeSnapshotNotFound) {
		return types.Snapshot{}, notFound("snapshot", string(id))
	}
	if err != nil {
		return types.Snapshot{}, c.cannot(err, "read snapshot %s", id)
	}
	if len(out.Snapshots) == 0 {
		return types.Snapshot{}, notFound("snapshot", string(id))
	}
	snapshot := out.Snapshots[0]
	if err := checkID("snapshot", string(id), snapshot.SnapshotId); err != nil {
		return types.Snapshot{}, err
	}
	snapshot.SnapshotId = aws.String(string(id))
	return snapshot, nil
}

// snapshotsOf lists the account's snapshots of a volume.
func (c *Client) snapshotsOf(ctx context.Context, volume bake.VolumeID) ([]types.Snapshot, error) {
	all, err := c.snapshots(ctx, &ec2.DescribeSnapshotsInput{
		OwnerIds: []string{"self"}, Filters: []types.Filter{filter("volume-id", string(volume))},
	})
	return slices.DeleteFunc(all, func(s types.Snapshot) bool { return aws.ToString(s.VolumeId) != string(volume) }), err
}

// snapshotsAmong lists those of the snapshots that the account may read. A request by their
// ids would fail if it may not read one of them.
func (c *Client) snapshotsAmong(ctx context.Context, ids []string) ([]types.Snapshot, error) {
	return c.snapshots(ctx, &ec2.DescribeSnapshotsInput{Filters: []types.Filter{{Name: aws.String("snapshot-id"), Values: ids}}})
}

// snapshots lists all the snapshots that a request without ids asks for.
func (c *Client) snapshots(ctx context.Context, in *ec2.DescribeSnapshotsInput) ([]types.Snapshot, error) {
	in.MaxResults = aws.Int32(pageSize)
	return pages("DescribeSnapshots", func(token *string) ([]types.Snapshot, *string, error) {
		in.NextToken = token
		out, err := c.ec2.DescribeSnapshots(ctx, in)
		if err != nil {
			return nil, nil, err
		}
		return out.Snapshots, out.NextToken, nil
	})
}

// snapshotOf translates EC2's description of a snapshot. The states have bake's
// words.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Snapshot.html
func snapshotOf(s types.Snapshot) bake.Snapshot {
	return bake.Snapshot{
		ID:      bake.SnapshotID(aws.ToString(s.SnapshotId)),
		State:   bake.SnapshotState(s.State),
		Percent: percent(aws.ToString(s.Progress)),
		Reason:  aws.ToString(s.StateMessage),
		Begun:   aws.ToTime(s.StartTime),
		Volume:  volumeIn(s),

		Description: aws.ToString(s.Description),
		Build:       bake.BuildID(tagsOf(s.Tags)[bake.BuildTag]),
	}
}

// noVolume is EC2's word for the volume of a snapshot that was not taken of one: it was copied, or
// written block by block.
const noVolume = "vol-ffffffff"

// volumeIn returns the volume that a snapshot was taken of; empty if there is none.
func volumeIn(s types.Snapshot) bake.VolumeID {
	if id := aws.ToString(s.VolumeId); id != noVolume {
		return bake.VolumeID(id)
	}
	return ""
}

// percent reads a progress such as 37%: 0 to 100, or -1 if it is none.
func percent(progress string) int {
	digits, ok := strings.CutSuffix(progress, "%")
	if !ok {
		return -1
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || n > 100 {
		return -1
	}
	return n
}

// FindSnapshots lists the account's snapshots of a volume.
func (c *Cloud) FindSnapshots(ctx context.Context, volume bake.VolumeID) ([]bake.SnapshotID, error) {
	all, err := c.client.snapshotsOf(ctx, volume)
	if err != nil {
		return nil, c.client.cannot(err, "list the snapshots of %s", volume)
	}
	return idsOf[bake.SnapshotID](all, func(s types.Snapshot) *string { return s.SnapshotId }), nil
}

// DeleteSnapshot removes a snapshot. For a while after its image is gone, EC2 may believe that it
// is in use.
func (c *Cloud) DeleteSnapshot(ctx context.Context, id bake.SnapshotID) error {
	_, err := c.client.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: aws.String(string(id))})
	late := false
	switch {
	case err == nil, hasCode(err, codeSnapshotNotFound) && !c.hasSnapshot(ctx, id):
		c.shown(string(id))
		return nil
	case hasCode(err, codeSnapshotNotFound):
		late = true
	case hasCode(err, codeIncorrectState):
		late = c.isCompleted(ctx, id) || c.isStarted(ctx, id)
	case hasCode(err, codeSnapshotInUse):
		users, unread := c.FindImages(ctx, id)
		late = unread == nil && len(users) == 0
	}
	return unsettledIf(late, c.client.cannot(err, "delete snapshot %s", id))
}
