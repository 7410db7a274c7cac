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

// Source reads the image to start from, and makes sure that a volume can be made
// of it.
func (c *Cloud) Source(ctx context.Context) (bake.Image, error) {
	id := c.opt.SourceOMI
	found, err := c.readImage(ctx, id)
	if errors.Is(err, bake.ErrNotFound) {
		return bake.Image{}, fmt.Errorf("source_omi %s is no image in region %s that account %s can use: %w",
			id, c.opt.Region, c.client.account, err)
	}
	if err != nil {
		return bake.Image{}, fmt.Errorf("source_omi: %w", err)
	}
	img := image(found)
	if err := c.checkSource(ctx, img); err != nil {
		return bake.Image{}, fmt.Errorf("source_omi %s cannot be started from: %w", id, err)
	}
	c.mu.Lock()
	c.source = &found
	c.mu.Unlock()
	return img, nil
}

func (c *Cloud) checkSource(ctx context.Context, img bake.Image) error {
	switch {
	case img.State != bake.ImageAvailable:
		return fmt.Errorf("it is %s, not available", img.State)
	case c.opt.VirtualizationType != "" && c.opt.VirtualizationType != img.Virtualization:
		return fmt.Errorf("its virtualization type is %s, but omi_virtualization_type is %s",
			img.Virtualization, c.opt.VirtualizationType)
	case img.Root.Snapshot == "":
		return fmt.Errorf("its root device %s has no snapshot", img.RootDevice)
	case img.Owner == c.client.account:
		return nil
	}
	// To share an image is not to share its snapshot.
	if _, err := c.Snapshot(ctx, img.Root.Snapshot); errors.Is(err, bake.ErrNotFound) {
		return fmt.Errorf("it belongs to account %s, which does not share its snapshot %s with account %s: "+
			"copy the image into your account (CreateImage with SourceImageId), and start from the copy: %w",
			img.Owner, img.Root.Snapshot, c.client.account, err)
	} else if err != nil {
		return err
	}
	return nil
}

// CheckName fails when the account has an image of this name.
func (c *Cloud) CheckName(ctx context.Context, name string) error {
	all, err := c.readImages(ctx, &api.FiltersImage{
		ImageNames: &[]string{name}, AccountIds: &[]string{c.client.account},
	})
	if err != nil {
		return fmt.Errorf("cannot find out whether omi_name %q is free: %w", name, err)
	}
	for _, i := range all {
		if value(i.ImageName) == name && i.AccountId == c.client.account {
			return fmt.Errorf("omi_name %q is in use: it is the name of image %s", name, i.ImageId)
		}
	}
	return nil
}

// Image reads an image.
func (c *Cloud) Image(ctx context.Context, id bake.ImageID) (bake.Image, error) {
	got, err := c.readImage(ctx, string(id))
	if err != nil {
		return bake.Image{}, err
	}
	return image(got), nil
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
	return pages(func(token *string) (*[]api.Image, *string, error) {
		got, err := readImages.call(ctx, c.client, api.ReadImagesRequest{Filters: f, NextPageToken: token})
		if err != nil {
			return nil, nil, err
		}
		return got.Images, got.NextPageToken, nil
	})
}

// image translates an image. The API's states have the names that bake gives them.
func image(i api.Image) bake.Image {
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
		Tags:           tagMap(i.Tags),
	}
	if !i.CreationDate.IsZero() {
		img.Created = i.CreationDate.String()
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

// FindImages lists the account's images that use a snapshot.
func (c *Cloud) FindImages(ctx context.Context, id bake.SnapshotID) ([]bake.ImageID, error) {
	all, err := c.imagesOf(ctx, id)
	if err != nil {
		return nil, err
	}
	var found []bake.ImageID
	for _, i := range all {
		found = append(found, bake.ImageID(i.ImageId))
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
	return all, nil
}

// Deregister removes an image.
func (c *Cloud) Deregister(ctx context.Context, id bake.ImageID) error {
	_, err := deleteImage.call(ctx, c.client, api.DeleteImageRequest{ImageId: string(id)})
	if err != nil && !is(err, (*refusal).notFound) {
		return fmt.Errorf("cannot deregister image %s: %w", id, err)
	}
	return nil
}

// imageKey names the one image that a specification asks for.
type imageKey struct {
	snapshot bake.SnapshotID
	name     string
}

// Register asks for an image of the snapshot. CreateImage takes no client token,
// so before it is made a second time the image is looked for.
func (c *Cloud) Register(ctx context.Context, spec bake.ImageSpec) (bake.ImageID, error) {
	req, err := c.imageRequest(ctx, spec)
	if err != nil {
		return "", fmt.Errorf("cannot register image %q: %w", spec.Name, err)
	}
	var id string
	err = c.client.retry.do(ctx, func(ctx context.Context) (err error) {
		id, err = c.registerOnce(ctx, imageKey{spec.Snapshot, spec.Name}, req)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("cannot register image %q of snapshot %s: %w", spec.Name, spec.Snapshot, err)
	}
	if err := c.tag(ctx, id, spec.Tags); err != nil {
		return "", err
	}
	return bake.ImageID(id), nil
}

func (c *Cloud) registerOnce(ctx context.Context, key imageKey, req api.CreateImageRequest) (string, error) {
	if c.begin(key) {
		id, err := c.registered(ctx, key)
		if id != "" || err != nil {
			return id, err
		}
	}
	got, err := createImage.once(ctx, c.client, req)
	if err != nil {
		return "", err
	}
	if got.Image == nil || got.Image.ImageId == "" {
		return "", errors.New("CreateImage answers no image id")
	}
	return got.Image.ImageId, nil
}

// begin notes that CreateImage is about to be called, and tells whether it has
// been before.
func (c *Cloud) begin(key imageKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.registering[key]
	c.registering[key] = true
	return before
}

// registered looks for the image that an earlier CreateImage may have made.
func (c *Cloud) registered(ctx context.Context, key imageKey) (string, error) {
	all, err := c.imagesOf(ctx, key.snapshot)
	if err != nil {
		return "", err
	}
	for _, i := range all {
		if value(i.ImageName) == key.name {
			return i.ImageId, nil
		}
	}
	return "", nil
}

// imageRequest says all of the image: what the build knows, what the user wants
// of its block devices, and what is inherited from the source.
func (c *Cloud) imageRequest(ctx context.Context, spec bake.ImageSpec) (api.CreateImageRequest, error) {
	root := rootDevice
	req := api.CreateImageRequest{
		ImageName:      optional(spec.Name),
		Description:    optional(spec.Description),
		RootDeviceName: &root,
	}
	var inherited []api.BlockDeviceMappingImage
	if spec.Source != nil {
		source, err := c.sourceImage(ctx, spec.Source.ID)
		if err != nil {
			return req, err
		}
		req.Architecture = optional(source.Architecture)
		req.BootModes = optionalSlice(source.BootModes)
		req.ProductCodes = optionalSlice(value(source.ProductCodes))
		req.TpmMandatory = source.TpmMandatory
		inherited = dataMappings(source)
	}
	if name := c.opt.RootDeviceName; name != "" && name != rootDevice {
		c.opt.log("Outscale calls the root device of every image %s: root_device_name %s stands for it", rootDevice, name)
	}
	mappings := c.merge(spec, inherited)
	req.BlockDeviceMappings = &mappings
	return req, nil
}

// sourceImage is the source with all its fields, as Source read it.
func (c *Cloud) sourceImage(ctx context.Context, id bake.ImageID) (api.Image, error) {
	c.mu.Lock()
	kept := c.source
	c.mu.Unlock()
	if kept != nil && kept.ImageId == string(id) {
		return *kept, nil
	}
	return c.readImage(ctx, string(id))
}

func optionalSlice[T any](s []T) *[]T {
	if len(s) == 0 {
		return nil
	}
	return &s
}

// dataMappings are an image's mappings without that of its root, as they can be
// asked for again: an image may tell the speed of a gp2 volume, which CreateImage
// takes of io1 only.
func dataMappings(i api.Image) []api.BlockDeviceMappingImage {
	root := rootMapping(i)
	var data []api.BlockDeviceMappingImage
	for _, m := range value(i.BlockDeviceMappings) {
		if root != nil && value(m.DeviceName) == value(root.DeviceName) {
			continue
		}
		if m.Bsu != nil && value(m.Bsu.VolumeType) != io1 {
			bsu := *m.Bsu
			bsu.Iops = nil
			m.Bsu = &bsu
		}
		data = append(data, m)
	}
	return data
}

// merge lays the user's mappings over the inherited ones, after that of the root.
func (c *Cloud) merge(spec bake.ImageSpec, inherited []api.BlockDeviceMappingImage) []api.BlockDeviceMappingImage {
	root := rootVolume(spec)
	data := slices.Clone(inherited)
	for _, m := range c.opt.Mappings {
		name := c.opt.imageDevice(m.DeviceName)
		if name == rootDevice {
			root = m.overRoot(root)
			continue
		}
		data = slices.DeleteFunc(data, func(have api.BlockDeviceMappingImage) bool {
			return sameDevice(value(have.DeviceName), name)
		})
		if !m.NoDevice {
			data = append(data, m.request(name))
		}
	}
	return append([]api.BlockDeviceMappingImage{root.request(rootDevice)}, data...)
}

// rootVolume is the mapping of the root device as the build knows it.
func rootVolume(spec bake.ImageSpec) Mapping {
	m := Mapping{
		SnapshotID:         string(spec.Snapshot),
		VolumeSizeGiB:      spec.SizeGiB,
		VolumeType:         spec.VolumeType,
		DeleteOnVMDeletion: true,
	}
	if spec.Source != nil && spec.Source.Root.Type == m.VolumeType {
		m.IOPS = spec.Source.Root.IOPS
	}
	return m
}

// overRoot lays what the user says of the root device over what the build knows.
// The snapshot stays the build's, and the size at least its volume's.
func (m Mapping) overRoot(root Mapping) Mapping {
	if m.VolumeType != "" && m.VolumeType != root.VolumeType {
		root.VolumeType, root.IOPS = m.VolumeType, 0
	}
	if m.IOPS != 0 {
		root.IOPS = m.IOPS
	}
	root.VolumeSizeGiB = max(root.VolumeSizeGiB, m.VolumeSizeGiB)
	root.DeleteOnVMDeletion = m.DeleteOnVMDeletion
	return root
}

// request is the mapping in the API's form, under the API's name of the device.
func (m Mapping) request(device string) api.BlockDeviceMappingImage {
	req := api.BlockDeviceMappingImage{DeviceName: &device}
	if m.VirtualName != "" {
		req.VirtualDeviceName = &m.VirtualName
		return req
	}
	req.Bsu = &api.BsuToCreate{
		SnapshotId:         optional(m.SnapshotID),
		VolumeSize:         optional(int(m.VolumeSizeGiB)),
		VolumeType:         optional(api.VolumeType(m.VolumeType)),
		DeleteOnVmDeletion: &m.DeleteOnVMDeletion,
	}
	if m.VolumeType == io1 {
		req.Bsu.Iops = optional(int(m.IOPS))
	}
	return req
}
