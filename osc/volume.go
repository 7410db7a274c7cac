package osc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// CreateVolume creates a volume. The API cannot tag a volume at its creation. Until it is
// tagged, it is found by its client token, which the API returns with it.
func (c *Cloud) CreateVolume(ctx context.Context, spec bake.VolumeSpec) (bake.VolumeID, error) {
	if spec.Type != io1 {
		spec.IOPS = 0 // an image may have the IOPS of a gp2 volume, which CreateVolume accepts for io1 only
	}
	if err := (wanted{rootPrefix, spec.Type, spec.SizeGiB, spec.IOPS}).check(); err != nil {
		return "", fmt.Errorf("cannot create a volume in %s: %w", spec.Zone, err)
	}
	token := c.clientToken(spec.Build, tokenVolume, []any{spec.Zone, spec.Snapshot, spec.SizeGiB, spec.Type, spec.IOPS})
	got, err := createVolume.call(ctx, c.client, api.CreateVolumeRequest{
		SubregionName: spec.Zone,
		ClientToken:   &token,
		SnapshotId:    optional(string(spec.Snapshot)),
		Size:          optional(int(spec.SizeGiB)),
		VolumeType:    optional(api.VolumeType(spec.Type)),
		Iops:          optional(int(spec.IOPS)),
	})
	if err != nil {
		return "", fmt.Errorf("cannot create a volume in %s: %w", spec.Zone, c.ofCopy(err))
	}
	if got.Volume == nil || got.Volume.VolumeId == "" {
		return "", errors.New("cannot create a volume: CreateVolume answers no volume id")
	}
	return bake.VolumeID(got.Volume.VolumeId), nil
}

// ofCopy marks a refusal to create a volume of a snapshot that was just made: that of a copied
// source.
func (c *Cloud) ofCopy(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.copied) == 0 {
		return err
	}
	return unsettledIf(err, (*refusal).unsettled)
}

// Tag writes tags on a resource. The API accepts none in creating calls, and a new resource is
// tagged only after it was shown to be the build's.
func (c *Cloud) Tag(ctx context.Context, id string, tags map[string]string) error {
	return unsettledIf(c.tag(ctx, id, tags), (*refusal).unsettled)
}

// optional is nil for a zero value, which the API is not to be sent.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// Volume reads a volume.
func (c *Cloud) Volume(ctx context.Context, id bake.VolumeID) (bake.Volume, error) {
	all, err := c.readVolumes(ctx, &api.FiltersVolume{VolumeIds: &[]string{string(id)}})
	if err != nil {
		return bake.Volume{}, fmt.Errorf("cannot read volume %s: %w", id, err)
	}
	for _, v := range all {
		if v.VolumeId != string(id) {
			continue
		}
		b := volumeOf(v)
		b.Build, err = c.builder(ctx, v)
		return b, err
	}
	return bake.Volume{}, fmt.Errorf("volume %s: %w", id, bake.ErrNotFound)
}

// builder returns the build that a volume names by its tag or its client token. A cloud that does
// not show client tokens is asked for the volumes that have them.
func (c *Cloud) builder(ctx context.Context, v api.Volume) (bake.BuildID, error) {
	if build := tagsOf(v.Tags)[bake.BuildTag]; build != "" {
		return bake.BuildID(build), nil
	}
	for _, build := range c.buildsOf(tokenVolume) {
		tokens := buildTokens(build, tokenVolume)
		if slices.Contains(tokens, value(v.ClientToken)) {
			return build, nil
		}
		if value(v.ClientToken) != "" {
			continue
		}
		found, err := c.readVolumes(ctx, &api.FiltersVolume{ClientTokens: &tokens, VolumeIds: &[]string{v.VolumeId}})
		if err != nil {
			return "", fmt.Errorf("cannot tell whether build %s has created volume %s: %w", build, v.VolumeId, err)
		}
		if slices.ContainsFunc(found, func(f api.Volume) bool { return f.VolumeId == v.VolumeId }) {
			return build, nil
		}
	}
	return "", nil
}

func (c *Cloud) readVolumes(ctx context.Context, f *api.FiltersVolume) ([]api.Volume, error) {
	return pages(string(readVolumes), func(token *string) (*[]api.Volume, *string, error) {
		got, err := readVolumes.call(ctx, c.client, api.ReadVolumesRequest{Filters: f, NextPageToken: token, ResultsPerPage: &pageSize})
		if err != nil {
			return nil, nil, err
		}
		return got.Volumes, got.NextPageToken, nil
	})
}

// volumeOf translates a volume. The API's states have the names that bake gives them.
func volumeOf(v api.Volume) bake.Volume {
	b := bake.Volume{
		ID:       bake.VolumeID(v.VolumeId),
		State:    bake.VolumeState(v.State),
		SizeGiB:  int64(v.Size),
		Snapshot: bake.SnapshotID(value(v.SnapshotId)),
		Zone:     v.SubregionName,
		Created:  v.CreationDate.Time,
		Attach:   bake.Detached,
	}
	for _, l := range v.LinkedVolumes {
		if l.State == api.LinkedVolumeStateDetached || l.State == "" && l.VmId == "" {
			continue
		}
		b.Attach = bake.AttachState(cmp.Or(l.State, "linked"))
		b.Host = bake.HostID(l.VmId)
		b.Device = bake.DeviceName(l.DeviceName)
	}
	return b
}

// FindVolumes lists the build's volumes that are not being deleted: those with one
// of its client tokens, which it may have been killed before it could tag, and
// those with its tag. Filters of one request must all hold: it takes two.
func (c *Cloud) FindVolumes(ctx context.Context, build bake.BuildID) ([]bake.VolumeID, error) {
	c.remember(build, tokenVolume)
	tokens := buildTokens(build, tokenVolume)
	var found []bake.VolumeID
	for _, filter := range []api.FiltersVolume{
		{ClientTokens: &tokens},
		{Tags: &[]string{bake.BuildTag + "=" + string(build)}},
	} {
		all, err := c.readVolumes(ctx, &filter)
		if err != nil {
			return nil, fmt.Errorf("cannot find the volumes of build %s: %w", build, err)
		}
		for _, v := range all {
			id := bake.VolumeID(v.VolumeId)
			if id != "" && v.State != api.VolumeStateDeleting && madeBy(v, build, tokens) && !slices.Contains(found, id) {
				found = append(found, id)
			}
		}
	}
	return found, nil
}

// madeBy reports whether a volume says that the build has made it, which is more than to
// be in the answer to that question.
func madeBy(v api.Volume, build bake.BuildID, tokens []string) bool {
	return tagsOf(v.Tags)[bake.BuildTag] == string(build) || slices.Contains(tokens, value(v.ClientToken))
}

// DeleteVolume removes a volume.
func (c *Cloud) DeleteVolume(ctx context.Context, id bake.VolumeID) error {
	err := c.client.do(ctx, string(deleteVolume), func(ctx context.Context) error {
		_, err := deleteVolume.once(ctx, c.client, api.DeleteVolumeRequest{VolumeId: string(id)})
		if !isRefusal(err, (*refusal).unsettled) {
			return err
		}
		return c.whyNotDeleted(ctx, id, err)
	})
	if err != nil {
		return fmt.Errorf("cannot delete volume %s: %w", id, err)
	}
	return nil
}

// whyNotDeleted reads a volume after its deletion was refused: it may be gone already, still being
// detached, or not known to the API's changing calls yet.
func (c *Cloud) whyNotDeleted(ctx context.Context, id bake.VolumeID, refused error) error {
	v, err := c.Volume(ctx, id)
	switch {
	case errors.Is(err, bake.ErrNotFound), err == nil && v.State == bake.VolumeDeleting:
		return nil
	case err == nil && v.Attach != bake.Attached && v.Attach != bake.Attaching && v.State != bake.VolumeError,
		err == nil && isRefusal(refused, (*refusal).notFound):
		return bake.Unsettled(refused)
	}
	return refused
}

// Attach asks for a volume to be linked to the host.
func (c *Cloud) Attach(ctx context.Context, id bake.VolumeID, host bake.HostID, device bake.DeviceName) error {
	err := c.client.do(ctx, string(linkVolume), func(ctx context.Context) error {
		_, err := linkVolume.once(ctx, c.client, api.LinkVolumeRequest{
			VolumeId: string(id), VmId: string(host), DeviceName: string(device),
		})
		if isRefusal(err, (*refusal).wrongRequest) {
			return c.whyNotLinked(ctx, id, host, device, err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot attach volume %s to %s as %s: %w", id, host, device, err)
	}
	return nil
}

// whyNotLinked looks at volume and host when linking was refused, for the codes
// of the refusals are not told apart by the API's reference: an earlier try may
// have done it, the device name may be taken, or it may be too early.
func (c *Cloud) whyNotLinked(
	ctx context.Context, id bake.VolumeID, host bake.HostID, device bake.DeviceName, refused error,
) error {
	v, err := c.Volume(ctx, id)
	if err != nil {
		return errors.Join(refused, err)
	}
	linking := v.Attach == bake.Attaching || v.Attach == bake.Attached
	switch {
	case linking && v.Host == host && v.Device == device:
		return nil
	case v.State == bake.VolumeCreating, isRefusal(refused, (*refusal).notFound) && !isRefusal(refused, (*refusal).noVM):
		return bake.Unsettled(refused)
	case v.Attach != bake.Detached:
		return refused
	}
	vm, err := c.readVM(ctx, string(host))
	if err != nil {
		return errors.Join(refused, err)
	}
	for _, m := range vm.BlockDeviceMappings {
		if sameDevice(m.DeviceName, string(device)) {
			return fmt.Errorf("%w, by volume %s: %w", bake.ErrDeviceTaken, m.Bsu.VolumeId, refused)
		}
	}
	switch {
	case vm.State == api.VmStatePending:
		return bake.Unsettled(refused)
	case vm.State == api.VmStateRunning && isRefusal(refused, (*refusal).conflict):
		// The volume is free and the VM runs, as far as they are shown: the VM's mappings may
		// lag behind another build's, or the call may not know that the volume is available.
		return fmt.Errorf("%w: %w", bake.ErrDeviceTaken, bake.Unsettled(refused))
	}
	return refused
}

// Detach asks for a volume to be unlinked from the host.
func (c *Cloud) Detach(ctx context.Context, id bake.VolumeID, host bake.HostID) error {
	err := c.client.do(ctx, string(unlinkVolume), func(ctx context.Context) error {
		_, err := unlinkVolume.once(ctx, c.client, api.UnlinkVolumeRequest{VolumeId: string(id)})
		if isRefusal(err, (*refusal).wrongRequest) {
			return c.whyNotUnlinked(ctx, id, host, err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot detach volume %s from %s: %w", id, host, err)
	}
	return nil
}

// whyNotUnlinked reads a volume after its detaching was refused: it may be detached already, or
// not attached to the host.
func (c *Cloud) whyNotUnlinked(ctx context.Context, id bake.VolumeID, host bake.HostID, refused error) error {
	v, err := c.Volume(ctx, id)
	switch {
	case errors.Is(err, bake.ErrNotFound):
		return nil
	case err != nil:
		return errors.Join(refused, err)
	case v.Attach == bake.Detached, v.Attach == bake.Detaching, v.Host != host:
		return nil
	case v.Attach == bake.Attaching, isRefusal(refused, (*refusal).unsettled):
		return bake.Unsettled(refused)
	}
	return refused
}
