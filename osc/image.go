package osc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// hvm is the virtualization of every Outscale image; the API does not tell of it.
const hvm = "hvm"

// Image reads an image.
func (c *Cloud) Image(ctx context.Context, id bake.ImageID) (bake.Image, error) {
	got, err := c.readImage(ctx, string(id))
	if err != nil {
		return bake.Image{}, err
	}
	return imageOf(got), nil
}

func (c *Cloud) readImage(ctx context.Context, id string) (api.Image, error) {
	all, err := c.readImages(ctx, &api.FiltersImage{ImageIds: &[]string{id}})
	if err != nil {
		return api.Image{}, fmt.Errorf("cannot read image %s: %w", id, err)
	}
	all = slices.DeleteFunc(all, func(i api.Image) bool { return i.ImageId != id })
	switch len(all) {
	case 0:
		return api.Image{}, fmt.Errorf("image %s: %w", id, bake.ErrNotFound)
	case 1:
		return all[0], nil
	}
	return api.Image{}, fmt.Errorf("%d images answer to the id %s, not one", len(all), id)
}

func (c *Cloud) readImages(ctx context.Context, f *api.FiltersImage) ([]api.Image, error) {
	return pages(string(readImages), func(token *string) (*[]api.Image, *string, error) {
		got, err := readImages.call(ctx, c.client, api.ReadImagesRequest{Filters: f, NextPageToken: token, ResultsPerPage: &pageSize})
		if err != nil {
			return nil, nil, err
		}
		return got.Images, got.NextPageToken, nil
	})
}

// Named lists the account's images that have the name.
func (c *Cloud) Named(ctx context.Context, name string) ([]bake.ImageID, error) {
	all, err := c.readImages(ctx, &api.FiltersImage{
		ImageNames: &[]string{name}, AccountIds: &[]string{c.client.account},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot find out which images are named %q: %w", name, err)
	}
	var named []bake.ImageID
	for _, i := range all {
		// The filter takes * for any characters, so it may find others too.
		if value(i.ImageName) == name && i.AccountId == c.client.account && i.ImageId != "" {
			named = append(named, bake.ImageID(i.ImageId))
		}
	}
	return named, nil
}

// imageOf translates an image. The API's states have the names that bake gives them.
func imageOf(i api.Image) bake.Image {
	img := bake.Image{
		ID:             bake.ImageID(i.ImageId),
		Name:           value(i.ImageName),
		State:          bake.ImageState(i.State),
		Reason:         value(value(i.StateComment).StateMessage),
		Owner:          i.AccountId,
		OwnerName:      value(i.AccountAlias),
		Architecture:   i.Architecture,
		Virtualization: hvm,
		RootDevice:     value(i.RootDeviceName),
		Snapshots:      snapshotsOf(i),
		Tags:           tagsOf(i.Tags),
	}
	if !i.CreationDate.IsZero() {
		img.Created, img.Begun = i.CreationDate.String(), i.CreationDate.Time
	}
	if m := rootMapping(i); m != nil {
		bsu := value(m.Bsu)
		img.RootDevice = value(m.DeviceName)
		img.Root = bake.RootVolume{
			Snapshot: bake.SnapshotID(value(bsu.SnapshotId)),
			SizeGiB:  int64(value(bsu.VolumeSize)),
			Type:     string(value(bsu.VolumeType)),
			IOPS:     int64(value(bsu.Iops)),
		}
	}
	return img
}

// rootMapping is the mapping of the root device, or of the only volume where the
// image does not say which device is its root.
func rootMapping(i api.Image) *api.BlockDeviceMappingImage {
	mappings := value(i.BlockDeviceMappings)
	at := slices.IndexFunc(mappings, func(m api.BlockDeviceMappingImage) bool {
		return value(m.DeviceName) == value(i.RootDeviceName) && m.Bsu != nil
	})
	switch {
	case at >= 0:
		return &mappings[at]
	case value(i.RootDeviceName) == "" && len(mappings) == 1:
		return &mappings[0]
	}
	return nil
}

// mappingSnapshots are the snapshots of a mapping: one or none.
func mappingSnapshots(m api.BlockDeviceMappingImage) []string {
	if id := value(value(m.Bsu).SnapshotId); id != "" {
		return []string{id}
	}
	return nil
}

// snapshotsOf are the snapshots of an image's mappings, the root's first.
func snapshotsOf(i api.Image) []bake.SnapshotID {
	var all []bake.SnapshotID
	add := func(m api.BlockDeviceMappingImage) {
		for _, id := range mappingSnapshots(m) {
			if !slices.Contains(all, bake.SnapshotID(id)) {
				all = append(all, bake.SnapshotID(id))
			}
		}
	}
	if root := rootMapping(i); root != nil {
		add(*root)
	}
	for _, m := range value(i.BlockDeviceMappings) {
		add(m)
	}
	return all
}

// FindImages lists the account's images that use a snapshot.
func (c *Cloud) FindImages(ctx context.Context, id bake.SnapshotID) ([]bake.ImageID, error) {
	all, err := c.imagesOf(ctx, id)
	if err != nil {
		return nil, err
	}
	var found []bake.ImageID
	for _, i := range all {
		if i.ImageId != "" {
			found = append(found, bake.ImageID(i.ImageId))
		}
	}
	return found, nil
}

func (c *Cloud) imagesOf(ctx context.Context, id bake.SnapshotID) ([]api.Image, error) {
	all, err := c.readImages(ctx, &api.FiltersImage{
		BlockDeviceMappingSnapshotIds: &[]string{string(id)}, AccountIds: &[]string{c.client.account},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot find the images of snapshot %s: %w", id, err)
	}
	return slices.DeleteFunc(all, func(i api.Image) bool {
		return i.AccountId != c.client.account || !slices.Contains(snapshotsOf(i), id)
	}), nil
}

// Deregister removes an image.
func (c *Cloud) Deregister(ctx context.Context, id bake.ImageID) error {
	_, err := deleteImage.call(ctx, c.client, api.DeleteImageRequest{ImageId: string(id)})
	if isRefusal(err, (*refusal).unsettled) {
		err = c.whyNotDeregistered(ctx, id, err)
	}
	if err != nil {
		return fmt.Errorf("cannot deregister image %s: %w", id, err)
	}
	return nil
}

// whyNotDeregistered reads an image after its deletion was refused: it may be gone already, or not
// known to the API's changing calls yet.
func (c *Cloud) whyNotDeregistered(ctx context.Context, id bake.ImageID, refused error) error {
	if _, err := c.readImage(ctx, string(id)); errors.Is(err, bake.ErrNotFound) {
		return nil
	}
	return unsettledIf(refused, (*refusal).unsettled)
}
