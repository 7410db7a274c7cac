package osc

import (
	"context"
	"errors"
	"fmt"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// CreateSnapshot asks for a snapshot of a volume.
func (c *Cloud) CreateSnapshot(ctx context.Context, spec bake.SnapshotSpec) (bake.SnapshotID, error) {
	token := c.clientToken(spec.Build, tokenSnapshot, []any{spec.Volume, spec.Description})
	var got *api.CreateSnapshotResponse
	err := c.client.do(ctx, string(createSnapshot), func(ctx context.Context) (err error) {
		got, err = createSnapshot.once(ctx, c.client, api.CreateSnapshotRequest{
			VolumeId:    optional(string(spec.Volume)),
			Description: optional(spec.Description),
			ClientToken: &token,
		})
		return err
	})
	if err != nil {
		return "", fmt.Errorf("cannot create a snapshot of volume %s: %w", spec.Volume, err)
	}
	if got.Snapshot == nil || got.Snapshot.SnapshotId == "" {
		return "", fmt.Errorf("cannot create a snapshot of volume %s: CreateSnapshot answers no snapshot id", spec.Volume)
	}
	return bake.SnapshotID(got.Snapshot.SnapshotId), nil
}

// Snapshot reads a snapshot.
func (c *Cloud) Snapshot(ctx context.Context, id bake.SnapshotID) (bake.Snapshot, error) {
	all, err := c.readSnapshots(ctx, &api.FiltersSnapshot{SnapshotIds: &[]string{string(id)}})
	if err != nil {
		return bake.Snapshot{}, fmt.Errorf("cannot read snapshot %s: %w", id, err)
	}
	for _, s := range all {
		if s.SnapshotId == string(id) {
			return snapshotOf(s), nil
		}
	}
	return bake.Snapshot{}, fmt.Errorf("snapshot %s: %w", id, bake.ErrNotFound)
}

func (c *Cloud) readSnapshots(ctx context.Context, f *api.FiltersSnapshot) ([]api.Snapshot, error) {
	return pages(string(readSnapshots), func(token *string) (*[]api.Snapshot, *string, error) {
		got, err := readSnapshots.call(ctx, c.client, api.ReadSnapshotsRequest{Filters: f, NextPageToken: token, ResultsPerPage: &pageSize})
		if err != nil {
			return nil, nil, err
		}
		return got.Snapshots, got.NextPageToken, nil
	})
}

// snapshotOf translates a snapshot. A state that is not known here keeps its name.
func snapshotOf(s api.Snapshot) bake.Snapshot {
	b := bake.Snapshot{
		ID: bake.SnapshotID(s.SnapshotId), State: bake.SnapshotState(s.State), Percent: -1, Begun: s.CreationDate.Time,
		Volume: bake.VolumeID(s.VolumeId), Description: value(s.Description),
	}
	if s.Progress != nil {
		b.Percent = *s.Progress
	}
	switch s.State {
	case api.SnapshotStateInQueue:
		b.State = bake.SnapshotPending
	case api.SnapshotStateDeleting:
		b.State, b.Reason = bake.SnapshotError, "it is being deleted"
	}
	return b
}

// FindSnapshots lists the account's snapshots of a volume that are not being deleted.
func (c *Cloud) FindSnapshots(ctx context.Context, id bake.VolumeID) ([]bake.SnapshotID, error) {
	all, err := c.readSnapshots(ctx, &api.FiltersSnapshot{
		VolumeIds: &[]string{string(id)}, AccountIds: &[]string{c.client.account},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot find the snapshots of volume %s: %w", id, err)
	}
	var found []bake.SnapshotID
	for _, s := range all {
		if s.VolumeId == string(id) && s.SnapshotId != "" && s.State != api.SnapshotStateDeleting {
			found = append(found, bake.SnapshotID(s.SnapshotId))
		}
	}
	return found, nil
}

// DeleteSnapshot removes a snapshot. Shortly after its image was removed the API may refuse that,
// and the call is repeated.
func (c *Cloud) DeleteSnapshot(ctx context.Context, id bake.SnapshotID) error {
	err := c.client.do(ctx, string(deleteSnapshot), func(ctx context.Context) error {
		_, err := deleteSnapshot.once(ctx, c.client, api.DeleteSnapshotRequest{SnapshotId: string(id)})
		if isRefusal(err, (*refusal).unsettled) {
			return c.whyNotDeletedSnapshot(ctx, id, err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot delete snapshot %s: %w", id, err)
	}
	return nil
}

// whyNotDeletedSnapshot reads a snapshot after its deletion was refused. If an image uses it, the
// refusal is final.
func (c *Cloud) whyNotDeletedSnapshot(ctx context.Context, id bake.SnapshotID, refused error) error {
	_, err := c.Snapshot(ctx, id)
	switch {
	case errors.Is(err, bake.ErrNotFound):
		return nil
	case isRefusal(refused, (*refusal).notFound):
		return unsettledIf(refused, (*refusal).unsettled)
	}
	images, err := c.FindImages(ctx, id)
	if err != nil {
		return errors.Join(refused, err)
	}
	if len(images) > 0 {
		return fmt.Errorf("image %s uses it: %w", images[0], refused)
	}
	return unsettledIf(refused, (*refusal).conflict)
}
